"""Pictures too large for the memory: read window by window, label maps written row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.readers import split_selector
from medseg.data.labels.schema import smallest_integer
from medseg.data.tiled.formats import open_tiled
from medseg.data.tiled.tiff_writer import TiledTiffWriter
from medseg.data.tiled.tiled_image import TiledImage
from medseg.errors import DataError
from medseg.files import write_atomic
from medseg.geometry import Array
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.prediction import PreparedTiledImage
from medseg.inference.model.predictor import Predictor
from medseg.inference.sliding_window.options import Execution
from medseg.inference.sliding_window.prediction import Decided
from medseg.report.palette import Legend, value_palette
from medseg.report.pictures import overlay, panel, save_png, to_uint8

OUTPUT_SUFFIX = ".tif"
OVERVIEW = 2048
"""Pixels of an overlay's longer side at most."""


def open_if_large(predictor: Predictor, case: Case) -> TiledImage | None:
    """The case's picture, if it is one for windows (:func:`open_tiled`) and the model takes pictures.

    Raises: DataError as there, and if the model's settings need the whole picture.
    """
    header, settings = predictor.header, predictor.header.inference
    if header.spatial_dims != 2 or header.preprocess.slices is not None or case.other_channels:
        return None
    if split_selector(case.image)[1] is not None:
        return None
    image = open_tiled(case.image, above=settings.large_above * 1e6, level=settings.level)
    if image is None:
        return None
    reason, way_out = "", ""
    if case.foreground is not None:
        reason, way_out = (
            "a foreground needs it in memory",
            "--set large_above=1e6, or skip_above and skip_below",
        )
    elif any(member.header.inference.roi_size is None for member in predictor.members):
        reason, way_out = "the model has no window", "--set roi_size=[512,512]"
    elif settings.postprocess.names:
        reason = "inference.postprocess needs whole components"
        way_out = "--set 'postprocess={}'"
    if reason:
        image.close()
        raise DataError(f"{case.image}: is read window by window, but {reason}. Give {way_out}.")
    return image


@dataclass(frozen=True)
class LargeOutputs:
    """Where a large picture's label map goes, its probabilities and its overlays, if they are wanted."""

    case: str
    label_map: Path
    probabilities: Path | None = None
    overlays: Path | None = None

    @classmethod
    def of(
        cls, case: str, label_map: Path, output: Path, *, probabilities: bool, overlays: bool
    ) -> LargeOutputs:
        """Within a folder of outputs."""
        return cls(
            case,
            label_map,
            output / "probabilities" / f"{case}{OUTPUT_SUFFIX}" if probabilities else None,
            output / "overlays" if overlays else None,
        )


def segment_large(predictor: Predictor, ready: PreparedTiledImage, outputs: LargeOutputs) -> tuple[str, ...]:
    """Segment a picture into files: a tiled label map with a pyramid, probabilities (H, W, K) float16; and the
    panel and overlay of a reduced picture. Returns what is to be said of it.

    The files are whole or not there. Raises: DataError if the picture is damaged.
    """
    image, labels = ready.image, predictor.header.labels
    stride = max(1, -(-max(image.shape) // OVERVIEW))
    dtype = smallest_integer((*labels.output_values, *(labels.painted_values if labels.regions else ())))
    colors = value_palette(labels)

    def attempt(execution: Execution) -> tuple[Array, tuple[str, ...]]:
        with ExitStack() as stack:
            hard = TiledTiffWriter(
                stack.enter_context(write_atomic(outputs.label_map)), image.shape, dtype,
                colors=colors, um=image.um,
            )  # fmt: skip
            stack.enter_context(hard)
            soft = None
            if outputs.probabilities is not None:
                place = stack.enter_context(write_atomic(outputs.probabilities))
                shape = (*image.shape, labels.num_classes)
                soft = stack.enter_context(
                    TiledTiffWriter(place, shape, np.float16, um=image.um, pyramid=False)
                )
            reduced: list[Array] = []
            for start, rows, scores in _rows(predictor, ready, soft is not None, execution):
                hard.add(rows)
                reduced.append(rows[-start % stride :: stride, ::stride].copy())
                if soft is not None:
                    assert scores is not None
                    soft.add(scores)
            for writer in (hard, soft):
                if writer is not None:
                    writer.finish()
            return np.concatenate(reduced), execution.notes

    reduced, notes = predictor.with_less_memory(attempt)
    if outputs.overlays is not None:
        _write_overlays(outputs.overlays, outputs.case, image, stride, reduced, predictor.header)
    return (describe(image), *notes)


def describe(image: TiledImage) -> str:
    """How a picture was read."""
    h, w = image.shape
    level = f", level {image.level} of {len(image.levels)}" if len(image.levels) > 1 else ""
    return f"{h}×{w} pixels{level}, read window by window"


def _rows(
    predictor: Predictor, ready: PreparedTiledImage, probabilities: bool, execution: Execution
) -> Iterator[tuple[int, Array, Array | None]]:
    """The first row, label values (n, W) and probabilities (n, W, K) of each band, from the top down."""
    for one in predictor.segment_chunks(ready, execution, probabilities=probabilities):
        yield one.start, _values(predictor, one), _scores(one)


def _values(predictor: Predictor, one: Decided) -> Array:
    labels, hard = predictor.header.labels, one.hard.cpu().numpy()
    return labels.paint(hard) if labels.regions else labels.decode(hard[0])


def _scores(one: Decided) -> Array | None:
    return None if one.scores is None else one.scores.half().movedim(0, -1).cpu().numpy()


def _write_overlays(
    folder: Path, case: str, image: TiledImage, stride: int, reduced: Array, header: ModelHeader
) -> None:
    """A panel, and the prediction laid over the picture, both of every ``stride``-th pixel."""
    picture = _reduced_picture(image, stride, reduced.shape)
    picture = picture if picture.dtype == np.uint8 else to_uint8(picture)
    legend = Legend.of(header.labels)
    classes = header.labels.encode(reduced, case).astype(np.int64) - 1
    save_png(folder / f"{case}.png", panel(picture, None, classes, spacing=(1.0, 1.0), legend=legend))
    save_png(folder / "reduced" / f"{case}.png", overlay(picture, classes, legend))


def _reduced_picture(image: TiledImage, stride: int, shape: tuple[int, ...]) -> Array:
    """Pixels (H, W) or (H, W, 3) of about every ``stride``-th row, from the coarsest level that has them."""
    fitting = [i for i, level in enumerate(image.levels) if i >= image.level and min(
        n / m for n, m in zip(level, shape, strict=True)) >= 1]  # fmt: skip
    source = image.at(fitting[-1]) if fitting else image
    step = max(1, min(n // m for n, m in zip(source.shape, shape, strict=True)))
    pixels = source.sampled(stride if source.shape == image.shape else step, image.samples)
    rows, columns = (
        np.minimum(np.arange(m) * n // m, n - 1) for n, m in zip(pixels.shape[1:], shape, strict=True)
    )
    pixels = pixels[:, rows[:, None], columns]
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
