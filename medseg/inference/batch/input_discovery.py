"""Find the input scans of a command: files, folders in any layout, or the cases of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, join_problems
from medseg.data.io.dicom.series import is_dicom_file, is_dicom_folder
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
from medseg.data.layouts.folder_names import LABEL_FOLDERS, find_images_folder
from medseg.data.layouts.label_map_detection import find_label_maps
from medseg.errors import DataError
from medseg.inference.batch.outputs.provenance import is_output_folder, read_records

_LABEL_FOLDERS = frozenset(name.lower() for name in LABEL_FOLDERS)


@dataclass(frozen=True)
class Inputs:
    """The cases among the inputs, and what else the input folders contain.

    Attributes:
        cases: the cases.
        label_maps: files that look like label maps and are ignored.
        results: output folders of earlier inferences, which are not searched.
        outside: image files, series and results outside the image folder of a folder's layout.
    """

    cases: list[Case]
    label_maps: tuple[Path, ...] = ()
    results: tuple[Path, ...] = ()
    outside: tuple[Path, ...] = ()

    def describe_left_out(self) -> str | None:
        """Describe what is ignored; None if nothing is."""
        lines: list[str] = []
        if self.label_maps:
            lines.append(
                join_problems("ignored, because they look like label maps", [str(p) for p in self.label_maps])
            )
        if self.results:
            lines.append(
                join_problems("ignored, because they hold results of medseg", [str(p) for p in self.results])
            )
        lines += ["Use --all to segment them too."] if lines else []
        if self.outside:
            title = "ignored, because they are outside the image folder of the layout"
            lines.append(join_problems(title, [str(p) for p in self.outside]))
            lines.append("To segment them, give these files or their folders as inputs.")
        return "\n".join(lines) or None


def find_inputs(inputs: list[Path]) -> list[Case]:
    """Find the scans among files and folders; :func:`search_inputs` without its options and its report."""
    return search_inputs(inputs).cases


def search_inputs(inputs: list[Path], *, output: Path | None = None, everything: bool = False) -> Inputs:
    """Find the scans among files and folders; folders are searched recursively.

    If a folder has a subfolder ``images/``, only that is searched; other images in the folder are listed in the
    result, except those in folders of label maps such as ``labels/``. If all files of a folder are named
    ``<case>_0000``, ``<case>_0001``…, they are the channels of cases. The layouts with several channels (BraTS,
    BIDS, nnU-Net and others) and manifests are supported.

    Args:
        inputs: files and folders.
        output: output folder; it is not searched unless it is one of the inputs.
        everything: also take files that look like label maps, and results of other inferences, as scans.

    Raises:
        DataError: an input does not exist or is not an image, no image is found, or two cases have the same id.
    """
    parts = [_search(given, output, everything) for given in inputs]
    cases = list({case.images: case for part in parts for case in part.cases}.values())  # without duplicates
    by_id: dict[str, list[Path]] = {}
    for case in cases:
        by_id.setdefault(case.id, []).append(case.image)
    duplicates = [f"{i}: {', '.join(map(str, paths))}" for i, paths in by_id.items() if len(paths) > 1]
    if duplicates:
        raise DataError(join_problems("inputs that share a name, and so would their outputs", duplicates))
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
            raise DataError(f"{given}: no such file or folder", path=given)
        _check_image_file(given)
        return Inputs([Case(image_stem(given), given)])
    layout = layout_of(given)
    if layout is not None and not isinstance(layout, FoldersLayout | PairsLayout | LooseLayout):
        cases = _without_outputs(layout.find(given, DEFAULT_LAYOUT).cases, given, output)
        return _with_outside(Inputs(cases), given, output, everything)
    root = find_images_folder(given) or given
    if is_dicom_folder(root):
        return _with_outside(Inputs([Case(given.resolve().name, root)]), given, output, everything)
    inputs = _search_below(root, output, everything)
    return inputs if root == given else _with_outside(inputs, given, output, everything)


def _check_image_file(path: Path) -> None:
    """Check that a file can be read as an image.

    Raises: DataError with a hint if it is a DICOM file whose name has no suffix.
    """
    base = split_selector(path)[0]
    if base.is_file() and not is_image_file(base) and is_dicom_file(base):
        raise DataError(
            f"{path}: a single DICOM file without the suffix .dcm",
            hint=f"Give the folder of the series ({base.parent}), or rename the file to {base.name}.dcm.",
            path=path,
        )


def _with_outside(inputs: Inputs, given: Path, output: Path | None, everything: bool) -> Inputs:
    """Add the image files, series and folders of results that a folder contains besides ``inputs``."""
    files = [path for case in inputs.cases for path in (*case.images, *case.label_files, *case.masks.values())]
    covered = {split_selector(path)[0].resolve() for path in (*files, *inputs.label_maps)}
    series, loose, results = _image_files(given, output, everything)
    outside = [
        path
        for path in sorted({*series, *loose, *results} - {*inputs.results})
        if not _is_covered(path, covered) and path.relative_to(given).parts[0].lower() not in _LABEL_FOLDERS
    ]
    return replace(inputs, outside=tuple(outside))


def _is_covered(path: Path, covered: Collection[Path]) -> bool:
    """Whether a file, or the series that it belongs to, is in ``covered`` (resolved paths)."""
    path = path.resolve()
    return path in covered or (path.parent in covered and path.is_file())


def _search_below(root: Path, output: Path | None, everything: bool) -> Inputs:
    series, loose, results = _image_files(root, output, everything)
    label_maps = [] if everything else find_label_maps(sorted(loose), root)
    images = sorted({*series, *loose} - {*label_maps})
    if not images:
        left = Inputs([], tuple(label_maps), tuple(results)).describe_left_out()
        raise DataError(f"{root}: no image files in this folder" + (f"; {left}" if left else ""), path=root)
    groups = channel_groups(images, [])
    cases = [Case(name, files[0], other_channels=files[1:]) for name, files in groups.items()]
    return Inputs(cases, tuple(label_maps), tuple(results))


def _image_files(
    root: Path, output: Path | None, everything: bool
) -> tuple[list[Path], list[Path], list[Path]]:
    """Find the images below a folder.

    Returns the folders that are one image (DICOM series, Zarr), the image files, and the output folders of
    other inferences, which are not searched.
    """
    written = _written_files(output)
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
    """``os.walk`` from the top down, with ``Path`` objects."""
    for folder, folders, names in os.walk(root):
        yield Path(folder), folders, names


def _written_files(output: Path | None) -> frozenset[Path]:
    """The files that medseg wrote to the output folder, which may contain inputs as well."""
    if output is None or not output.is_dir():
        return frozenset()
    return frozenset(path.resolve() for record in read_records(output) for path in record.files)


def _without_outputs(cases: list[Case], root: Path, output: Path | None) -> list[Case]:
    """Remove the cases in an output folder below ``root``."""
    if output is None or not output.resolve().is_relative_to(root.resolve()) or output.samefile(root):
        return cases
    return [case for case in cases if not case.image.resolve().is_relative_to(output.resolve())]


def with_foregrounds(cases: list[Case], folder: Path) -> list[Case]:
    """Add to each case its foreground mask: the file in ``folder`` with the id of the case.

    Raises:
        DataError: the folder does not exist or lacks the mask of a case.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of foreground masks", path=folder)
    files = {image_stem(path): path for path in sorted(folder.iterdir()) if is_image_file(path)}
    missing = [f"{case.id}: no {case.id}.nii.gz or similar file" for case in cases if case.id not in files]
    if missing:
        raise DataError(join_problems(f"{folder}: cases without a foreground mask", missing))
    return [replace(case, foreground=files[case.id]) for case in cases]


def run_cases(run: Path, part: str) -> list[Case]:
    """Read the cases of one part of a run from its ``cases.json``.

    Args:
        run: run folder.
        part: ``train``, ``val`` or ``test``.

    Raises:
        DataError: the run has no such file, the file is damaged, or the part is empty.
    """
    record = Path(run) / "cases.json"
    if not record.is_file():
        raise DataError(
            f"{run}: --cases needs a run folder with cases.json", hint="Give input files instead.", path=record
        )
    try:
        entries = [e for e in json.loads(record.read_text(encoding="utf-8")) if e["part"] == part]
        cases = [_recorded_case(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"a case has no {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"{record}: damaged, expected the list of cases that a training writes ({reason})",
            hint="Give input files instead, or train again.",
            path=record,
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
