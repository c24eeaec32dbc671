"""Repaired copies of a dataset; the original is never touched."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import affine_transform

from medseg.data.cases import Case
from medseg.data.curation.check import DatasetReport, Finding, check_dataset
from medseg.data.curation.convert import write_manifest
from medseg.data.io.multichannel import read_image
from medseg.data.io.nifti import write_nifti
from medseg.data.io.readers import image_stem, output_suffix, read_scan, reader_for
from medseg.data.labels.label_plan import LabelPlan
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.options import DataConfig
from medseg.data.scans import Scan, align_to_grid, as_label_map, check_finite
from medseg.errors import ConfigError, DataError, GeometryError
from medseg.files import write_atomic, write_folder_atomic, write_json
from medseg.geometry import Array, Grid


@dataclass
class Repairs:
    """What was done: case → actions, and the cases left out, with the reason."""

    done: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def repair(report: DatasetReport, output: Path, *, mapping: Mapping[int, int] = {}) -> Repairs:
    """Write every usable case into ``output`` as ``images/`` and ``labels/``, repaired where it was faulty.

    Label maps on another grid are resampled onto their image (nearest neighbor; outside of them is 0);
    values are mapped by ``mapping``, undeclared ones as ``data.labels.others`` says; floats become integers;
    voxels that are not finite take the scan's lowest value. Of copies of an image one is kept. Cases that lack
    a file, or whose file cannot be read, are left out and named. ``repairs.json`` lists it all, ``labels.json``
    names the values, and ``manifest.csv`` keeps patients and what was annotated, where the dataset says so.
    Raises: ConfigError if ``output`` is there and not empty.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: is there and not empty; --fix writes into a new folder")
    repairs = Repairs()
    copies = _copies(report)
    written: list[Case] = []
    with write_folder_atomic(output) as temporary:
        for case in report.label_plan.cases:
            if case.id in copies:
                repairs.left_out[case.id] = f"the same image as {copies[case.id]}"
                continue
            try:
                repaired, actions = _repair_case(case, temporary, report.label_plan, mapping)
            except (DataError, OSError) as error:
                repairs.left_out[case.id] = str(error)
            else:
                repairs.done[case.id] = actions
                written.append(repaired)
        _write_tables(report.label_plan.schema, written, temporary)
        write_json(temporary / "repairs.json", {"repaired": repairs.done, "left_out": repairs.left_out})
    return repairs


def check_repaired(report: DatasetReport, output: Path, *, patient: str | None = None) -> list[Finding]:
    """The problems that are left in the repaired copy of a dataset."""
    return check_dataset(output, DataConfig(patient=patient), schema=report.label_plan.schema).problems


def _write_tables(labels: LabelSchema | None, cases: list[Case], output: Path) -> None:
    """What ``images/`` and ``labels/`` cannot say: the names of values, patients, what was annotated."""
    if labels is not None and not labels.regions and all(len(values) == 1 for values in labels.names.values()):
        table = {name: values[0] for name, values in labels.names.items()}
        ignored = {} if labels.ignore_value is None else {"ignore": labels.ignore_value}
        if labels.output_values[0] == 0 and "ignore" not in table and not labels.collapse_instances:
            write_json(output / "labels.json", {"labels": table | ignored})
    if any(case.patient is not None or case.labeled is not None for case in cases):
        write_manifest(cases, output)


def onto(label: Scan, grid: Grid) -> tuple[Array, int]:
    """A label map's values (*S) on another grid, by nearest neighbor, and how many voxels lie off its own."""
    back = np.linalg.inv(label.grid.affine) @ grid.affine
    n = len(grid.shape)
    arrays = (as_label_map(label), np.ones(label.grid.shape, np.uint8))
    offset: Any = back[:n, n]
    moved, inside = (
        affine_transform(
            array, back[:n, :n], offset, output_shape=grid.shape, order=0, mode="grid-constant", cval=0
        )
        for array in arrays
    )
    return moved, int((inside == 0).sum())


def _copies(report: DatasetReport) -> dict[str, str]:
    """Cases whose image is another's: case → the one kept, which is one without problems."""
    faulty = {case for f in report.problems if f.kind not in ("duplicate", "leak") for case in f.concerned}
    copies: dict[str, str] = {}
    for ids in report.copies:
        kept = next((i for i in ids if i not in faulty), ids[0])
        copies |= {i: kept for i in ids if i != kept}
    return copies


def _repair_case(
    case: Case, output: Path, plan: LabelPlan, mapping: Mapping[int, int]
) -> tuple[Case, list[str]]:
    """Write one case; returns it with its new files, and what was done to it."""
    if not case.label_files:
        raise DataError("it has no label map")
    scan = read_image(case)
    part = case.part or ""
    values, actions = _target(case, scan, plan.reader)  # before anything is written
    images, done = _copy_image(case, scan, output / "images" / part)
    actions += done
    changes = {old: new for old, new in mapping.items() if (values == old).any()}
    if changes:
        actions.append("label values mapped: " + ", ".join(f"{old} to {new}" for old, new in changes.items()))
    others = _undeclared_as(np.unique(values), plan.schema, mapping)
    if others:
        meaning = plan.schema.others if plan.schema else ""
        listed = ", ".join(f"{old} to {new}" for old, new in others.items())
        actions.append(f"label values that are not declared set by data.labels.others={meaning}: {listed}")
    values = _mapped(values, changes | others)
    target = output / "labels" / part / f"{case.id}{output_suffix(case.image)}"
    smallest = np.result_type(np.min_scalar_type(int(values.min())), np.min_scalar_type(int(values.max())))
    with write_atomic(target) as temporary:
        reader_for(case.image).write_label_map(temporary, values.astype(smallest), scan, None)
    repaired = replace(
        case, image=images[0], other_channels=tuple(images[1:]), label=target, masks={}, foreground=None
    )
    return repaired, actions


def _undeclared_as(values: Array, labels: LabelSchema | None, mapping: Mapping[int, int]) -> dict[int, int]:
    """Return what ``data.labels.others`` maps undeclared values to: the background or the ignored value."""
    if labels is None or labels.others == "refuse" or labels.collapse_instances:
        return {}
    new = labels.output_values[0] if labels.others == "background" else labels.ignore_value
    declared = {labels.ignore_value, *(v for group in labels.names.values() for v in group)}
    undeclared = [int(v) for v in values if int(v) not in declared and int(v) not in mapping]
    return {} if new is None else dict.fromkeys(undeclared, new)


def _mapped(values: Array, changes: Mapping[int, int]) -> Array:
    if not changes:
        return values
    wide = values.astype(np.int64)
    return np.select([wide == old for old in changes], [np.int64(new) for new in changes.values()], wide)


def _copy_image(case: Case, scan: Scan, folder: Path) -> tuple[list[Path], list[str]]:
    """Copy an image's files as they are, or write it with its voxels that are not finite replaced.

    Returns: the files of its channels, and what was done.
    """
    try:
        check_finite(scan)
    except DataError:
        path = folder / f"{case.id}.nii.gz"
        return [path], [_write_finite(scan, path)]
    numbers = [n if case.other_channels else None for n in range(len(case.images))]
    return [_copy(p, folder, case.id, n) for p, n in zip(case.images, numbers, strict=True)], []


def _target(case: Case, scan: Scan, reader: LabelReader) -> tuple[Array, list[str]]:
    """The values of a case's label map on its image's grid, and what had to be done for it."""
    try:
        target = reader.read(case, scan)
        assert target is not None
        stored = (
            [f"label map stored as {target.dtype} written as integers"] if target.dtype[:5] == "float" else []
        )
        return target.values, stored
    except GeometryError:
        if case.label is None or scan.kind == "picture":
            raise
        label = read_scan(case.label)
        try:
            align_to_grid(label, scan.grid)
        except GeometryError as error:
            values, outside = onto(label, scan.grid)
            if not values.any() and as_label_map(label).any():
                raise DataError(f"its label map lies wholly off its image ({error})") from error
            beyond = f"; {outside} voxels of the image lay outside of it and are 0" if outside else ""
            return values, [f"label map resampled onto its image ({error}){beyond}"]
        raise


def _copy(path: Path, folder: Path, case_id: str, channel: int | None) -> Path:
    """Copy one image, named by its case; returns the copy."""
    folder.mkdir(parents=True, exist_ok=True)
    ending = path.name[len(image_stem(path)) :] if not path.is_dir() else ""
    target = folder / (case_id + ("" if channel is None else f"_{channel:04d}") + ending)
    if path.is_dir():
        shutil.copytree(path, target)
        return target
    shutil.copyfile(path, target)
    if path.suffix.lower() in (".mhd", ".nhdr"):  # the header names its data by a file beside it
        sitk.WriteImage(sitk.ReadImage(str(path)), str(target.with_suffix(".mha")))
        target.unlink()
        return target.with_suffix(".mha")
    return target


def _write_finite(scan: Scan, path: Path) -> str:
    """Write a scan with its voxels that are not finite replaced."""
    if scan.kind != "volume":
        raise DataError(f"{scan.path}: pixels are not finite")
    bad = ~np.isfinite(scan.array)
    if bad.all():
        raise DataError("no voxel of its image is finite")
    lowest = float(scan.array[~bad].min()) if (~bad).any() else 0.0
    mended = replace(scan, array=np.where(bad, lowest, scan.array))
    voxels = mended.array[0] if len(mended.array) == 1 else np.moveaxis(mended.array, 0, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, voxels, mended)
    return f"{int(bad.sum())} voxels that were not finite set to {lowest:g}"
