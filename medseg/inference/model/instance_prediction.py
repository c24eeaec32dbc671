"""Objects of a scan, decoded from the output of a network with a dense head, or found by a detector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from medseg.data.preprocessing.pipeline import restore_orientation
from medseg.errors import ConfigError
from medseg.geometry import Array
from medseg.inference.detection import DetectionRun, to_instances
from medseg.inference.model.ensemble.member import EnsembleMember
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.prediction import PreparedScan
from medseg.inference.sliding_window.output_chunk import OutputChunk, assemble
from medseg.instances.decoding import DenseOutput, decode_instances
from medseg.instances.heads.base import InstanceHead
from medseg.instances.label_maps import renumber
from medseg.instances.result import Instances
from medseg.instances.strips import Strip, StripDecoder, StripOptions, merge_strips
from medseg.models.detection import Detector

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
        enlarged: factor by which the image is larger, in voxels, than the one that the network sees.
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
        """Decode the objects of an output; the smallest size is that at the scale of the network."""
        options = self.header.inference.instances
        if self.enlarged != 1:
            output = output.with_maps(self.head.enlarge(output.maps, self.enlarged))
            smallest = options.smallest * self.enlarged ** len(output.spacing)
            options = options.model_copy(update={"smallest": smallest})
        return decode_instances(self.head, output, options)

    def numbers(self, output: torch.Tensor) -> Array:
        """Return the numbers (h, w) of the objects in the output (K + G, h, w) for a picture."""
        split = DenseOutput.split(output.cpu().numpy(), self.header.labels.num_classes, (1.0, 1.0))
        return self.decode(split).label_map()

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


def detect_instances(
    members: Sequence[EnsembleMember], prepared: PreparedScan, dtype: torch.dtype | None
) -> Instances:
    """Find the objects of a scan by a detector, on the scan's own grid.

    Args:
        members: one model; detectors are not averaged.
        prepared: the scan.
        dtype: of mixed precision; None for float32.

    Raises:
        ConfigError: there are several models.
    """
    if len(members) > 1:
        raise ConfigError("detectors cannot be averaged", hint="Give one --model.")
    [member], first, scan = members, prepared.inputs[0], prepared.scan
    assert isinstance(member.network, Detector)
    device = next(member.network.parameters()).device
    run = DetectionRun(member.network, device, dtype, member.header.inference.instances.score)
    found = to_instances(run.detect(first.array).resized(first.target_shape), first.target_spacing)
    if scan.kind == "picture":  # the grid has no orientation, and objects may overlap
        return replace(found, spacing=tuple(scan.grid.spacing))
    label_map, old = renumber(found.label_map())  # an object may be covered by others
    label_map = restore_orientation(label_map[None], first, scan, member.header.preprocess)[0]
    classes, scores = found.classes[old - 1], found.scores[old - 1]
    return Instances.from_label_map(label_map, classes, scores, spacing=scan.grid.spacing)
