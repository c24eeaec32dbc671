"""What is written of a prediction, whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.data.cases import Case
from medseg.data.nifti import save_nifti
from medseg.data.pictures import as_channels, picture_channels
from medseg.data.scans import Scan
from medseg.data.targets import read_target
from medseg.errors import ConfigError, DataError
from medseg.files import sha256_file, write_atomic, write_json, write_text
from medseg.geometry import Array, Grid, to_ras
from medseg.inference.dicom_objects import DicomKind, object_path
from medseg.inference.placing import Layout
from medseg.inference.predictor import Prediction
from medseg.inference.segmenter import Described, Segmenter
from medseg.report.palette import Legend
from medseg.report.pictures import overlay, panel, save_png, to_uint8

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Extras:
    """What is written beside the label maps (``dicom``: objects of cases that are DICOM series), and where."""

    probabilities: bool = False
    overlays: bool = False
    dicom: tuple[DicomKind, ...] = ()
    layout: Layout = "flat"


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case.

    Attributes:
        error: why it failed.
        notes: what had to be done to fit into memory.
    """

    case: str
    status: Status
    output: str | None = None
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()


NO_EXTRAS = Extras()


def refuse_stale(target: Path, record: Path, input_hash: str, digest: str) -> None:
    """Raises: DataError if an output that is there was made by another model or of another input."""
    made = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if made.get("input_sha256") != input_hash or made.get("model_sha256") != digest:
        raise DataError(
            f"{target}: exists, made by another model or of another input. Replace it with --overwrite, or "
            "choose another --output."
        )


def complete(case: str, output: Path, extras: Extras) -> bool:
    """Whether all that is asked for beside the label map is there."""
    if not all(object_path(output, case, kind).is_file() for kind in extras.dicom):
        return False
    asked = [("probabilities", extras.probabilities), ("overlays", extras.overlays)]
    return all(any((output / name).glob(f"{case}.*")) for name, wanted in asked if wanted)


def write_labels(output: Path, predictor: Segmenter, overwrite: bool) -> None:
    """``medseg.json``: what the values in the label maps mean."""
    labels = predictor.header.labels
    path = output / "medseg.json"
    content: dict[str, Any] = {
        "medseg_version": version("medseg"),
        "model_sha256": predictor.digest,
        "labels": labels.model_dump(mode="json"),
    }
    if path.is_file() and not overwrite:
        there = json.loads(path.read_text(encoding="utf-8")).get("labels") or {}
        drawn: dict[str, Any] = {"colours": {}, "codes": {}}
        if {**there, **drawn} != {**content["labels"], **drawn}:
            raise ConfigError(f"{output}: holds predictions with other labels; choose another --output")
    write_json(path, content)


def write_probabilities(folder: Path, case: str, prediction: Prediction) -> None:
    """4D NIfTI (classes last) for volumes; a compressed NumPy file, float16 (K, H, W), for pictures."""
    assert prediction.probabilities is not None
    if prediction.scan.kind == "volume":
        with write_atomic(folder / f"{case}.nii.gz") as temporary:
            save_nifti(temporary, np.moveaxis(prediction.probabilities, 0, -1), prediction.scan)
        return
    with write_atomic(folder / f"{case}.npz") as temporary:
        np.savez_compressed(temporary, probabilities=prediction.probabilities.astype(np.float16))


def write_overlay(folder: Path, case: Case, prediction: Prediction, header: Described) -> None:
    """A panel of image, reference (where there is one) and prediction; for a picture also the prediction laid
    over it at its own size, in ``full_size/``.
    """
    labels = header.labels
    scan = prediction.scan
    reference = read_target(case, scan, header.targets)
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
    pixels = as_channels(scan, 3 if picture_channels(scan) == 3 else 1)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


def provenance(
    predictor: Segmenter, case: Case, input_hash: str, output: Path, target: Path, seconds: float
) -> dict[str, Any]:
    """What a prediction was made of and by; no names of patients, no folders but those in ``output``."""
    return {
        "case": case.id,
        "output": target.relative_to(output).as_posix(),
        "input_sha256": input_hash,
        "output_sha256": sha256_file(target),
        "model_sha256": predictor.digest,
        "members": [member.digest for member in predictor.members],
        "medseg_version": version("medseg"),
        "torch_version": version("torch"),
        "device": str(predictor.device),
        "precision": str(predictor.dtype).removeprefix("torch.") if predictor.dtype else "float32",
        "backends": [member.backend.facts.record for member in predictor.members],
        "inference": predictor.header.inference.model_dump(mode="json"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
    }


def write_failures(output: Path, outcomes: list[CaseOutcome]) -> None:
    """``failures.csv``, where a case failed."""
    failed = [o for o in outcomes if o.status == "failed"]
    path = output / "failures.csv"
    if not failed:
        path.unlink(missing_ok=True)
        return
    stream = StringIO()
    writer = csv.DictWriter(stream, ["case", "error"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(asdict(o) for o in failed)
    write_text(path, stream.getvalue())
