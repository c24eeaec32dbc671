"""BraTS: one folder per examination, with its four contrasts and its segmentation."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.data.cases import Case
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import (
    DatasetListing,
    LayoutOptions,
    check_unique_ids,
    choose_modalities,
    kinds_of,
    partner_problem,
)

_FILE = re.compile(r"(.+?)[_-](t1ce|t1c|t1n|t1|t2w|t2f|t2|flair|seg)\.nii(\.gz)?", re.IGNORECASE)
_OLD, _NEW = ("t1", "t1ce", "t2", "flair"), ("t1n", "t1c", "t2w", "t2f")
_MOST_CONTRASTS = 3
_PATIENT = re.compile(r"(.*-\d{5})-\d{3}")


class BratsLayout:
    """``<case>/<case>_t1.nii.gz`` … ``_seg.nii.gz`` (2017–2021), or ``-t1n`` … ``-seg`` (from 2023 on).

    The folders may be at any depth below the root. The enhancing tumor has the value 4 until 2021, then 3.
    """

    name = "BraTS"

    def holds(self, root: Path) -> bool:
        if not root.is_dir():
            return False
        folders = sorted(p for p in root.iterdir() if p.is_dir())[:3]
        folders += [p for f in folders for p in sorted(f.iterdir())[:3] if p.is_dir()]
        return any(_is_examination(folder) for folder in folders)

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        groups = {
            folder.name: files
            for folder in sorted(p for p in root.rglob("*") if p.is_dir())
            if (files := _contrasts(folder))
        }
        segmentations = {name: files.pop("seg") for name, files in groups.items() if "seg" in files}
        images = choose_modalities(groups, choice, usual=(*_OLD, *_NEW))
        cases = [
            Case(
                name,
                files[0],
                segmentations.get(name),
                None,
                files[1:],
                patient=_patient(name),
                channel_names=kinds_of(files, groups[name]),
            )
            for name, files in images.items()
        ]
        check_unique_ids(cases)
        problems = [
            partner_problem(
                case.id, f"{case.image.parent} contains no segmentation", "download it, or remove the folder"
            )
            for case in cases
            if case.label is None
        ]
        new = any(kind in _NEW for files in groups.values() for kind in files)
        labels = LabelSchema(
            names={
                "background": (0,),
                "necrotic_core": (1,),
                "oedema": (2,),
                "enhancing_tumor": (3 if new else 4,),
            }
        )
        return DatasetListing(self.name, cases, problems, labels)


def _is_examination(folder: Path) -> bool:
    """Whether a folder holds contrasts with a segmentation, or most of the four under the folder's name."""
    files = _contrasts(folder)
    kinds = files.keys() & {*_OLD, *_NEW}
    named = [kind for kind in kinds if files[kind].name.startswith(folder.name)]
    return bool(kinds) and ("seg" in files or len(named) >= _MOST_CONTRASTS)


def _contrasts(folder: Path) -> dict[str, Path]:
    found = {p: _FILE.fullmatch(p.name) for p in sorted(folder.iterdir()) if p.is_file()}
    return {m[2].lower(): p for p, m in found.items() if m is not None}


def _patient(name: str) -> str:
    """Return the patient of a case: ``BraTS-GLI-00005-100`` is an examination of ``BraTS-GLI-00005``."""
    found = _PATIENT.fullmatch(name)
    return found[1] if found else name
