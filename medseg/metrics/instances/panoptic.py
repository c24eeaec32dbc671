"""Panoptic quality over a dataset of things and stuff (Kirillov et al. 2019, arXiv:1801.00868)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medseg.metrics.instances.overlaps import Array

VOID = 0
"""Number of pixels without a segment."""


@dataclass(frozen=True)
class PanopticMap:
    """The segments of one image.

    Attributes:
        segments: (*S) numbers, 0 for void.
        classes: number of a segment → its class.
        crowds: numbers of segments that are groups of objects, which count neither as found nor as missed.
    """

    segments: Array
    classes: Mapping[int, int]
    crowds: frozenset[int] = field(default_factory=frozenset[int])


@dataclass
class PanopticCounts:
    """What was counted of one class.

    Attributes:
        tp: matched segments.
        fp: predicted segments without a match.
        fn: reference segments without a match.
        iou: sum of the IoU of the matches.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou: float = 0.0

    def add(self, other: PanopticCounts) -> None:
        """Add what was counted elsewhere."""
        self.tp, self.fp, self.fn = self.tp + other.tp, self.fp + other.fp, self.fn + other.fn
        self.iou += other.iou

    def scores(self) -> dict[str, float]:
        """Return ``pq`` (= ``sq`` · ``rq``), ``sq`` and ``rq``; nan without segments."""
        total = self.tp + (self.fp + self.fn) / 2
        if not total:
            return {"pq": math.nan, "sq": math.nan, "rq": math.nan}
        return {
            "pq": self.iou / total, "sq": self.iou / self.tp if self.tp else 0.0, "rq": self.tp / total
        }  # fmt: skip


def count_panoptic(pairs: Iterable[tuple[PanopticMap, PanopticMap]]) -> dict[int, PanopticCounts]:
    """Match the segments of reference and prediction of each image; the counts of each class over all images.

    Segments of a class match if their IoU is above 0.5; pixels that are void in the reference do not count.
    Predicted segments that lie by more than half in void, or in crowds of their class, are left out. These are
    the rules of COCO's ``panopticapi``.

    Args:
        pairs: reference and prediction of each image, used one by one.

    Example:
        >>> reference = PanopticMap(np.array([1, 1, 2, 2]), {1: 5, 2: 6})
        >>> prediction = PanopticMap(np.array([7, 7, 7, 8]), {7: 5, 8: 6})
        >>> counts = count_panoptic([(reference, prediction)])
        >>> round(counts[5].iou, 3), (counts[6].tp, counts[6].fp, counts[6].fn)
        (0.667, (0, 1, 1))
    """
    counts: dict[int, PanopticCounts] = {}
    for reference, prediction in pairs:
        _count_image(reference, prediction, counts)
    return counts


def panoptic_scores(
    counts: Mapping[int, PanopticCounts], things: Collection[int]
) -> dict[str, dict[str, float]]:
    """Return the mean ``pq``, ``sq`` and ``rq`` over the classes: of ``all``, ``things`` and ``stuff``.

    Classes without any segment are left out.

    Args:
        counts: class → counts.
        things: the classes that are countable.
    """
    groups = {
        "all": list(counts),
        "things": [one for one in counts if one in things],
        "stuff": [one for one in counts if one not in things],
    }
    return {name: _mean([counts[one].scores() for one in members]) for name, members in groups.items()}


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    defined = [row for row in rows if not math.isnan(row["pq"])]
    if not defined:
        return dict.fromkeys(("pq", "sq", "rq"), math.nan)
    return {key: float(np.mean([row[key] for row in defined])) for key in ("pq", "sq", "rq")}


def _count_image(reference: PanopticMap, prediction: PanopticMap, counts: dict[int, PanopticCounts]) -> None:
    shared = _shared(reference.segments, prediction.segments)
    own, theirs = _sizes(reference.segments), _sizes(prediction.segments)
    matched: tuple[set[int], set[int]] = (set(), set())
    for (first, second), pixels in shared.items():
        if first == VOID or second == VOID or first in reference.crowds:
            continue
        kind = reference.classes[first]
        if kind != prediction.classes[second]:
            continue
        union = own[first] + theirs[second] - pixels - shared.get((VOID, second), 0)
        if 2 * pixels > union:
            matched[0].add(first)
            matched[1].add(second)
            one = counts.setdefault(kind, PanopticCounts())
            one.tp += 1
            one.iou += pixels / union
    for number in own.keys() - matched[0] - reference.crowds - {VOID}:
        counts.setdefault(reference.classes[number], PanopticCounts()).fn += 1
    for number in theirs.keys() - matched[1] - {VOID}:
        kind = prediction.classes[number]
        crowds = [crowd for crowd in reference.crowds if reference.classes.get(crowd) == kind]
        left_out = sum(shared.get((where, number), 0) for where in (VOID, *crowds))
        if 2 * left_out <= theirs[number]:
            counts.setdefault(kind, PanopticCounts()).fp += 1


def _sizes(segments: Array) -> dict[int, int]:
    numbers, counts = np.unique(segments, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _shared(first: Array, second: Array) -> dict[tuple[int, int], int]:
    """Return the pixels that pairs of segments share."""
    base = int(second.max(initial=0)) + 1
    keys, counts = np.unique(first.astype(np.int64) * base + second.astype(np.int64), return_counts=True)
    return {divmod(key, base): count for key, count in zip(keys.tolist(), counts.tolist(), strict=True)}
