"""Write a repaired copy of a dataset. The original is not changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
import tifffile
from scipy.ndimage import affine_transform

from medseg.data.cases import Case
from medseg.data.curation.check import DatasetReport, check_dataset
from medseg.data.curation.convert import write_manifest
from medseg.data.io.multichannel import read_image
from medseg.data.io.nifti import write_nifti
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import image_stem, output_suffix, read_scan, reader_for
from medseg.data.labels.label_plan import LabelPlan
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema, shorten_values
from medseg.data.options import DataConfig
from medseg.data.scans import Scan, as_label_map, check_finite
from medseg.errors import ConfigError, DataError, Finding, LabelGridError, NonFiniteError
from medseg.files import write_atomic, write_folder_atomic, write_json
from medseg.geometry import Array, Grid

SameShape = Literal["leave-out", "resample", "image-grid"]
"""What to do with a label map that has its image's shape but another grid: leave the case out, trust the label
map's header and resample it, or trust its shape and take the image's grid.
"""


@dataclass(frozen=True)
class RepairOptions:
    """Options for repairing a dataset.

    Attributes:
        mapping: label values to replace: old → new.
        same_shape: what to do with a label map that has the shape of its image but another grid. Either its
            header or its voxels may be wrong, so the case is left out by default.
    """

    mapping: Mapping[int, int] = field(default_factory=dict)
    same_shape: SameShape = "leave-out"


DEFAULT_REPAIR = RepairOptions()


@dataclass
class Repairs:
    """Result of repairing a dataset.

    Attributes:
        done: case → what was repaired.
        left_out: case → why it was not written.
    """

    done: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def repair(report: DatasetReport, output: Path, options: RepairOptions = DEFAULT_REPAIR) -> Repairs:
    """Write every usable case into ``output`` as ``images/`` and ``labels/``, repaired where it was faulty.

    Label maps of another shape than their image are resampled onto it (nearest neighbor; 0 outside of them);
    those of the same shape on another grid only as ``options`` says. Values are mapped, undeclared ones as
    ``data.labels.others`` says; floats become integers; non-finite voxels take the scan's lowest value.
    One of each group of copies is kept. Cases that lack a file, or whose file cannot be read, are left out.
    ``repairs.json`` lists all of this, ``labels.json`` names the values, and ``manifest.csv`` keeps patients
    and annotated labels if the dataset declares them.

    Args:
        report: result of checking the dataset.
        output: the new folder.
        options: how to repair.

    Raises:
        ConfigError: ``output`` exists and is not empty, or a value to replace is in none of the label maps that
            are written; then nothing is written.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(
            f"{output}: exists and is not empty", hint="Choose a new folder for --fix.", path=output
        )
    repairs = Repairs()
    copies = _copies(report)
    written: list[Case] = []
    found: set[int] = set()
    with write_folder_atomic(output) as temporary:
        for case in report.label_plan.cases:
            if case.id in copies:
                repairs.left_out[case.id] = f"the same image as {copies[case.id]}"
                continue
            try:
                repaired, actions = _repair_case(case, temporary, report.label_plan, options, found)
            except (DataError, OSError) as error:
                repairs.left_out[case.id] = str(error)
            else:
                repairs.done[case.id] = actions
                written.append(repaired)
        _check_mapping(options.mapping, found)
        _write_tables(report.label_plan.schema, written, temporary)
        write_json(temporary / "repairs.json", {"repaired": repairs.done, "left_out": repairs.left_out})
    return repairs


def check_repaired(report: DatasetReport, output: Path, *, patient: str | None = None) -> list[Finding]:
    """Return the problems that remain in the repaired copy of a dataset."""
    return check_dataset(output, DataConfig(patient=patient), schema=report.label_plan.schema).problems


def _write_tables(labels: LabelSchema | None, cases: list[Case], output: Path) -> None:
    """Write what ``images/`` and ``labels/`` cannot hold: names of values, patients, annotated labels."""
    if labels is not None and not labels.regions and all(len(values) == 1 for values in labels.names.values()):
        table = {name: values[0] for name, values in labels.names.items()}
        ignored = {} if labels.ignore_value is None else {"ignore": labels.ignore_value}
        if labels.output_values[0] == 0 and "ignore" not in table and not labels.collapse_instances:
            write_json(output / "labels.json", {"labels": table | ignored})
    if any(case.patient is not None or case.labeled is not None for case in cases):
        write_manifest(cases, output)


def resample_label_map(label: Scan, grid: Grid) -> tuple[Array, int]:
    """Resample a label map onto another grid by nearest neighbor.

    Returns:
        The values (*S), 0 outside of the label map, and the number of voxels outside of it.
    """
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
    """Return the copies to leave out: case → the one that is kept, one without problems if there is any."""
    faulty = {case for f in report.problems if f.topic not in ("duplicate", "leak") for case in f.affected}
    copies: dict[str, str] = {}
    for ids in report.copies:
        kept = next((i for i in ids if i not in faulty), ids[0])
        copies |= {i: kept for i in ids if i != kept}
    return copies


def _check_mapping(mapping: Mapping[int, int], found: set[int]) -> None:
    """Raises: ConfigError if a value to replace is not among the values found, unless none were found."""
    absent = [old for old in mapping if old not in found]
    if absent and found:
        raise ConfigError(
            f"--map {','.join(f'{old}={mapping[old]}' for old in absent)}: no label map to be written holds "
            f"{shorten_values(absent)}; they hold {shorten_values(sorted(found))}",
            hint="Correct the value, or leave it out: nothing was written.",
        )


def _repair_case(
    case: Case, output: Path, plan: LabelPlan, options: RepairOptions, found: set[int]
) -> tuple[Case, list[str]]:
    """Write one case; return it with its new files, and what was repaired.

    The values of its label map are added to ``found``.
    """
    if not case.label_files:
        raise DataError("no label map")
    scan = read_image(case)
    part = case.part or ""
    values, actions = _read_label_map(case, scan, plan.reader, options.same_shape)  # before anything is written
    images, done = _copy_image(case, scan, output / "images" / part)
    actions += done
    present = np.unique(values)
    changes = {old: new for old, new in options.mapping.items() if old in present}
    if changes:
        actions.append("label values mapped: " + ", ".join(f"{old} to {new}" for old, new in changes.items()))
    others = _map_undeclared(present, plan.schema, options.mapping)
    if others:
        meaning = plan.schema.others if plan.schema else ""
        listed = ", ".join(f"{old} to {new}" for old, new in others.items())
        actions.append(f"undeclared label values set by data.labels.others={meaning}: {listed}")
    values = _mapped(values, changes | others)
    target = output / "labels" / part / f"{case.id}{output_suffix(case.image)}"
    smallest = np.result_type(np.min_scalar_type(int(values.min())), np.min_scalar_type(int(values.max())))
    with write_atomic(target) as temporary:
        reader_for(case.image).write_label_map(temporary, values.astype(smallest), scan, None)
    found.update(present.tolist())
    repaired = replace(
        case, image=images[0], other_channels=tuple(images[1:]), label=target, masks={}, foreground=None
    )
    return repaired, actions


def _map_undeclared(values: Array, labels: LabelSchema | None, mapping: Mapping[int, int]) -> dict[int, int]:
    """Return what ``data.labels.others`` maps undeclared values to: the background or the ignored value."""
    if labels is None or labels.others == "refuse" or labels.collapse_instances:
        return {}
    new = labels.output_values[0] if labels.others == "background" else labels.ignore_value
    known = labels.declared_values | set(mapping)
    undeclared = [int(v) for v in values if int(v) not in known]
    return {} if new is None else dict.fromkeys(undeclared, new)


def _mapped(values: Array, changes: Mapping[int, int]) -> Array:
    if not changes:
        return values
    wide = values.astype(np.int64)
    return np.select([wide == old for old in changes], [np.int64(new) for new in changes.values()], wide)


def _copy_image(case: Case, scan: Scan, folder: Path) -> tuple[list[Path], list[str]]:
    """Copy the files of an image unchanged, or write it: a part of a file, or with non-finite voxels replaced.

    Returns:
        The files of its channels, and what was repaired.
    """
    try:
        check_finite(scan)
    except NonFiniteError:
        path = folder / f"{case.id}.nii.gz"
        return [path], [_write_finite(scan, path)]
    if any(split_selector(path)[1] is not None for path in case.images):
        return [_write_image(scan, folder, case.id)], []
    numbers = [n if case.other_channels else None for n in range(len(case.images))]
    return [_copy(p, folder, case.id, n) for p, n in zip(case.images, numbers, strict=True)], []


def _read_label_map(
    case: Case, scan: Scan, reader: LabelReader, same_shape: SameShape
) -> tuple[Array, list[str]]:
    """Read the values of a label map on the grid of its image; return also what was repaired."""
    try:
        label_map = reader.read(case, scan)
    except LabelGridError as error:
        if case.label is None or scan.kind == "picture":
            raise
        if error.same_shape and same_shape == "leave-out":
            raise DataError(
                f"{error.message}: it has the image's shape, so its header or its voxels may be wrong",
                hint="Choose with --same-shape=image-grid or --same-shape=resample.",
            ) from error
        label = read_scan(case.label)
        if error.same_shape and same_shape == "image-grid":
            return as_label_map(label), [f"label map takes the image's grid ({error.message})"]
        values, outside = resample_label_map(label, scan.grid)
        if not values.any() and as_label_map(label).any():
            raise DataError(f"the label map is entirely outside its image ({error.message})") from error
        beyond = f"; {outside} voxels of the image lie outside of it and are 0" if outside else ""
        return values, [f"label map resampled onto its image ({error.message}){beyond}"]
    assert label_map is not None
    converted = label_map.dtype.startswith("float")
    return label_map.values, (
        [f"label map stored as {label_map.dtype} written as integers"] if converted else []
    )


def _copy(path: Path, folder: Path, case_id: str, channel: int | None) -> Path:
    """Copy one image under its case's name; return the copy."""
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
    """Write a scan with non-finite voxels replaced by the lowest finite value; return what was done."""
    if scan.kind != "volume":
        raise DataError(f"{scan.path}: pixels are NaN or infinite", path=scan.path)
    bad = ~np.isfinite(scan.array)
    if bad.all():
        raise DataError("no voxel of the image is finite")
    lowest = float(scan.array[~bad].min()) if (~bad).any() else 0.0
    _write_image(replace(scan, array=np.where(bad, lowest, scan.array)), path.parent, image_stem(path))
    return f"{int(bad.sum())} non-finite voxels set to {lowest:g}"


def _write_image(scan: Scan, folder: Path, name: str) -> Path:
    """Write an image, channels last, as NIfTI or, of a picture, as TIFF; return the file."""
    voxels = scan.array[0] if len(scan.array) == 1 else np.moveaxis(scan.array, 0, -1)
    folder.mkdir(parents=True, exist_ok=True)
    if scan.kind == "picture":
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, voxels, photometric="minisblack", planarconfig="contig", compression="zlib")
    else:
        path = folder / f"{name}.nii.gz"
        write_nifti(path, voxels, scan)
    return path
