"""Pictures larger than memory: read window by window, label maps written row by row."""

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
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.instance_files import InstanceWriter, instance_paths
from medseg.inference.batch.tiled_instances import segment_instance_rows
from medseg.inference.model.prediction import PreparedTiledImage
from medseg.inference.model.protocols import TiledSegmenter
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.options import Execution
from medseg.inference.sliding_window.output_chunk import SegmentedChunk
from medseg.report.palette import Legend, value_palette
from medseg.report.pictures import overlay, panel, save_png, to_uint8

OUTPUT_SUFFIX = ".tif"
OVERLAY_SIZE = 2048
"""Maximum number of pixels of the longer side of an overlay."""


@dataclass(frozen=True)
class TiledOutputs:
    """Outputs of a tiled picture.

    Attributes:
        case: id of the case.
        label_map: file of the label map.
        folder: output folder.
        options: which other outputs are written.
    """

    case: str
    label_map: Path
    folder: Path
    options: BatchOptions


@dataclass(frozen=True)
class _Rows:
    """Consecutive rows of a segmented picture.

    Attributes:
        start: index of the first row.
        values: (n, W) label values, or numbers of objects.
        shown: (n, W) label values.
        probabilities: (n, W, K) float32; None if not requested.
    """

    start: int
    values: Array
    shown: Array
    probabilities: Array | None = None


def open_tiled_image(segmenter: TiledSegmenter, case: Case) -> TiledImage | None:
    """Open the picture of a case if it is to be read window by window (:func:`open_tiled`); None otherwise.

    Raises: DataError as ``open_tiled``, or if the settings of the model need the whole picture in memory.
    """
    settings = segmenter.header.inference
    if case.other_channels or split_selector(case.image)[1] is not None:
        return None
    image = open_tiled(case.image, above=settings.large_above * 1e6, level=settings.level)
    if image is None:
        return None
    reason, hint = "", ""
    if case.foreground is not None:
        reason = "a foreground mask needs the whole picture in memory"
        hint = "Use --set large_above=1e6, or skip_above and skip_below instead of the mask."
    elif any(_has_no_window(one) for member in segmenter.members for one in member.settings):
        reason, hint = "the model has no window size", "Use --set roi_size=[512,512]."
    elif settings.postprocess.names:
        reason = "inference.postprocess needs whole components"
        hint = "Use --set 'postprocess={}'."
    if reason:
        image.close()
        raise DataError(
            f"{case.image}: is read window by window, but {reason}", hint=hint, case=case.id, path=case.image
        )
    return image


def _has_no_window(settings: InferenceConfig) -> bool:
    """Whether the whole picture is the window."""
    return settings.roi_size is None and settings.max_roi_size is None


def segment_tiled(
    segmenter: TiledSegmenter, prepared: PreparedTiledImage, outputs: TiledOutputs, staged: ExitStack
) -> tuple[str, ...]:
    """Segment a picture into files: a tiled label map with a pyramid and, if requested, probabilities
    (H, W, K) float32 and the panel and overlay of a reduced picture.

    Args:
        segmenter: the model.
        prepared: the picture.
        outputs: the files to write.
        staged: receives the temporary files; they get their final names when the stack is closed.

    Returns:
        Notes on what was reduced to fit into memory.

    Raises:
        DataError: the picture is damaged.
    """

    def attempt(execution: Execution) -> tuple[Array, tuple[str, ...]]:
        with ExitStack() as files:
            reduced = _write_rows(segmenter, prepared, outputs, execution, files)
            staged.push(files.pop_all())
        return reduced, execution.notes

    reduced, notes = segmenter.with_less_memory(attempt)
    if outputs.options.overlays:
        _write_overlays(segmenter, prepared.image, outputs, reduced, staged)
    return notes


def _write_rows(
    segmenter: TiledSegmenter,
    prepared: PreparedTiledImage,
    outputs: TiledOutputs,
    execution: Execution,
    files: ExitStack,
) -> Array:
    """Write label map and probabilities from the top down; returns a reduced label map for the overlay."""
    image, labels = prepared.image, segmenter.header.labels
    dtype = smallest_integer((*labels.output_values, *(labels.painted_values if labels.regions else ())))
    if segmenter.header.instances is not None:
        dtype = np.dtype(np.uint32)
    label_map = TiledTiffWriter(
        files.enter_context(write_atomic(outputs.label_map)), image.shape, dtype,
        colors=value_palette(labels), spacing_um=image.spacing_um,
    )  # fmt: skip
    writers = [files.enter_context(label_map)]
    if outputs.options.probabilities:
        path = outputs.folder / "probabilities" / f"{outputs.case}{OUTPUT_SUFFIX}"
        shape = (*image.shape, labels.num_classes)
        temporary = files.enter_context(write_atomic(path))
        writers.append(
            files.enter_context(
                TiledTiffWriter(temporary, shape, np.float32, spacing_um=image.spacing_um, pyramid=False)
            )
        )
    stride = _overlay_stride(image)
    reduced: list[Array] = []
    if segmenter.header.instances is None:
        segmented = _segment_rows(segmenter, prepared, execution, probabilities=len(writers) > 1)
    else:
        paths = instance_paths(outputs.folder, outputs.case)
        height, width = (finest / own for finest, own in zip(image.levels[0], image.shape, strict=True))
        own = InstanceWriter(paths, outputs.case, image.path.name, labels, files, enlarged=(height, width))
        bands = segment_instance_rows(segmenter, prepared, execution, own)
        segmented = (_Rows(*band) for band in bands)
    for rows in segmented:
        label_map.add(rows.values)
        reduced.append(rows.shown[-rows.start % stride :: stride, ::stride].copy())
        if rows.probabilities is not None:
            writers[1].add(rows.probabilities)
    for writer in writers:
        writer.finish()
    return np.concatenate(reduced)


def describe_tiled_image(image: TiledImage) -> str:
    """Describe the size of a picture, and the level that is read."""
    h, w = image.shape
    level = f", level {image.level} of {len(image.levels)}" if len(image.levels) > 1 else ""
    return f"{h}×{w} pixels{level}, read window by window"


def _segment_rows(
    segmenter: TiledSegmenter, prepared: PreparedTiledImage, execution: Execution, *, probabilities: bool
) -> Iterator[_Rows]:
    """Segment a picture in bands of rows, from the top down."""
    for chunk in segmenter.segment_chunks(prepared, execution, probabilities=probabilities):
        values = _label_values(segmenter, chunk)
        yield _Rows(chunk.labels.start, values, values, _probabilities(chunk))


def _label_values(segmenter: TiledSegmenter, chunk: SegmentedChunk) -> Array:
    labels, decisions = segmenter.header.labels, chunk.labels.tensor.cpu().numpy()
    return labels.paint(decisions) if labels.regions else labels.decode(decisions[0])


def _probabilities(chunk: SegmentedChunk) -> Array | None:
    return (
        None if chunk.probabilities is None else chunk.probabilities.tensor.float().movedim(0, -1).cpu().numpy()
    )


def _overlay_stride(image: TiledImage) -> int:
    """Every how many pixels an overlay has one."""
    return max(1, -(-max(image.shape) // OVERLAY_SIZE))


def _write_overlays(
    segmenter: TiledSegmenter, image: TiledImage, outputs: TiledOutputs, reduced: Array, staged: ExitStack
) -> None:
    """Write a panel and an overlay of the reduced picture."""
    picture = _reduced_picture(image, reduced.shape)
    picture = picture if picture.dtype == np.uint8 else to_uint8(picture)
    labels, folder = segmenter.header.labels, outputs.folder / "overlays"
    legend = Legend.of(labels)
    classes = labels.encode(reduced, outputs.case).astype(np.int64) - 1
    pictures = {
        folder / f"{outputs.case}.png": panel(picture, None, classes, spacing=(1.0, 1.0), legend=legend),
        folder / "reduced" / f"{outputs.case}.png": overlay(picture, classes, legend),
    }
    for path, content in pictures.items():
        save_png(staged.enter_context(write_atomic(path)), content)


def _reduced_picture(image: TiledImage, shape: tuple[int, ...]) -> Array:
    """Read about every ``stride``-th pixel, (H, W) or (H, W, 3), from the coarsest level that has enough."""
    stride = _overlay_stride(image)
    fitting = [i for i, level in enumerate(image.levels) if i >= image.level and min(
        n / m for n, m in zip(level, shape, strict=True)) >= 1]  # fmt: skip
    source = image.at(fitting[-1]) if fitting else image
    step = max(1, min(n // m for n, m in zip(source.shape, shape, strict=True)))
    pixels = source.subsample(stride if source.shape == image.shape else step, image.samples)
    rows, columns = (
        np.minimum(np.arange(m) * n // m, n - 1) for n, m in zip(pixels.shape[1:], shape, strict=True)
    )
    pixels = pixels[:, rows[:, None], columns]
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
