"""Published SAM weights by name: address, hash and preprocessing. Nothing is downloaded unless asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.system.weight_files import CACHE

if TYPE_CHECKING:
    from medseg.sam.pictures import Preprocessing

_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"


@dataclass(frozen=True)
class PublishedSam:
    """Published weights of a SAM.

    Attributes:
        url: public address of the file, in the official layout.
        file: name that the file gets when it is downloaded; it holds the first digits of its SHA-256 if the
            publisher states one.
        about: the data they were trained on, and the license.
        preprocessing: how a picture is prepared for the network.
    """

    url: str
    file: str
    about: str
    preprocessing: Preprocessing

    def path(self, cache: Path | None = None) -> Path:
        """Return the path of the downloaded file; ``cache`` defaults to that of all published weights."""
        return (cache or CACHE).expanduser() / self.file


def _sam(size: str, ending: str, digest: str) -> PublishedSam:
    return PublishedSam(
        f"{_SAM}sam_vit_{size}_{ending}.pth", f"sam_vit_{size}-{digest}.pth", "SA-1B, Apache-2.0", "sam"
    )


def _sam2(size: str, digest: str) -> PublishedSam:
    return PublishedSam(
        f"{_SAM2}sam2.1_hiera_{size}.pt",
        f"sam2.1_hiera_{size}-{digest}.pt",
        "SA-1B and SA-V, Apache-2.0",
        "sam2",
    )


PUBLISHED_SAM: dict[str, PublishedSam] = {
    "sam_vit_b": _sam("b", "01ec64", "ec2df627"),
    "sam_vit_l": _sam("l", "0b3195", "3adcc431"),
    "sam_vit_h": _sam("h", "4b8939", "a7bf3b02"),
    "medsam_vit_b": PublishedSam(
        "https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        "medsam_vit_b.pth",
        "1.5 million medical pictures, boxes only, CC-BY-4.0",
        "medsam",
    ),
    "sam2.1_hiera_tiny": _sam2("tiny", "7402e0d8"),
    "sam2.1_hiera_small": _sam2("small", "6d1aa6f3"),
    "sam2.1_hiera_base_plus": _sam2("base_plus", "a2345aed"),
    "sam2.1_hiera_large": _sam2("large", "2647878d"),
}
"""Sources: github.com/facebookresearch/segment-anything, github.com/facebookresearch/sam2, and for MedSAM
Ma et al. 2024, doi:10.1038/s41467-024-44824-z."""
