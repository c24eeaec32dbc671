"""Many scans through one predictor: finished ones skipped, failures listed, nothing half-written."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.data.cases import Case, join_problems
from medseg.data.dicom import holds_dicom
from medseg.data.facts import image_digest
from medseg.data.layouts import NO_CHOICE, FoldersLayout, LooseLayout, channel_groups, find_dataset, layout_of
from medseg.data.nifti import save_nifti
from medseg.data.pictures import as_channels, picture_channels
from medseg.data.readers import is_image_file, reader_for, split_mark, stem_of
from medseg.data.scans import Scan
from medseg.data.targets import read_target
from medseg.device import is_out_of_memory
from medseg.errors import ConfigError, DataError, MedsegError, OutOfMemoryError
from medseg.files import sha256_file, write_atomic, write_json, write_text
from medseg.geometry import Array, Grid, to_ras
from medseg.inference.modelfile import ModelHeader
from medseg.inference.predictor import Prediction, Predictor
from medseg.report.palette import Legend, value_palette
from medseg.report.pictures import overlay, panel, save_png, to_uint8

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Extras:
    """What is written beside the label maps."""

    probabilities: bool = False
    overlays: bool = False


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case; ``error`` says why it failed."""

    case: str
    status: Status
    output: str | None = None
    seconds: float = 0.0
    error: str | None = None


def find_inputs(inputs: list[Path]) -> list[Case]:
    """The scans among files and folders (searched below, too); a folder's ``images/`` stands for it.

    Files of a folder that are all named ``<case>_0000``, ``<case>_0001``… are the channels of one case; the
    folders of BraTS, BIDS, nnU-Net and the other layouts with several channels, and manifests, are known.
    Raises: DataError if one is not there, none is found, or two would share a name.
    """
    cases = [case for given in inputs for case in _cases_in(given)]
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
    series = {p for p in root.rglob("*") if p.is_dir() and is_image_file(p)}
    loose = {p for p in root.rglob("*") if p.is_file() and is_image_file(p) and p.parent not in series}
    if not series | loose:
        raise DataError(f"{given}: no image files in this folder")
    groups = channel_groups(sorted(series | loose), [])
    return [Case(name, files[0], other_channels=files[1:]) for name, files in groups.items()]


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


def infer_cases(
    predictor: Predictor,
    cases: list[Case],
    output: Path,
    *,
    extras: Extras = Extras(),
    overwrite: bool = False,
    report: Callable[[CaseOutcome], None] = lambda outcome: None,
) -> list[CaseOutcome]:
    """Segment each case into ``output``; a case that fails is listed and the rest goes on.

    Writes ``<case>.<ext>``, ``medseg.json``, ``provenance/<case>.json`` and, where asked for,
    ``probabilities/`` and ``overlays/``; ``failures.csv`` if any case failed. A case whose output is there,
    made by the same model of the same input, is skipped.
    Raises: ConfigError if ``output`` holds predictions with other labels and ``overwrite`` is not given;
    OutOfMemoryError if there is not enough memory for a case.
    """
    output = Path(output)
    _write_labels(output, predictor, overwrite)
    outcomes: list[CaseOutcome] = []
    for case in cases:
        began = time.monotonic()
        try:
            outcome = _infer_case(predictor, case, output, extras, overwrite, began)
        except OutOfMemoryError:
            raise
        except (MedsegError, OSError, ValueError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"case {case.id}: out of memory. Lower inference.batch_size or inference.roi_size in the "
                    "training's settings, or infer with --device cpu. Finished cases are kept."
                ) from error
            outcome = CaseOutcome(case.id, "failed", None, time.monotonic() - began, str(error))
        outcomes.append(outcome)
        report(outcome)
    _write_failures(output, outcomes)
    return outcomes


def _infer_case(
    predictor: Predictor, case: Case, output: Path, extras: Extras, overwrite: bool, began: float
) -> CaseOutcome:
    target = output / f"{case.id}{reader_for(case.image).output_suffix}"
    record = output / "provenance" / f"{case.id}.json"
    for path in case.images:
        if not split_mark(path)[0].exists():
            raise DataError(f"{path}: no such file")
    input_hash = image_digest(case)
    if target.exists() and not overwrite:
        _refuse_stale(target, record, input_hash, predictor.digest)
        if _complete(case.id, output, extras):
            return CaseOutcome(case.id, "skipped", str(target))
    prediction = predictor.predict(case, probabilities=extras.probabilities)
    if extras.probabilities:
        _write_probabilities(output / "probabilities", case.id, prediction)
    if extras.overlays:
        _write_overlay(output / "overlays", case, prediction, predictor.header)
    with write_atomic(target) as temporary:
        colours = value_palette(predictor.header.labels)
        reader_for(case.image).write_label_map(temporary, prediction.label_map, prediction.scan, colours)
    seconds = time.monotonic() - began
    write_json(record, _provenance(predictor, case, input_hash, target, seconds))
    return CaseOutcome(case.id, "done", str(target), seconds)


def _refuse_stale(target: Path, record: Path, input_hash: str, digest: str) -> None:
    made = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if made.get("input_sha256") != input_hash or made.get("model_sha256") != digest:
        raise DataError(
            f"{target}: exists, made by another model or of another input. Replace it with --overwrite, or "
            "choose another --output."
        )


def _complete(case: str, output: Path, extras: Extras) -> bool:
    asked = [("probabilities", extras.probabilities), ("overlays", extras.overlays)]
    return all(any((output / name).glob(f"{case}.*")) for name, wanted in asked if wanted)


def _write_labels(output: Path, predictor: Predictor, overwrite: bool) -> None:
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
        if {**there, "colours": {}} != {**content["labels"], "colours": {}}:
            raise ConfigError(f"{output}: holds predictions with other labels; choose another --output")
    write_json(path, content)


def _write_probabilities(folder: Path, case: str, prediction: Prediction) -> None:
    """4D NIfTI (classes last) for volumes; a compressed NumPy file, float16 (K, H, W), for pictures."""
    assert prediction.probabilities is not None
    if prediction.scan.kind == "volume":
        with write_atomic(folder / f"{case}.nii.gz") as temporary:
            save_nifti(temporary, np.moveaxis(prediction.probabilities, 0, -1), prediction.scan)
        return
    with write_atomic(folder / f"{case}.npz") as temporary:
        np.savez_compressed(temporary, probabilities=prediction.probabilities.astype(np.float16))


def _write_overlay(folder: Path, case: Case, prediction: Prediction, header: ModelHeader) -> None:
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


def _provenance(
    predictor: Predictor, case: Case, input_hash: str, target: Path, seconds: float
) -> dict[str, Any]:
    return {
        "case": case.id,
        "input_sha256": input_hash,
        "output_sha256": sha256_file(target),
        "model_sha256": predictor.digest,
        "medseg_version": version("medseg"),
        "torch_version": version("torch"),
        "device": str(predictor.device),
        "precision": str(predictor.dtype).removeprefix("torch.") if predictor.dtype else "float32",
        "inference": predictor.header.inference.model_dump(mode="json"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
    }


def _write_failures(output: Path, outcomes: list[CaseOutcome]) -> None:
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
