"""Pictures of validation cases: the first ones, and the worst of the latest validation."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.geometry import Array
from medseg.metrics.overlap import Counts, dice, mean_defined
from medseg.report.palette import Legend

_LOGGER = logging.getLogger(__name__)

_MOST, _SIZE = 3, 256
_SAMPLES = 3
"""Of a large case, this many voxels are drawn per pixel of a side."""
_REST = 30
"""Pictures are drawn again after this many times the time that drawing took."""
_LEAST_PAUSE, _PAUSE_SHARE = 60.0, 0.05
"""Pictures are drawn again after this many seconds, and this share of the time since the start."""


class ValidationPictures:
    """Draws cases while they are validated.

    A picture shows image, reference, prediction and errors; a volume in the axial plane through its largest
    error. Drawing takes at most about 3% of the time of a training, and about 100 times a day.

    Args:
        labels: of the dataset.
    """

    def __init__(self, labels: LabelSchema) -> None:
        self.labels = labels
        self._first: dict[str, Any] = {}
        self._worst: tuple[float, str, Any] | None = None
        self._began, self._next, self._took = time.monotonic(), 0.0, 0.0

    @property
    def is_due(self) -> bool:
        """Whether cases are to be drawn now."""
        return time.monotonic() >= self._next

    def add(self, case: CachedCase, decided: Array, classes: Array, counts: Sequence[Counts]) -> None:
        """Draw a case if it is one of the first or the worst so far; an error is logged only.

        Args:
            case: the case.
            decided: (1, *S) predicted classes or (R, *S) predicted regions.
            classes: (*S) reference classes, with -1 for ignored voxels.
            counts: of each label.
        """
        began = time.monotonic()
        score = mean_defined([dice(one) for one in counts])
        is_worst = not math.isnan(score) and (self._worst is None or score < self._worst[0])
        if len(self._first) < _MOST or is_worst:
            try:
                picture = _draw(case, decided, classes, self.labels)
            except Exception as error:  # a picture is not worth a training
                _LOGGER.debug("%s cannot be drawn: %s", case.id, error)
            else:
                if len(self._first) < _MOST:
                    self._first[case.id] = picture
                if is_worst:
                    self._worst = score, case.id, picture
        self._took += time.monotonic() - began

    def take(self) -> dict[str, Array]:
        """Return the pictures drawn in a validation, if any, by ``val/CASE``, and forget them."""
        if not self._took:
            return {}
        pictures = {f"val/{name}": picture for name, picture in self._first.items()}
        if self._worst is not None:
            pictures["val/worst_case"] = self._worst[2]
        self._first.clear()
        now = time.monotonic()
        self._next = now + max(_LEAST_PAUSE, _REST * self._took, _PAUSE_SHARE * (now - self._began))
        self._worst, self._took = None, 0.0
        return pictures


def _draw(case: CachedCase, decided: Array, classes: Array, labels: LabelSchema) -> Array:
    """Draw a case; of a large one only every n-th voxel, so that time and memory do not grow with its size."""
    from medseg.report.media.case_view import CaseView
    from medseg.report.media.figures.case import display_size, plane_strip
    from medseg.report.media.planes import display_planes

    image = np.asarray(case.image)
    colored = image.ndim == 3 and len(image) == 3
    shown = np.moveaxis(image, 0, -1) if colored else image[0]
    step = tuple(max(1, n // (_SAMPLES * _SIZE)) for n in classes.shape)
    spacing = tuple(mm * n for mm, n in zip(case.spacing, step, strict=True))
    cut = tuple(slice(None, None, n) for n in step)
    shown, classes, decided = shown[cut], classes[cut], decided[(slice(None), *cut)]
    predicted = decided[0].astype(np.int64)
    if labels.regions:
        painted = labels.paint(decided.astype(bool))
        predicted = labels.encode(painted, case.id).astype(np.int64) - 1
    view = CaseView(case.id, spacing, shown, classes, predicted, Legend.of(labels), modality="")
    planes = display_planes(view)
    return plane_strip(view, planes[0], display_size(planes[0], planes[:1], _SIZE))
