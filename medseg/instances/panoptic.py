"""Panoptic maps: separated things, and stuff, merged so that each pixel has one segment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Array
from medseg.instances.result import Instances


@dataclass(frozen=True)
class PanopticOptions:
    """How things and stuff are merged (Kirillov et al. 2019, arXiv:1801.00868, section 7).

    Attributes:
        score: things with a lower score are left out.
        visible: share of a thing that must not be covered by things with a higher score.
        smallest: stuff segments with fewer voxels are void.
    """

    score: float = 0.0
    visible: float = 0.5
    smallest: int = 64


DEFAULT_OPTIONS = PanopticOptions()


@dataclass(frozen=True)
class PanopticSegments:
    """The segments of one image.

    Attributes:
        segments: (*S) int32 numbers 1 … N, 0 for void.
        classes: (N,) class of each segment.
        things: (N,) bool, whether each is a thing.
        scores: (N,) of things; 1 for stuff.
    """

    segments: NDArray[np.int32]
    classes: NDArray[np.int64]
    things: NDArray[np.bool_]
    scores: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.classes)


def merge_panoptic(
    things: Instances, stuff: Array, stuff_classes: tuple[int, ...], options: PanopticOptions = DEFAULT_OPTIONS
) -> PanopticSegments:
    """Merge things and stuff: things cover each other by score, and stuff gets what they leave.

    Args:
        things: the objects, which may overlap.
        stuff: (*S) classes of the voxels.
        stuff_classes: the classes in ``stuff`` that are stuff; other voxels without a thing are void.
        options: thresholds.

    Example:
        >>> things = Instances.from_label_map(np.array([[1, 1, 0, 0]]), np.array([3]))
        >>> merged = merge_panoptic(things, np.array([[7, 7, 7, 0]]), (7,), PanopticOptions(smallest=1))
        >>> merged.segments.tolist(), merged.classes.tolist()
        ([[1, 1, 2, 0]], [3, 7])
    """
    segments = np.zeros(things.shape, np.int32)
    classes: list[int] = []
    scores: list[float] = []
    regions = list(things)
    for index in np.argsort(-things.scores, kind="stable").tolist():
        if things.scores[index] < options.score:
            break
        box, mask = regions[index]
        part = segments[box]
        free = mask & (part == 0)
        if np.count_nonzero(free) < max(options.visible * np.count_nonzero(mask), 1):
            continue
        classes.append(int(things.classes[index]))
        scores.append(float(things.scores[index]))
        part[free] = len(classes)
    count = len(classes)
    for kind in stuff_classes:
        region = (stuff == kind) & (segments == 0)
        if np.count_nonzero(region) >= max(options.smallest, 1):
            classes.append(kind)
            scores.append(1.0)
            segments[region] = len(classes)
    is_thing = np.arange(len(classes)) < count
    return PanopticSegments(segments, np.array(classes, np.int64), is_thing, np.array(scores, np.float64))
