"""Objects of pictures that are larger than memory, from file to file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from medseg.data.tiled.tiled_image import TiledImage
from medseg.geometry import Array
from medseg.inference.batch.outputs.instance_files import InstanceWriter
from medseg.inference.model.instance_prediction import InstanceDecoder
from medseg.inference.model.prediction import PreparedTiledImage
from medseg.inference.model.protocols import TiledSegmenter
from medseg.inference.sliding_window.options import Execution
from medseg.instances.strips import Strip


def segment_instance_rows(
    segmenter: TiledSegmenter, prepared: PreparedTiledImage, execution: Execution, writer: InstanceWriter
) -> Iterator[tuple[int, Array, Array]]:
    """Decode the objects of a picture in bands of rows, from the top down, and write their files.

    Args:
        segmenter: the model.
        prepared: the picture.
        execution: where windows are computed.
        writer: receives the objects.

    Yields:
        The first row, the numbers of the objects (n, W) uint32, and the label values of their classes (n, W).
    """
    header, image = segmenter.header, prepared.image
    chunks, axis = segmenter.instance_chunks(prepared, execution)
    classes = [np.zeros(1, np.int64)]
    values = np.array(header.labels.output_values)
    for strip in InstanceDecoder(header).strips(chunks, image.shape, (1.0, 1.0), axis):
        writer.add(strip.instances, _mean_intensities(image, strip))
        classes.append(strip.instances.classes)
        table = values[np.concatenate(classes)].astype(np.min_scalar_type(int(values.max())))
        yield strip.start, strip.label_map, table[strip.label_map]
    writer.finish(image.shape)


def _mean_intensities(image: TiledImage, strip: Strip) -> Array:
    """Return the mean intensities (N, C) of the objects of a strip."""
    found = strip.instances
    if not len(found):
        return np.zeros((0, image.samples))
    top, bottom = int(found.boxes[:, 0, 0].min()), int(found.boxes[:, 0, 1].max())
    pixels = image.channels((slice(top, bottom), slice(0, image.shape[1])), image.samples)
    boxes = found.boxes.copy()
    boxes[:, 0] -= top
    return replace(found, shape=pixels.shape[1:], boxes=boxes).mean_intensities(pixels)
