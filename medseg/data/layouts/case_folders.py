"""A folder for each case, with a folder of its image and one of the files of its objects."""

from __future__ import annotations

from pathlib import Path

from medseg.data.cases import Case, list_images
from medseg.data.io.readers import image_stem
from medseg.data.layouts.discovery import DatasetListing, LayoutOptions, check_unique_ids, partner_problem
from medseg.errors import Finding


class CaseFoldersLayout:
    """``CASE/images/IMAGE`` and ``CASE/masks/``, with a file for each object: Data Science Bowl 2018."""

    name = "CASE/images/ and CASE/masks/"

    def holds(self, root: Path) -> bool:
        return root.is_dir() and bool(_case_folders(root))

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        cases: list[Case] = []
        problems: list[Finding] = []
        for folder in _case_folders(root):
            images = list_images(folder / "images")
            if len(images) != 1:
                message = f"{folder / 'images'} holds {len(images)} images, expected 1"
                problems.append(partner_problem(folder.name, message, "keep one image in each folder"))
                continue
            masks = {image_stem(path): path for path in list_images(folder / "masks")}
            if not masks:
                message = f"{folder / 'masks'} holds no file of an object"
                problems.append(partner_problem(folder.name, message, "add the files, or remove the folder"))
                continue
            cases.append(Case(folder.name, images[0], masks=masks))
        check_unique_ids(cases)
        return DatasetListing(self.name, cases, problems)


def _case_folders(root: Path) -> list[Path]:
    """Return the folders with ``images/`` and ``masks/``; none if they are the parts of a split."""
    found = [
        path for path in sorted(root.iterdir()) if (path / "images").is_dir() and (path / "masks").is_dir()
    ]
    return [] if any(len(list_images(path / "images")) > 1 for path in found[:8]) else found
