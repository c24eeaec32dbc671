"""What is written of a prediction, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.nifti import write_nifti
from medseg.data.io.pictures import display_channels
from medseg.data.scans import Scan
from medseg.files import sha256_file, sha256_json, write_atomic
from medseg.geometry import Array, Grid, to_ras
from medseg.inference.batch.dicom_objects import object_path
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.provenance import Record
from medseg.inference.model.prediction import Prediction
from medseg.inference.model.protocols import ModelDescription, Segmenter
from medseg.report.palette import Legend
from medseg.report.pictures import overlay, panel, save_png, to_uint8

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case.

    Attributes:
        error: why it failed.
        notes: what had to be done to fit into memory.
        out_of_memory: whether it failed for want of memory.
        refused: whether it failed as a file in the output folder is not replaced.
    """

    case: str
    status: Status
    output: str | None = None
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()
    out_of_memory: bool = False
    refused: bool = False


def complete(record: Record, options: BatchOptions) -> bool:
    """Whether a result has everything that is asked for."""
    folders = {"probabilities": options.probabilities, "overlays": options.overlays}
    if not all(record.holds(name) for name, wanted in folders.items() if wanted):
        return False
    wanted = (object_path(record.output, record.case, kind) for kind in options.dicom)
    return all(record.names(path) and path.is_file() for path in wanted)


def write_probabilities(folder: Path, case: str, prediction: Prediction) -> None:
    """4D NIfTI (classes last) for volumes; a compressed NumPy file, float16 (K, H, W), for pictures."""
    assert prediction.probabilities is not None
    if prediction.scan.kind == "volume":
        with write_atomic(folder / f"{case}.nii.gz") as temporary:
            write_nifti(temporary, np.moveaxis(prediction.probabilities, 0, -1), prediction.scan)
        return
    with write_atomic(folder / f"{case}.npz") as temporary:
        np.savez_compressed(temporary, probabilities=prediction.probabilities.astype(np.float16))


def write_overlay(folder: Path, case: Case, prediction: Prediction, header: ModelDescription) -> None:
    """A panel of image, reference (where there is one) and prediction; for a picture also the prediction laid
    over it at its own size, in ``full_size/``.
    """
    labels = header.labels
    scan = prediction.scan
    reference = header.label_reader.read(case, scan)
    maps = [None if reference is None else reference.values, prediction.label_map]
    classes = [None if m is None else labels.encode(m, case.id).astype(np.int64) - 1 for m in maps]
    image, spacing = _display(scan), scan.grid.spacing
    if scan.kind == "volume":
        classes = [None if c is None else to_ras(c[None], scan.grid.affine)[0][0] for c in classes]
        turned, affine = to_ras(scan.array[:1], scan.grid.affine)
        image, spacing = turned[0], Grid(turned.shape[1:], affine).spacing
    legend = Legend.of(labels)
    save_png(folder / f"{case.id}.png", panel(image, classes[0], classes[1], spacing=spacing, legend=legend))
    if scan.kind == "picture" and classes[1] is not None:
        picture = image if image.dtype == np.uint8 else to_uint8(image)
        save_png(folder / "full_size" / f"{case.id}.png", overlay(picture, classes[1], legend))


def _display(scan: Scan) -> Array:
    """A picture as (H, W) or (H, W, 3) pixels; a volume's first channel."""
    if scan.kind == "volume":
        return scan.array[0]
    pixels = display_channels(scan)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


def provenance(
    predictor: Segmenter, case: Case, made_of: dict[str, Any], output: Path, target: Path, seconds: float
) -> dict[str, Any]:
    """What a prediction was made of and by; no names of patients, no folders but those in ``output``."""
    return {
        "case": case.id,
        "output": target.relative_to(output).as_posix(),
        "input_sha256": made_of["input"],
        "output_sha256": sha256_file(target),
        "made_of_sha256": sha256_json(made_of),
        "made_of": made_of,
        "model_sha256": predictor.digest,
        "members": [member.digest for member in predictor.members],
        "medseg_version": version("medseg"),
        "torch_version": version("torch"),
        "device": str(predictor.device),
        "precision": str(predictor.dtype).removeprefix("torch.") if predictor.dtype else "float32",
        "backends": [member.backend.info.record for member in predictor.members],
        "inference": predictor.header.inference.model_dump(mode="json"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
    }
