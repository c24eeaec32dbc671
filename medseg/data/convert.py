"""Datasets from one layout into another; geometry is kept, the original is never touched."""

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
from medseg.data.check import NOTHING_STATED, Report, check_dataset
from medseg.data.dicom import projection_header
from medseg.data.images import read_image
from medseg.data.labelling import LabelStatement
from medseg.data.labels import Labels, smallest_integer
from medseg.data.layouts import NO_CHOICE, Choice
from medseg.data.modality import channel_names
from medseg.data.nifti import save_nifti
from medseg.data.readers import output_suffix, reader_for, stem_of
from medseg.data.scans import Scan
from medseg.data.summary import summary_labels
from medseg.data.targets import read_target
from medseg.errors import ConfigError, DataError
from medseg.files import write_folder_atomic, write_json, write_text
from medseg.geometry import Array


@dataclass(frozen=True)
class Converted:
    """One case in memory: its image, and the label map's values, if it has one."""

    case: Case
    scan: Scan
    values: Array | None


def convert_dataset(
    root: Path, output: Path, to: str, *, choice: Choice = NO_CHOICE, stated: LabelStatement = NOTHING_STATED
) -> list[str]:
    """Write a dataset in another layout; returns the ids of its cases.

    ``folders``: ``images/`` and ``labels/``; ``nnunet``: raw data with consecutive label values and
    ``dataset.json``; ``msd``: volumes with channels last and ``dataset.json``; ``bids``: with derivatives and
    ``dseg.tsv``; ``manifest``: a CSV that points to the files where they are.
    Raises: DataError if the dataset has problems (``check``); ConfigError if ``output`` is there already, or
    the layout is for volumes only.
    """
    report = check_dataset(root, choice=choice, stated=stated)
    if report.problems:
        worst = report.problems[0]
        raise DataError(
            f"{root}: has {len(report.problems)} problems, the first: {worst.case}: {worst.message}. Mend them "
            "(medseg data check --fix DIR) and convert again."
        )
    if to not in _WRITERS:
        raise ConfigError(f"--to {to!r}: expected one of {', '.join(_WRITERS)}")
    output = Path(output)
    if output.exists():
        raise ConfigError(f"{output}: is there already; choose another folder")
    labels = summary_labels(report)
    if labels is None:
        raise DataError(f"{root}: its label maps hold one value only, so there is nothing to convert")
    if to in ("msd", "bids") and report.facts[0].kind == "picture":
        raise ConfigError(f"--to {to} is a layout for volumes; {root} holds pictures. Use folders or nnunet.")
    if output.resolve().is_relative_to(Path(root).resolve()) and Path(root).is_dir():
        raise ConfigError(f"{output}: lies within the dataset {root}; choose a folder beside it")
    if to != "manifest":
        _refuse_what_is_lost(report, to)
    with write_folder_atomic(output) as temporary:
        _WRITERS[to](report, labels, temporary)
    return [case.id for case in report.labelling.cases]


def _refuse_what_is_lost(report: Report, to: str) -> None:
    """Raises: DataError where a layout of label maps cannot say what the dataset says."""
    partial = [case.id for case in report.labelling.cases if case.labelled is not None]
    if partial:
        raise DataError(
            f"{len(partial)} cases are annotated in part ({', '.join(partial[:5])}), which --to {to} cannot "
            "say: what nobody drew would become background. --to manifest keeps it."
        )
    if report.labelling.rules.soft:
        raise DataError(
            f"soft labels cannot be kept by --to {to}, which has one value a voxel. Use --to manifest."
        )


def _folders(report: Report, labels: Labels, output: Path) -> None:
    for case in report.labelling.cases:
        part = case.part or ""
        one = _read(case, report)
        names = _write_image(one, output / "images" / part, case.id)
        if one.values is not None:
            _write_label(one.values, one.scan, output / "labels" / part, case.id, names[0])


def _nnunet(report: Report, labels: Labels, output: Path) -> None:
    endings: Counter[str] = Counter()
    trained = 0
    for case in report.labelling.cases:
        one = _read(case, report)
        ending = "Ts" if case.part == "test" else "Tr"
        names = _write_channels(one, output / f"images{ending}", case.id)
        endings[names[0].name[len(stem_of(names[0])) :]] += 1
        trained += ending == "Tr"
        if one.values is not None:
            _write_label(
                _consecutive(one.values, labels, case), one.scan, output / f"labels{ending}", case.id, names[0]
            )
    order = list(labels.names)
    first = 0 if labels.background else 1  # nnU-Net's 0 is background, whether anything is or not
    table: dict[str, Any] = {name: i for i, name in enumerate(order, start=first)}
    table = table if labels.background else {"background": 0} | table
    if labels.regions:
        members = {r: [order.index(m) for m in ms] for r, ms in labels.regions.items()}
        table = {order[0]: 0} | members
    content: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate(channel_names(report.facts))},
        "labels": table | ({"ignore": len(order) + first} if labels.ignore_value is not None else {}),
        "numTraining": trained,
        "file_ending": endings.most_common(1)[0][0],
    }
    if labels.regions:
        content["regions_class_order"] = [order.index(ms[0]) for ms in labels.regions.values()]
    write_json(output / "dataset.json", content)


def _msd(report: Report, labels: Labels, output: Path) -> None:
    lists: dict[str, list[Any]] = {"training": [], "test": []}
    for case in report.labelling.cases:
        one = _read(case, report)
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
            "modality": {str(i): name for i, name in enumerate(channel_names(report.facts))},
            "labels": {str(values[0]): name for name, values in labels.names.items()},
            "numTraining": len(lists["training"]),
            "numTest": len(lists["test"]),
            **lists,
        },
    )


def _bids(report: Report, labels: Labels, output: Path) -> None:
    subjects = [re.sub(r"[^A-Za-z0-9]", "", case.id) for case in report.labelling.cases]
    ids = {subject: [] for subject in subjects}
    for case, subject in zip(report.labelling.cases, subjects, strict=True):
        ids[subject].append(case.id)
    doubles = [" and ".join(same) for same in ids.values() if len(same) > 1]
    if doubles:
        raise DataError(
            f"BIDS allows letters and digits in names, without which these are one: {'; '.join(doubles)}. "
            "Rename them, or give ids in a manifest (--to manifest) and convert that."
        )
    for case, subject in zip(report.labelling.cases, subjects, strict=True):
        one = _read(case, report)
        stem = f"sub-{subject}"
        scans = _split_channels(one.scan)
        for i, scan in enumerate(scans):
            suffix = "image" if len(scans) == 1 else f"channel{i}"
            _write_nifti(scan, output / stem / "anat" / f"{stem}_{suffix}.nii.gz")
        if one.values is not None:
            folder = output / "derivatives" / "labels" / stem / "anat"
            _write_label(one.values, one.scan, folder, f"{stem}_dseg", Path("x.nii.gz"))
    rows = ["index\tname", *(f"{values[0]}\t{name}" for name, values in labels.names.items())]
    write_text(output / "derivatives" / "labels" / "dseg.tsv", "\n".join(rows) + "\n")
    write_json(output / "dataset_description.json", {"Name": "converted by medseg", "BIDSVersion": "1.9.0"})


def _manifest(report: Report, labels: Labels, output: Path) -> None:
    write_manifest(report.labelling.cases, output)


def write_manifest(cases: list[Case], output: Path) -> None:
    """Write ``manifest.csv`` of cases into a folder; it points to their files where they are."""
    channels = max(len(case.images) for case in cases)
    images = ["image"] if channels == 1 else [f"image:{i}" for i in range(channels)]
    masks = sorted({name for case in cases for name in case.masks})
    labels_of = ["label"] if not masks else [f"label:{m}" for m in masks]
    extra = sorted({key for case in cases for key in case.metadata})
    columns = ["id", *images, *labels_of, "patient", "split", "labelled", *extra]
    output.mkdir(parents=True, exist_ok=True)
    with (output / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for case in cases:
            row: dict[str, Any] = {"id": case.id, "patient": case.patient or "", "split": case.part or ""}
            row |= {"labelled": ";".join(case.labelled or ()), **case.metadata}
            row |= {column: _relative(path, output) for column, path in zip(images, case.images, strict=True)}
            row |= {f"label:{name}": _relative(path, output) for name, path in case.masks.items()}
            if not masks:
                row["label"] = _relative(case.label, output) if case.label else ""
            writer.writerow(row)


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, so that both may be moved together."""
    return os.path.relpath(path.resolve(), folder.resolve())


def _read(case: Case, report: Report) -> Converted:
    scan = read_image(case)
    target = read_target(case, scan, report.labelling.rules)
    return Converted(case, scan, None if target is None else target.values)


def _consecutive(values: Array, labels: Labels, case: Case) -> Array:
    """0…K-1 in the order of the names; what is ignored is K."""
    codes = labels.encode(values, f"case {case.id}").astype(np.int64) - 1
    return np.where(codes < 0, len(labels.names), codes) + (0 if labels.background else 1)


def _write_image(one: Converted, folder: Path, name: str) -> list[Path]:
    """Copy the files of an image as they are; DICOM and stacks become NIfTI."""
    case = one.case
    if case.image.is_dir() or "#" in case.image.name or case.image.suffix.lower() in (".mhd", ".nhdr"):
        return [_write_nifti(one.scan, folder / f"{name}.nii.gz")]
    written: list[Path] = []
    for number, path in enumerate(case.images):
        suffix = f"_{number:04d}" if case.other_channels else ""
        target = folder / f"{name}{suffix}{path.name[len(stem_of(path)) :]}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        written.append(target)
    return written


def _write_channels(one: Converted, folder: Path, name: str) -> list[Path]:
    """One file a channel, ``<name>_0000`` …; pictures keep their colours in one file."""
    case, scan = one.case, one.scan
    if scan.kind == "picture":
        folder.mkdir(parents=True, exist_ok=True)
        return [
            _write_picture(path, folder / f"{name}_{i:04d}", scan.array[i : i + 1])
            for i, path in enumerate(case.images)
        ]
    scans = _split_channels(scan)
    return [_write_nifti(part, folder / f"{name}_{i:04d}.nii.gz") for i, part in enumerate(scans)]


def _write_picture(path: Path, target: Path, channel: Array) -> Path:
    """Copy a picture's file, or write the projection that a DICOM file holds as TIFF, which nnU-Net reads."""
    if projection_header(path) is None:
        copy = target.with_name(target.name + path.suffix.lower())
        shutil.copyfile(path, copy)
        return copy
    written = target.with_name(f"{target.name}.tif")
    tifffile.imwrite(written, channel[0], photometric="minisblack", compression="zlib")
    return written


def _split_channels(scan: Scan) -> list[Scan]:
    return [replace(scan, array=channel[None]) for channel in scan.array]


def _write_nifti(scan: Scan, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = scan.array
    save_nifti(path, array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), scan)
    return path


def _write_label(values: Array, scan: Scan, folder: Path, name: str, image: Path) -> None:
    """Write a label map in the format that goes with its image's file."""
    reader = reader_for(image)
    folder.mkdir(parents=True, exist_ok=True)
    small = values.astype(smallest_integer((int(values.min()), int(values.max()))))
    reader.write_label_map(folder / f"{name}{output_suffix(image)}", small, scan, None)


_WRITERS = {"folders": _folders, "nnunet": _nnunet, "msd": _msd, "bids": _bids, "manifest": _manifest}
