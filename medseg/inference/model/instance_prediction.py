"""Objects of a scan, decoded from the output of a network with a dense head."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medseg.data.preprocessing.pipeline import restore_orientation
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.prediction import PreparedScan
from medseg.inference.sliding_window.output_chunk import OutputChunk, assemble
from medseg.instances.decoding import DenseOutput, decode_instances
from medseg.instances.heads import InstanceHead
from medseg.instances.result import Instances
from medseg.instances.strips import Strip, StripDecoder, StripOptions, merge_strips

_WHOLE = 2**27
"""Values of an output up to which an image is decoded at once."""
_STRIP = 2**25
"""Values of a strip without its margins."""
_MARGIN = {2: 96, 3: 32}
"""Planes before and after a strip, by the number of axes."""


@dataclass(frozen=True)
class InstanceDecoder:
    """Decodes the objects of images from their chunks.

    Attributes:
        header: of the model.
        enlarged: by which the voxels of the image are larger than those that the network sees.
    """

    header: ModelHeader
    enlarged: float = 1.0

    @property
    def head(self) -> InstanceHead:
        """The dense head of the model."""
        head = self.header.head
        assert head is not None
        return head

    def decode(self, output: DenseOutput) -> Instances:
        """Decode the objects of an output."""
        if self.enlarged != 1:
            output = output.with_maps(self.head.enlarge(output.maps, self.enlarged))
        return decode_instances(self.head, output, self.header.inference.instances)

    def strips(
        self, chunks: Iterable[OutputChunk], shape: tuple[int, ...], spacing: tuple[float, ...], axis: int
    ) -> Iterator[Strip]:
        """Yield the objects of an image (*S), strip by strip along an axis.

        Args:
            chunks: whole planes of probabilities and maps (K + G, *s), in order.
            shape: of the image.
            spacing: distance between voxels, mm.
            axis: along which the chunks follow one another.
        """
        plane = self.channels * math.prod(shape) // shape[axis]
        options = StripOptions(axis, max(64, _STRIP // plane), _MARGIN[len(shape)])
        decoder = StripDecoder(self.decode, self.header.labels.num_classes, shape, spacing, options)
        return decoder.strips(chunk.tensor.cpu().numpy() for chunk in chunks)

    @property
    def channels(self) -> int:
        """Channels of the output: classes and maps."""
        return self.header.labels.num_classes + self.head.channels


def predict_instances(
    header: ModelHeader, prepared: PreparedScan, chunks: Iterable[OutputChunk], axis: int
) -> Instances:
    """Decode the objects of a scan, on its own grid; of large scans strip by strip.

    Args:
        header: of the model.
        prepared: the scan.
        chunks: probabilities and maps (K + G, *s) on the scan's grid, in the axis order of ``PreparedImage``.
        axis: along which the chunks follow one another.
    """
    first, scan, scale = prepared.inputs[0], prepared.scan, prepared.scale
    decoder = InstanceDecoder(header, 1.0 if scale is None else 1 / scale.factor)
    shape, spacing = first.target_shape, first.target_spacing
    if decoder.channels * math.prod(shape) <= _WHOLE:
        output = DenseOutput.split(assemble(chunks, shape), header.labels.num_classes, spacing)
        found = decoder.decode(output)
        label_map, classes, scores = found.label_map(), found.classes, found.scores
    else:
        label_map, classes, scores = merge_strips(decoder.strips(chunks, shape, spacing, axis), shape, axis)
    label_map = restore_orientation(label_map[None], first, scan, header.preprocess)[0]
    return Instances.from_label_map(label_map, classes, scores, spacing=scan.grid.spacing)
