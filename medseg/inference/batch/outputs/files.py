"""Files written for a prediction besides the label map, and the outcome of a case."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.nifti import write_nifti
from medseg.data.io.pictures import display_image
from medseg.files import sha256_file, sha256_json, write_atomic
from medseg.geometry import Grid, to_ras
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.dicom_objects import object_path
from medseg.inference.batch.outputs.provenance import Record
from medseg.inference.model.prediction import Prediction
from medseg.inference.model.protocols import AnySegmenter, ModelDescription
from medseg.report.media.figures.objects import draw_instances
from medseg.report.palette import Legend
from medseg.report.pictures import overlay, panel, save_png, to_uint8
from medseg.system.version import medseg_version

Status = Literal["done", "skipped", "kept", "failed"]


@dataclass(frozen=True)
class CaseOutcome:
    """The outcome of one case of a batch.

    Attributes:
        case: id of the case.
        status: ``done``, ``skipped`` (its result exists), ``kept`` (a result of other inputs or settings was
            not replaced) or ``failed``.
        output: the label map's file, unless the case failed.
        seconds: time spent on the case; waiting for other cases does not count.
        error: why it failed, or how the result that was kept was made.
        notes: what is worth knowing about the input, or about how the result was computed.
        warnings: what differs from the training, with advice; one line each.
        out_of_memory: whether it failed for lack of memory.
        existing_file: whether it failed because an existing file is not replaced.
    """

    case: str
    status: Status
    output: str | None = None
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    out_of_memory: bool = False
    existing_file: bool = False

    def describe(self) -> str:
        """One line: the status, with the seconds, notes and warnings, or with the error.

        Example:
            >>> CaseOutcome("liver_1", "done", "out/liver_1.nii.gz", 2.34).describe()
            'liver_1: done, 2.3 s'
        """
        if self.status in ("kept", "failed"):
            return f"{self.case}: {self.status}: {self.error}"
        seconds = f", {self.seconds:.1f} s" if self.seconds else ""
        text = f"{self.case}: {self.status}{seconds}" + "".join(f" ({note})" for note in self.notes)
        return text + (f"; differs from the training: {'; '.join(self.warnings)}" if self.warnings else "")


def has_all_outputs(record: Record, options: BatchOptions) -> bool:
    """Whether a result has every file that the options request."""
    folders = {"probabilities": options.probabilities, "overlays": options.overlays}
    if not all(record.has_file_in(name) for name, requested in folders.items() if requested):
        return False
    objects = (object_path(record.output, record.case, kind) for kind in options.dicom)
    return all(record.includes(path) and path.is_file() for path in objects)


def write_probabilities(output: Path, case: str, prediction: Prediction, staged: ExitStack) -> None:
    """Write ``probabilities/``: 4D NIfTI (classes last) for volumes, a compressed NumPy file with an array
    (K, H, W) float32 for pictures: float16 rounds 0.9998 to 1, and the log-likelihood of a wrong pixel to inf.

    Args:
        output: output folder.
        case: id of the case.
        prediction: with probabilities.
        staged: receives the temporary file; it gets its final name when the stack is closed.
    """
    assert prediction.probabilities is not None
    suffix = ".nii.gz" if prediction.scan.kind == "volume" else ".npz"
    temporary = staged.enter_context(write_atomic(output / "probabilities" / f"{case}{suffix}"))
    if prediction.scan.kind == "volume":
        write_nifti(temporary, np.moveaxis(prediction.probabilities, 0, -1), prediction.scan)
    else:
        np.savez_compressed(temporary, probabilities=prediction.probabilities.astype(np.float32))


def write_overlays(
    output: Path, case: Case, prediction: Prediction, header: ModelDescription, staged: ExitStack
) -> None:
    """Write ``overlays/``: a panel of image, reference (if the case has one) and prediction; for pictures also
    an overlay of the original size in ``full_size/``.

    Args:
        output: output folder.
        case: the case.
        prediction: its prediction.
        header: labels of the model, and how it reads label files.
        staged: receives the temporary files; they get their final names when the stack is closed.
    """
    folder, labels, scan = output / "overlays", header.labels, prediction.scan
    reference = header.label_reader.read(case, scan)
    maps = [None if reference is None else reference.values, prediction.label_map]
    classes = [None if m is None else labels.encode(m, case.id).astype(np.int64) - 1 for m in maps]
    image, spacing = display_image(scan), scan.grid.spacing
    if scan.kind == "volume":
        classes = [None if c is None else to_ras(c[None], scan.grid.affine)[0][0] for c in classes]
        oriented, affine = to_ras(scan.array[:1], scan.grid.affine)
        image, spacing = oriented[0], Grid(oriented.shape[1:], affine).spacing
    legend = Legend.of(labels)
    path = staged.enter_context(write_atomic(folder / f"{case.id}.png"))
    save_png(path, panel(image, classes[0], classes[1], spacing=spacing, legend=legend))
    if scan.kind == "picture" and classes[1] is not None:
        picture = image if image.dtype == np.uint8 else to_uint8(image)
        path = staged.enter_context(write_atomic(folder / "full_size" / f"{case.id}.png"))
        found = prediction.instances
        save_png(
            path,
            overlay(picture, classes[1], legend) if found is None else draw_instances(picture, found, legend),
        )


def describe_result(
    segmenter: AnySegmenter, case: Case, recipe: dict[str, Any], label_map: Path
) -> dict[str, Any]:
    """Describe how a result was made; contains no patient names and no folders."""
    return {
        "case": case.id,
        "input_sha256": recipe["input"],
        "output_sha256": sha256_file(label_map),
        "made_of_sha256": sha256_json(recipe),
        "made_of": recipe,
        "model_sha256": segmenter.digest,
        "members": [member.digest for member in segmenter.members],
        "medseg_version": medseg_version(),
        "torch_version": version("torch"),
        "device": str(segmenter.device),
        "precision": str(segmenter.dtype).removeprefix("torch.") if segmenter.dtype else "float32",
        "backends": [member.backend.info.record for member in segmenter.members],
        "inference": segmenter.header.inference.model_dump(mode="json"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
