"""Which scans a command is given: files, folders in any layout, or the cases of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, join_problems
from medseg.data.io.dicom.series import is_dicom_folder
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import image_stem, is_image_file, is_zarr
from medseg.data.layouts import (
    DEFAULT_LAYOUT,
    FoldersLayout,
    LooseLayout,
    PairsLayout,
    channel_groups,
    find_dataset,
    layout_of,
)
from medseg.data.layouts.folder_names import LABEL_FOLDERS, images_folder
from medseg.data.layouts.label_map_detection import find_label_maps
from medseg.errors import DataError
from medseg.inference.batch.provenance import is_output_folder, read_records

_LABEL_FOLDERS = frozenset(name.lower() for name in LABEL_FOLDERS)


@dataclass(frozen=True)
class Inputs:
    """The cases found, and what folders hold beside them.

    Attributes:
        label_maps: files that look like label maps and were left out.
        results: folders that an inference wrote its results to and that were not searched.
        outside: image files, series and results that lie in a folder whose layout keeps its scans elsewhere.
    """

    cases: list[Case]
    label_maps: tuple[Path, ...] = ()
    results: tuple[Path, ...] = ()
    outside: tuple[Path, ...] = ()

    def describe_left_out(self) -> str | None:
        """What was left out, in one message; none if nothing was."""
        lines: list[str] = []
        if self.label_maps:
            lines.append(
                join_problems("left out, as they look like label maps", [str(p) for p in self.label_maps])
            )
        if self.results:
            lines.append(
                join_problems("left out, as they hold results of medseg", [str(p) for p in self.results])
            )
        lines += ["--all takes them as scans, too"] if lines else []
        if self.outside:
            title = "left out, as they lie outside the images of the folder's layout"
            lines.append(join_problems(title, [str(p) for p in self.outside]))
            lines.append("to segment them, name these files, or the folders that hold them")
        return "\n".join(lines) or None


def find_inputs(inputs: list[Path]) -> list[Case]:
    """The scans among files and folders, as ``search_inputs`` finds them."""
    return search_inputs(inputs).cases


def search_inputs(inputs: list[Path], *, output: Path | None = None, everything: bool = False) -> Inputs:
    """Find the scans among files and folders (searched below, too); a folder's ``images/`` stands for it,
    and what lies beside is listed (except a folder of label maps, such as ``labels/``).

    Files of a folder that are all named ``<case>_0000``, ``<case>_0001``… are the channels of one case; the
    folders of BraTS, BIDS, nnU-Net and the other layouts with several channels, and manifests, are known.
    What lies in ``output`` is no input, unless it is named itself. ``everything`` takes what looks like label
    maps, and the results of other inferences, as scans.
    Raises: DataError if one is not there, none is found, or two would share a name.
    """
    parts = [_search(given, output, everything) for given in inputs]
    found = [case for part in parts for case in part.cases]
    cases = list({case.images: case for case in found}.values())  # what is given twice is one
    by_id: dict[str, list[Path]] = {}
    for case in cases:
        by_id.setdefault(case.id, []).append(case.image)
    doubles = [f"{i}: {', '.join(map(str, paths))}" for i, paths in by_id.items() if len(paths) > 1]
    if doubles:
        raise DataError(join_problems("inputs whose outputs would share a name", doubles))
    taken = {path for case in cases for path in case.images}
    label_maps = dict.fromkeys(path for part in parts for path in part.label_maps if path not in taken)
    results = dict.fromkeys(path for part in parts for path in part.results)
    covered = {path.resolve() for path in (*taken, *label_maps)}
    outside = {p: None for part in parts for p in part.outside if not _is_covered(p, covered)}
    return Inputs(cases, tuple(label_maps), tuple(results), tuple(outside))


def _search(given: Path, output: Path | None, everything: bool) -> Inputs:
    if given.suffix.lower() in (".csv", ".json"):
        return Inputs(find_dataset(given).cases)
    if is_zarr(given):
        return Inputs([Case(image_stem(given), given)])
    if not given.is_dir():
        if not split_selector(given)[0].exists():
            raise DataError(f"{given}: no such file or folder")
        return Inputs([Case(image_stem(given), given)])
    layout = layout_of(given)
    if layout is not None and not isinstance(layout, FoldersLayout | PairsLayout | LooseLayout):
        cases = _outside(layout.find(given, DEFAULT_LAYOUT).cases, given, output)
        return _with_outside(Inputs(cases), given, output, everything)
    root = images_folder(given) or given
    if is_dicom_folder(root):
        return _with_outside(Inputs([Case(given.resolve().name, root)]), given, output, everything)
    found = _search_below(root, output, everything)
    return found if root == given else _with_outside(found, given, output, everything)


def _with_outside(found: Inputs, given: Path, output: Path | None, everything: bool) -> Inputs:
    """What was found in a folder, with what else it holds: image files, series and folders of results."""
    files = [path for case in found.cases for path in (*case.images, *case.label_files, *case.masks.values())]
    covered = {split_selector(path)[0].resolve() for path in (*files, *found.label_maps)}
    series, loose, results = _image_files(given, output, everything)
    outside = [
        path
        for path in sorted({*series, *loose, *results} - {*found.results})
        if not _is_covered(path, covered) and path.relative_to(given).parts[0].lower() not in _LABEL_FOLDERS
    ]
    return replace(found, outside=tuple(outside))


def _is_covered(path: Path, covered: Collection[Path]) -> bool:
    """Whether a file, or the series that it is a slice of, is among ``covered`` (resolved paths)."""
    path = path.resolve()
    return path in covered or (path.parent in covered and path.is_file())


def _search_below(root: Path, output: Path | None, everything: bool) -> Inputs:
    series, loose, results = _image_files(root, output, everything)
    label_maps = [] if everything else find_label_maps(sorted(loose), root)
    images = sorted({*series, *loose} - {*label_maps})
    if not images:
        left = Inputs([], tuple(label_maps), tuple(results)).describe_left_out()
        raise DataError(f"{root}: no image files in this folder" + (f"; {left}" if left else ""))
    groups = channel_groups(images, [])
    cases = [Case(name, files[0], other_channels=files[1:]) for name, files in groups.items()]
    return Inputs(cases, tuple(label_maps), tuple(results))


def _image_files(
    root: Path, output: Path | None, everything: bool
) -> tuple[list[Path], list[Path], list[Path]]:
    """The folders that are one image (series, Zarr), the image files beside them, and the folders of results
    that were not searched, below a folder.
    """
    written = _written(output)
    results: list[Path] = []
    series: list[Path] = []
    loose: list[Path] = []
    for folder, folders, names in _walk(root):
        for name in list(folders):
            path = folder / name
            is_output = output is not None and path.resolve() == output.resolve()
            if is_output or (not everything and is_output_folder(path)):
                results += [] if is_output else [path]
                folders.remove(name)
            elif is_image_file(path):
                series.append(path)
                if is_zarr(path):
                    folders.remove(name)
        if folder not in series:
            loose += [p for p in (folder / name for name in names) if p.is_file() and is_image_file(p)]
    return series, [path for path in loose if not written or path.resolve() not in written], results


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk`` from the top down, with paths."""
    for folder, folders, names in os.walk(root):
        yield Path(folder), folders, names


def _written(output: Path | None) -> frozenset[Path]:
    """The files that records in the output folder name: where it holds inputs, too, they are told apart so."""
    if output is None or not output.is_dir():
        return frozenset()
    return frozenset(path.resolve() for record in read_records(output) for path in record.files)


def _outside(cases: list[Case], root: Path, output: Path | None) -> list[Case]:
    """Without the cases in an output folder that lies below ``root``."""
    if output is None or not output.resolve().is_relative_to(root.resolve()) or output.samefile(root):
        return cases
    return [case for case in cases if not case.image.resolve().is_relative_to(output.resolve())]


def with_foregrounds(cases: list[Case], folder: Path) -> list[Case]:
    """The cases, each with its mask of the foreground, a file of the folder with the case's name.

    Raises: DataError if the folder is not there or lacks one.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of foreground masks")
    files = {image_stem(path): path for path in sorted(folder.iterdir()) if is_image_file(path)}
    missing = [f"{case.id}: no {case.id}.nii.gz or the like" for case in cases if case.id not in files]
    if missing:
        raise DataError(join_problems(f"{folder}: cases without a foreground mask", missing))
    return [replace(case, foreground=files[case.id]) for case in cases]


def run_cases(run: Path, part: str) -> list[Case]:
    """The cases of one part (``train``, ``val`` or ``test``) of a run, as its ``cases.json`` records them.

    Raises: DataError if the run has no such record, it is damaged, or the part is empty.
    """
    record = Path(run) / "cases.json"
    if not record.is_file():
        raise DataError(f"{run}: --cases needs a run folder with cases.json; give input files instead")
    try:
        entries = [e for e in json.loads(record.read_text(encoding="utf-8")) if e["part"] == part]
        cases = [_recorded_case(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"a case has no {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"{record}: damaged, expected the list of cases that a training writes ({reason}). Give input "
            "files instead, or train again."
        ) from error
    if not cases:
        raise DataError(f"{record}: the run has no {part} cases")
    return cases


def _recorded_case(entry: Mapping[str, Any]) -> Case:
    return Case(
        entry["id"],
        Path(entry["image"]),
        Path(entry["label"]) if entry["label"] else None,
        other_channels=tuple(Path(p) for p in entry.get("other_channels", [])),
        masks={name: Path(p) for name, p in entry.get("masks", {}).items()},
    )
