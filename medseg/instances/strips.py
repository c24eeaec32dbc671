"""Objects of images of any length, decoded strip by strip with a margin, so that the strips do not show.

An object belongs to the strip in which it begins. Each strip is decoded with planes before and after it; the
margin grows where an object reaches its end. Away from the decisions that depend on more than the margin, the
result is that of the whole image, and memory does not grow with the image's length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from medseg.geometry import Array
from medseg.instances.decoding import DenseOutput
from medseg.instances.label_maps import renumber
from medseg.instances.result import Instances

Decode = Callable[[DenseOutput], Instances]


@dataclass(frozen=True)
class StripOptions:
    """How an image is divided.

    Attributes:
        axis: spatial axis along which strips follow one another.
        core: planes of a strip.
        margin: planes before and after it.
    """

    axis: int = 0
    core: int = 512
    margin: int = 96


@dataclass(frozen=True)
class Strip:
    """The objects that begin in some planes, and the finished planes.

    Attributes:
        instances: the objects; their boxes are in voxels of the whole image.
        start: first finished plane.
        label_map: uint32 finished planes; object i of all strips together has the number i + 1.
    """

    instances: Instances
    start: int
    label_map: Array


@dataclass
class StripDecoder:
    """Decodes planes as they come.

    Args:
        decode: decodes the objects of a part of the image.
        classes: number of classes in the output.
        shape: of the image, *S.
        spacing: distance between voxels, mm.
        options: how the image is divided.
    """

    decode: Decode
    classes: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    options: StripOptions = StripOptions()
    count: int = field(default=0, init=False)
    _planes: list[Array] = field(default_factory=list[Array], init=False)
    _first: int = field(default=0, init=False)
    """First plane in memory."""
    _stop: int = field(default=0, init=False)
    """Plane after the last one in memory."""
    _core: int = field(default=0, init=False)
    """First plane of the strip that is decoded next."""
    _painted: Array | None = field(default=None, init=False)
    """Label map of the planes from ``_core`` on, painted by earlier strips."""
    _margin: int = field(default=0, init=False)

    def strips(self, outputs: Iterable[Array]) -> Iterator[Strip]:
        """Yield the strips of outputs (K + G, *s), which are the planes of the image in order."""
        self._margin = self.options.margin
        length = self.shape[self.options.axis]
        for output in outputs:
            self._planes.append(np.array(output))
            self._stop += output.shape[1 + self.options.axis]
            while self._stop >= min(self._core + self.options.core + self._margin, length) > self._core:
                strip = self._next(length)
                if strip is None:
                    break
                yield strip
                if self._core >= length:
                    return

    def _next(self, length: int) -> Strip | None:
        """Decode the next strip; None if it needs more planes."""
        axis, end = self.options.axis, min(self._core + self.options.core, length)
        if self._stop == length and length - end < self.options.margin:
            end = length
        part = self._window()
        found = self.decode(DenseOutput.split(part, self.classes, self.spacing))
        first = found.boxes[:, axis, 0] + self._first
        own = (first >= self._core) & (first < end)
        cut = own & (found.boxes[:, axis, 1] + self._first >= self._stop)
        if cut.any() and self._stop < length:
            self._margin *= 2
            return None
        self._margin = self.options.margin
        return self._finish(_moved(found.select(own), axis, self._first, self.shape), end)

    def _window(self) -> Array:
        """Return the planes in memory as one array."""
        if len(self._planes) > 1:
            self._planes = [np.concatenate(self._planes, axis=1 + self.options.axis)]
        return self._planes[0]

    def _finish(self, found: Instances, end: int) -> Strip:
        """Paint the objects of a strip, and forget the planes that are not needed any more.

        An object that lies by half or more in those of earlier strips is one of them, and is left out.
        """
        axis = self.options.axis
        painted = self._enlarged()
        kept: list[int] = []
        for index, (box, mask) in enumerate(found):
            inside = list(box)
            inside[axis] = slice(box[axis].start - self._core, box[axis].stop - self._core)
            region = painted[tuple(inside)]
            free = mask & (region == 0)
            if 2 * np.count_nonzero(free) > np.count_nonzero(mask):
                kept.append(index)
                region[free] = self.count + len(kept)
        found = found.select(np.array(kept, np.int64))
        self.count += len(found)
        start, planes = self._core, end - self._core
        done, rest = np.split(painted, [planes], axis=axis)
        self._painted, self._core = rest.copy(), end
        keep = max(end - self.options.margin - self._first, 0)
        window = self._window()
        self._planes = [np.take(window, range(keep, window.shape[1 + axis]), axis=1 + axis)]
        self._first += keep
        return Strip(found, start, done)

    def _enlarged(self) -> Array:
        """Return the painted planes from the current strip to the last plane in memory."""
        axis = self.options.axis
        shape = list(self.shape)
        shape[axis] = self._stop - self._core
        painted = np.zeros(shape, np.uint32)
        if self._painted is not None:
            before = [slice(None)] * len(shape)
            before[axis] = slice(0, self._painted.shape[axis])
            painted[tuple(before)] = self._painted
        return painted


def _moved(found: Instances, axis: int, by: int, shape: tuple[int, ...]) -> Instances:
    """Return objects of a part of an image in voxels of the whole image."""
    boxes = found.boxes.copy()
    boxes[:, axis] += by
    return replace(found, shape=shape, boxes=boxes)


def merge_strips(strips: Iterable[Strip], shape: tuple[int, ...], axis: int) -> tuple[Array, Array, Array]:
    """Put strips together.

    Args:
        strips: of one image.
        shape: of the image.
        axis: along which they follow one another.

    Returns:
        Label map (*S) uint32 with the numbers 1 … N, classes (N,) and scores (N,).
    """
    label_map = np.zeros(shape, np.uint32)
    classes: list[Array] = [np.zeros(0, np.int64)]
    scores: list[Array] = [np.zeros(0)]
    for strip in strips:
        region = [slice(None)] * len(shape)
        region[axis] = slice(strip.start, strip.start + strip.label_map.shape[axis])
        label_map[tuple(region)] = strip.label_map
        classes.append(strip.instances.classes)
        scores.append(strip.instances.scores)
    numbers, old = renumber(label_map)  # an object may be covered by others
    return numbers.astype(np.uint32), np.concatenate(classes)[old - 1], np.concatenate(scores)[old - 1]
