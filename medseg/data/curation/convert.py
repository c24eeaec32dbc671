"""Convert a dataset to another layout. Geometry is preserved, and the original is not changed."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from medseg.data.cases import Case
from medseg.data.curation.check import DEFAULT_DATA, DatasetReport, check_dataset
from medseg.data.curation.summary import summary_labels
from medseg.data.io.dicom.series import read_projection_header
from medseg.data.io.multichannel import read_image
from medseg.data.io.nifti import write_nifti
from medseg.data.io.numpy_reader import is_picture_array
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import image_stem, output_suffix, reader_for
from medseg.data.labels.output_values import OutputValues, consecutive_output_values, declared_output_values
from medseg.data.labels.reader import AS_STORED
from medseg.data.labels.schema import LabelSchema, smallest_integer
from medseg.data.options import DataConfig
from medseg.data.preprocessing.modality import channel_names
from medseg.data.scans import Scan
from medseg.errors import ConfigError, DataError
from medseg.files import write_folder_atomic, write_json, write_text
from medseg.geometry import Array


@dataclass(frozen=True)
class _LoadedCase:
    """One case in memory: its image, and the values of its label map, if it has one."""

    case: Case
    scan: Scan
    values: Array | None


@dataclass(frozen=True)
class _Source:
    """A checked dataset and its labels.

    Attributes:
        report: result of checking the dataset.
        labels: its labels.
        numbering: the values to write; None to keep the values of the label files.
    """

    report: DatasetReport
    labels: LabelSchema
    numbering: OutputValues | None

    @property
    def cases(self) -> list[Case]:
        return self.report.label_plan.cases

    @property
    def names(self) -> dict[str, int]:
        """Names of the labels in the written label maps, and their values."""
        if self.numbering is not None:
            return self.numbering.names
        return {name: values[0] for name, values in self.labels.names.items()}

    def read(self, case: Case) -> _LoadedCase:
        """Read a case, with the values that are written."""
        scan = read_image(case)
        target = self.report.label_plan.reader.read(case, scan)
        if target is None or self.numbering is None:
            return _LoadedCase(case, scan, None if target is None else target.values)
        return _LoadedCase(case, scan, self.numbering.apply(target.values, case.id))

    def write_names(self, output: Path) -> None:
        """Write ``labels.json`` if the settings change the values of the labels."""
        if self.numbering is not None:
            write_json(output / "labels.json", {"labels": self.numbering.table})


def convert_dataset(
    root: Path,
    output: Path,
    to: str,
    config: DataConfig = DEFAULT_DATA,
    *,
    schema: LabelSchema | None = None,
) -> list[str]:
    """Write a dataset in another layout.

    Settings of the labels are applied to the label maps, and the names of the labels are written beside them
    (``labels.json`` for ``folders`` and ``manifest``; a manifest then comes with the label maps that change).
    Without such settings, values are kept.

    Args:
        root: the dataset, in any layout.
        output: a new folder.
        to: the layout: ``folders`` (``images/`` and ``labels/``), ``nnunet`` (raw data with consecutive label
            values and ``dataset.json``), ``msd`` (volumes with channels last and ``dataset.json``), ``bids``
            (with derivatives and ``dseg.tsv``) or ``manifest`` (a CSV file that points to the existing files).
        config: settings of the dataset.
        schema: declared labels; default: from the dataset.

    Returns:
        The ids of the written cases.

    Raises:
        DataError: the dataset has problems (see ``check``), or the layout cannot represent it.
        ConfigError: ``output`` exists or is inside the dataset, the layout is unknown, or it is for volumes
            only.
    """
    config = config.model_copy(update={"instances": None})  # numbers of objects are values, which are kept
    report = check_dataset(root, config, schema=schema)
    if report.problems:
        worst = report.problems[0]
        raise DataError(
            f"{root}: has {len(report.problems)} problems, the first: {worst.subject}: {worst.message}",
            hint="Repair them (medseg data check --fix DIR) and convert again.",
            path=Path(root),
        )
    _check_target(root, output, to)
    labels = summary_labels(report)
    if labels is None:
        raise DataError(f"{root}: the label maps contain a single value, so there are no labels to convert")
    numbering = (
        consecutive_output_values(labels)
        if to == "nnunet"
        else declared_output_values(report.label_plan, labels)
    )
    source = _Source(report, labels, numbering)
    _check_representable(source, root, to)
    with write_folder_atomic(Path(output)) as temporary:
        _WRITERS[to](source, temporary)
    return [case.id for case in report.label_plan.cases]


def _check_target(root: Path, output: Path, to: str) -> None:
    """Check the layout's name and the new folder. Raises: ConfigError."""
    root, output = Path(root), Path(output)
    if to not in _WRITERS:
        raise ConfigError(f"--to {to!r}: expected one of {', '.join(_WRITERS)}")
    if output.exists():
        raise ConfigError(f"{output}: already exists", hint="Choose another folder.", path=output)
    if output.resolve().is_relative_to(root.resolve()) and root.is_dir():
        raise ConfigError(
            f"{output}: is inside the dataset {root}", hint="Choose a folder outside of it.", path=output
        )


def _check_representable(source: _Source, root: Path, to: str) -> None:
    """Check that a layout can represent the dataset.

    Raises:
        ConfigError: the layout is for volumes, and the dataset contains pictures.
        DataError: the layout cannot represent partial annotations, soft labels or ignored voxels.
    """
    report, numbering = source.report, source.numbering
    if to in ("msd", "bids") and report.statistics[0].kind == "picture":
        raise ConfigError(
            f"--to {to} is a layout for volumes; {root} contains pictures", hint="Use folders or nnunet."
        )
    if to == "bids" and numbering is not None and numbering.ignore is not None:
        raise DataError(
            f"--to bids cannot represent ignored voxels (here those of value {numbering.ignore})",
            hint="Use folders, nnunet, msd or manifest, or leave out data.labels.ignore_value and "
            "data.labels.others=ignore.",
        )
    if to == "manifest":
        return
    partial = [case.id for case in report.label_plan.cases if case.labeled is not None]
    if partial:
        raise DataError(
            f"{len(partial)} cases are partly annotated ({', '.join(partial[:5])}), which --to {to} cannot "
            "represent: labels that were not annotated would become background",
            hint="Use --to manifest.",
        )
    if report.label_plan.reader.soft:
        raise DataError(
            f"--to {to} cannot represent soft labels: it has one value per voxel", hint="Use --to manifest."
        )


def _folders(source: _Source, output: Path) -> None:
    for case in source.cases:
        part = case.part or ""
        one = source.read(case)
        names = _write_image(one, output / "images" / part, case.id)
        if one.values is not None:
            _write_label(one.values, one.scan, output / "labels" / part, case.id, names[0])
    source.write_names(output)


def _nnunet(source: _Source, output: Path) -> None:
    endings: Counter[str] = Counter()
    trained = 0
    for case in source.cases:
        one = source.read(case)
        ending = "Ts" if case.part == "test" else "Tr"
        names = _write_channels(one, output / f"images{ending}", case.id)
        endings[names[0].name[len(image_stem(names[0])) :]] += 1
        trained += ending == "Tr"
        if one.values is not None:
            _write_label(one.values, one.scan, output / f"labels{ending}", case.id, names[0])
    labels, numbering = source.labels, source.numbering
    assert numbering is not None
    table = numbering.table if labels.background else {"background": 0} | numbering.table
    content: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate(channel_names(source.report.statistics))},
        "labels": table,
        "numTraining": trained,
        "file_ending": endings.most_common(1)[0][0],
    }
    if labels.regions:
        content["regions_class_order"] = [numbering.names[ms[0]] for ms in labels.regions.values()]
    write_json(output / "dataset.json", content)


def _msd(source: _Source, output: Path) -> None:
    lists: dict[str, list[Any]] = {"training": [], "test": []}
    for case in source.cases:
        one = source.read(case)
        test = case.part == "test"
        folder = "imagesTs" if test else "imagesTr"
        _write_nifti(one.scan, output / folder / f"{case.id}.nii.gz")
        image = f"./{folder}/{case.id}.nii.gz"
        if test or one.values is None:
            lists["test"].append(image)
            continue
        _write_label(one.values, one.scan, output / "labelsTr", case.id, Path("x.nii.gz"))
        lists["training"].append({"image": image, "label": f"./labelsTr/{case.id}.nii.gz"})
    write_json(
        output / "dataset.json",
        {
            "modality": {str(i): name for i, name in enumerate(channel_names(source.report.statistics))},
            "labels": {str(value): name for name, value in source.names.items()},
            "numTraining": len(lists["training"]),
            "numTest": len(lists["test"]),
            **lists,
        },
    )


def _bids(source: _Source, output: Path) -> None:
    subjects = [re.sub(r"[^A-Za-z0-9]", "", case.id) for case in source.cases]
    ids = {subject: [] for subject in subjects}
    for case, subject in zip(source.cases, subjects, strict=True):
        ids[subject].append(case.id)
    doubles = [" and ".join(same) for same in ids.values() if len(same) > 1]
    if doubles:
        raise DataError(
            "BIDS allows only letters and digits in names; without other characters, these cases share a name: "
            + "; ".join(doubles),
            hint="Rename them, or set ids in a manifest (--to manifest) and convert that.",
        )
    for case, subject in zip(source.cases, subjects, strict=True):
        one = source.read(case)
        stem = f"sub-{subject}"
        scans = _split_channels(one.scan)
        for i, scan in enumerate(scans):
            suffix = "image" if len(scans) == 1 else f"channel{i}"
            _write_nifti(scan, output / stem / "anat" / f"{stem}_{suffix}.nii.gz")
        if one.values is not None:
            folder = output / "derivatives" / "labels" / stem / "anat"
            _write_label(one.values, one.scan, folder, f"{stem}_dseg", Path("x.nii.gz"))
    rows = ["index\tname", *(f"{value}\t{name}" for name, value in source.names.items())]
    write_text(output / "derivatives" / "labels" / "dseg.tsv", "\n".join(rows) + "\n")
    write_json(output / "dataset_description.json", {"Name": "converted by medseg", "BIDSVersion": "1.9.0"})


def _manifest(source: _Source, output: Path) -> None:
    if source.numbering is None or source.report.label_plan.reader.soft:
        write_manifest(source.cases, output)
        return
    write_manifest([_with_applied_labels(case, source, output) for case in source.cases], output)
    source.write_names(output)


def _with_applied_labels(case: Case, source: _Source, output: Path) -> Case:
    """Write the label map of a case unless its file already holds these values; return the case with it."""
    one = source.read(case)
    if one.values is None:
        return case
    if case.label is not None and source.report.label_plan.reader == AS_STORED:
        stored = AS_STORED.read(case, one.scan)
        if stored is not None and np.array_equal(stored.values, one.values):
            return case
    image = Path("x.nii.gz") if _becomes_nifti(case) else case.image
    folder = output / "labels" / (case.part or "")
    _write_label(one.values, one.scan, folder, case.id, image)
    return replace(case, label=folder / f"{case.id}{output_suffix(image)}", masks={})


def write_manifest(cases: list[Case], output: Path) -> None:
    """Write a ``manifest.csv`` that points to the existing files of cases by relative paths."""
    channels = max(len(case.images) for case in cases)
    images = ["image"] if channels == 1 else [f"image:{i}" for i in range(channels)]
    masks = sorted({name for case in cases for name in case.masks})
    labels_of = ["label"] if not masks else [f"label:{m}" for m in masks]
    extra = sorted({key for case in cases for key in case.metadata})
    columns = ["id", *images, *labels_of, "patient", "split", "labeled", *extra]
    output.mkdir(parents=True, exist_ok=True)
    with (output / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for case in cases:
            row: dict[str, Any] = {"id": case.id, "patient": case.patient or "", "split": case.part or ""}
            row |= {"labeled": ";".join(case.labeled or ()), **case.metadata}
            row |= {column: _relative(path, output) for column, path in zip(images, case.images, strict=True)}
            row |= {f"label:{name}": _relative(path, output) for name, path in case.masks.items()}
            if not masks:
                row["label"] = _relative(case.label, output) if case.label else ""
            writer.writerow(row)


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, so that both may be moved together."""
    return os.path.relpath(path.resolve(), folder.resolve())


def _write_image(one: _LoadedCase, folder: Path, name: str) -> list[Path]:
    """Copy the files of an image unchanged; DICOM and stacks become NIfTI, pictures in archives TIFF."""
    case = one.case
    if _becomes_nifti(case):
        return [_write_nifti(one.scan, folder / f"{name}.nii.gz")]
    written: list[Path] = []
    for number, path in enumerate(case.images):
        target = folder / (f"{name}_{number:04d}" if case.other_channels else name)
        folder.mkdir(parents=True, exist_ok=True)
        if _is_selected(path):
            written.append(_write_picture(path, target, one.scan.array[number]))
            continue
        target = target.with_name(f"{target.name}{path.name[len(image_stem(path)) :]}")
        shutil.copyfile(path, target)
        written.append(target)
    return written


def _becomes_nifti(case: Case) -> bool:
    image = case.image
    selected = _is_selected(image) and not is_picture_array(image)
    return image.is_dir() or selected or image.suffix.lower() in (".mhd", ".nhdr")


def _is_selected(path: Path) -> bool:
    """Whether a path is a part of a folder or file, such as ``FILE.npz#NAME``."""
    return split_selector(path)[1] is not None


def _write_channels(one: _LoadedCase, folder: Path, name: str) -> list[Path]:
    """Write one file per channel, ``<name>_0000`` …; the colors of a picture stay in one file."""
    case, scan = one.case, one.scan
    if scan.kind == "picture":
        folder.mkdir(parents=True, exist_ok=True)
        return [
            _write_picture(path, folder / f"{name}_{i:04d}", scan.array[i])
            for i, path in enumerate(case.images)
        ]
    scans = _split_channels(scan)
    return [_write_nifti(part, folder / f"{name}_{i:04d}.nii.gz") for i, part in enumerate(scans)]


def _write_picture(path: Path, target: Path, channel: Array) -> Path:
    """Copy the file of a picture; write a projection or an array (H, W) as TIFF, which nnU-Net reads."""
    if read_projection_header(path) is None and not is_picture_array(path):
        copy = target.with_name(target.name + path.suffix.lower())
        shutil.copyfile(path, copy)
        return copy
    written = target.with_name(f"{target.name}.tif")
    tifffile.imwrite(written, channel, photometric="minisblack", compression="zlib")
    return written


def _split_channels(scan: Scan) -> list[Scan]:
    return [replace(scan, array=channel[None]) for channel in scan.array]


def _write_nifti(scan: Scan, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = scan.array
    write_nifti(path, array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), scan)
    return path


def _write_label(values: Array, scan: Scan, folder: Path, name: str, image: Path) -> None:
    """Write a label map in the format that matches the file of its image."""
    reader = reader_for(image)
    folder.mkdir(parents=True, exist_ok=True)
    small = values.astype(smallest_integer((int(values.min()), int(values.max()))))
    reader.write_label_map(folder / f"{name}{output_suffix(image)}", small, scan, None)


_WRITERS = {"folders": _folders, "nnunet": _nnunet, "msd": _msd, "bids": _bids, "manifest": _manifest}
