"""Which scans a command is given: files, folders in any layout, or the cases of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from medseg.data.cases import Case, join_problems
from medseg.data.dicom import holds_dicom
from medseg.data.layouts import NO_CHOICE, FoldersLayout, LooseLayout, channel_groups, find_dataset, layout_of
from medseg.data.readers import is_image_file, is_zarr, split_mark, stem_of
from medseg.errors import DataError


def find_inputs(inputs: list[Path]) -> list[Case]:
    """The scans among files and folders (searched below, too); a folder's ``images/`` stands for it.

    Files of a folder that are all named ``<case>_0000``, ``<case>_0001``… are the channels of one case; the
    folders of BraTS, BIDS, nnU-Net and the other layouts with several channels, and manifests, are known.
    Raises: DataError if one is not there, none is found, or two would share a name.
    """
    cases = [case for given in inputs for case in _cases_in(given)]
    cases = list({case.images: case for case in cases}.values())  # what is given twice is one
    by_id: dict[str, list[Path]] = {}
    for case in cases:
        by_id.setdefault(case.id, []).append(case.image)
    doubles = [f"{i}: {', '.join(map(str, paths))}" for i, paths in by_id.items() if len(paths) > 1]
    if doubles:
        raise DataError(join_problems("inputs whose outputs would share a name", doubles))
    return cases


def _cases_in(given: Path) -> list[Case]:
    if given.suffix.lower() in (".csv", ".json"):
        return find_dataset(given).cases
    if is_zarr(given):
        return [Case(stem_of(given), given)]
    if not given.is_dir():
        if not split_mark(given)[0].exists():
            raise DataError(f"{given}: no such file or folder")
        return [Case(stem_of(given), given)]
    layout = layout_of(given)
    if layout is not None and not isinstance(layout, FoldersLayout | LooseLayout):
        return layout.find(given, NO_CHOICE).cases
    root = given / "images" if (given / "images").is_dir() else given
    if holds_dicom(root):
        return [Case(root.name if root == given else given.name, root)]
    series = {p for p in root.rglob("*") if p.is_dir() and not is_zarr(p.parent) and is_image_file(p)}
    loose = {p for p in root.rglob("*") if p.is_file() and is_image_file(p) and p.parent not in series}
    if not series | loose:
        raise DataError(f"{given}: no image files in this folder")
    groups = channel_groups(sorted(series | loose), [])
    return [Case(name, files[0], other_channels=files[1:]) for name, files in groups.items()]


def with_foregrounds(cases: list[Case], folder: Path) -> list[Case]:
    """The cases, each with its mask of the foreground, a file of the folder with the case's name.

    Raises: DataError if the folder is not there or lacks one.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of foreground masks")
    files = {stem_of(path): path for path in sorted(folder.iterdir()) if is_image_file(path)}
    missing = [f"{case.id}: no {case.id}.nii.gz or the like" for case in cases if case.id not in files]
    if missing:
        raise DataError(join_problems(f"{folder}: cases without a foreground mask", missing))
    return [replace(case, foreground=files[case.id]) for case in cases]


def run_cases(run: Path, part: str) -> list[Case]:
    """The cases of one part (``train``, ``val`` or ``test``) of a run, as its ``cases.json`` records them.

    Raises: DataError if the run has no such record or the part is empty.
    """
    record = Path(run) / "cases.json"
    if not record.is_file():
        raise DataError(f"{run}: --cases needs a run folder with cases.json; give input files instead")
    entries = [e for e in json.loads(record.read_text(encoding="utf-8")) if e["part"] == part]
    if not entries:
        raise DataError(f"{record}: the run has no {part} cases")
    return [
        Case(
            e["id"],
            Path(e["image"]),
            Path(e["label"]) if e["label"] else None,
            other_channels=tuple(Path(p) for p in e.get("other_channels", [])),
            masks={name: Path(p) for name, p in e.get("masks", {}).items()},
        )
        for e in entries
    ]
