"""BIDS: images in ``sub-*/``, label maps in ``derivatives/``."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from medseg.data.cases import Case
from medseg.data.io.readers import image_stem, is_image_file
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import (
    DatasetListing,
    LayoutOptions,
    choose_modalities,
    kinds_of,
    partner_problem,
)
from medseg.errors import DataError, Finding

_MAPS = ("dseg", "mask", "probseg")
_SAME = ("sub", "ses", "run", "acq")
"""Entities that must be equal in the names of an image and its label map, if both names have them."""


class BidsLayout:
    """``sub-<label>/[ses-<label>/]<datatype>/sub-…_<suffix>.nii.gz``, and label maps in ``derivatives/``.

    A case is the images of one session, with a label map ``dseg`` or ``mask`` of a derivative.
    ``data.modalities`` chooses the suffixes that are its channels. A patient is a subject.
    """

    name = "BIDS"

    def holds(self, root: Path) -> bool:
        return root.is_dir() and (root / "derivatives").is_dir() and any(root.glob("sub-*"))

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        groups: dict[str, dict[str, Path]] = {}
        for path in sorted(p for s in root.glob("sub-*") for p in s.rglob("*") if is_image_file(p)):
            entities, suffix = _entities(path)
            groups.setdefault(_case_id(entities), {})[suffix] = path
        images = choose_modalities(groups, choice)
        maps = _label_maps(root / "derivatives", choice.label_suffix)
        entities = {path: _entities(path)[0] for path in maps}
        by_subject: dict[str | None, list[Path]] = defaultdict(list)
        for path, own in entities.items():
            by_subject[own.get("sub")].append(path)
        cases: list[Case] = []
        problems: list[Finding] = []
        for name, files in images.items():
            own = _entities(files[0])[0]
            found = [p for p in by_subject[own.get("sub")] if _is_same_examination(entities[p], own)]
            cases.append(
                Case(
                    name,
                    files[0],
                    found[0] if len(found) == 1 else None,
                    None,
                    files[1:],
                    patient=_subject(name),
                    channel_names=kinds_of(files, groups[name]),
                )
            )
            if len(found) != 1:
                names = ", ".join(str(p.relative_to(root)) for p in found) or "none"
                message = f"{files[0].name} has {len(found)} label maps in derivatives/, expected 1: {names}"
                hint = "choose one with data.label_suffix, the end of its name (such as _label-lesion_dseg)"
                problems.append(partner_problem(name, message, hint))
        return DatasetListing(self.name, cases, problems, _labels(root / "derivatives"))


def _entities(path: Path) -> tuple[dict[str, str], str]:
    """Split a name into entities and suffix: ``sub-01_ses-2_T1w`` → ({sub: 01, ses: 2}, T1w)."""
    *pairs, suffix = image_stem(path).split("_")
    return dict(pair.split("-", 1) for pair in pairs if "-" in pair), suffix


def _case_id(entities: dict[str, str]) -> str:
    return "_".join(f"{key}-{entities[key]}" for key in _SAME if key in entities)


def _subject(name: str) -> str:
    return name.split("_")[0]


def _label_maps(derivatives: Path, suffix: str | tuple[str, ...] | None) -> list[Path]:
    found = [p for p in derivatives.rglob("*") if p.is_file() and is_image_file(p)]
    if suffix is not None:
        return sorted(p for p in found if image_stem(p).endswith(suffix))
    return sorted(p for p in found if _entities(p)[1] in _MAPS[:2])


def _is_same_examination(label: dict[str, str], image: dict[str, str]) -> bool:
    """Return whether the entities of a label map that identify an examination agree with those of an image."""
    return all(label.get(key, image.get(key)) == image.get(key) for key in _SAME)


def _labels(derivatives: Path) -> LabelSchema | None:
    """Read the labels from a ``dseg.tsv`` with the columns index and name; None without such a file."""
    tables = sorted(derivatives.rglob("*dseg.tsv"))
    if not tables:
        return None
    with tables[0].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    try:
        names = {row["name"]: (int(row["index"]),) for row in rows}
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{tables[0]}: expected the columns index and name ({error})", path=tables[0]
        ) from error
    if (0,) not in names.values():
        names = {"background": (0,), **names}
    return LabelSchema(names=names) if len(names) > 1 else None
