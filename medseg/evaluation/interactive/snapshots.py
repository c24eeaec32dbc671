"""Small pictures of objects, kept until it is known which are the worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.interactive.cases import InteractiveCase, TargetObject
from medseg.evaluation.interactive.evaluation import ObjectResult
from medseg.evaluation.interactive.simulation import Trace
from medseg.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.report.media.figures.prompts import PromptPicture
from medseg.report.scaling import intensity_window, stretch

Array = NDArray[Any]


@dataclass(frozen=True)
class _Cut:
    """The slice that is shown: everything of a picture, one slice of a volume."""

    axis: int | None
    index: int = 0

    def plane(self, array: Array) -> Array:
        return array if self.axis is None else np.take(array, self.index, axis=self.axis)

    def points(self, voxels: Array) -> Array:
        """Return the positions (N, 2) of voxels (N, D) that lie within half a slice."""
        if self.axis is None:
            return voxels
        near = np.abs(voxels[:, self.axis] - self.index) <= 0.5
        return np.delete(voxels[near], self.axis, axis=1)


class Gallery:
    """Pictures of the objects with the lowest Dice; several threads may offer some.

    Args:
        most: most pictures.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[ObjectResult, PromptPicture]] = []
        self._lock = Lock()

    def offer(self, result: ObjectResult, draw: Callable[[], PromptPicture | None]) -> None:
        """Keep a picture of an object if it is among the worst; it is drawn only then."""
        with self._lock:
            if len(self._kept) >= self._most and (
                not self._kept or self._kept[-1][0].trace.final <= result.trace.final
            ):
                return
            picture = draw()
            if picture is None:
                return
            self._kept.append((result, picture))
            self._kept.sort(key=lambda one: one[0].trace.final)
            del self._kept[self._most :]

    def shown(self) -> list[tuple[ObjectResult, PromptPicture]]:
        """Return the objects and their pictures, the worst first."""
        with self._lock:
            return list(self._kept)


def take_snapshot(case: InteractiveCase, target: TargetObject, trace: Trace) -> PromptPicture | None:
    """Return a picture of the object, its last mask and the prompts; None without an image."""
    channels = case.channels()
    if channels is None:
        return None
    mask = np.zeros_like(target.mask) if trace.mask is None else trace.mask
    cut = _choose_cut(mask, target.mask)
    shown = channels[: 3 if len(channels) == 3 else 1]
    raw = np.stack([cut.plane(channel) for channel in shown], axis=-1)
    image = stretch(raw, intensity_window(raw, 1, 99))
    positive, negative = _marks(trace.prompts, cut, True), _marks(trace.prompts, cut, False)
    lines = _lines(trace.prompts, cut)
    return PromptPicture(image, cut.plane(target.mask), cut.plane(mask), positive, negative, lines)


def _choose_cut(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> _Cut:
    """Choose the slice with the largest error, or that of the object if there is none, along the last axis."""
    if reference.ndim == 2:
        return _Cut(None)
    wrong = mask != reference
    shown = wrong if wrong.any() else reference
    return _Cut(2, int(shown.sum(axis=(0, 1)).argmax()))


def _marks(prompts: Sequence[Prompt], cut: _Cut, positive: bool) -> Array:
    """Return the pixels (N, 2) of clicks and scribbles."""
    found: list[Array] = [np.zeros((0, 2))]
    for prompt in prompts:
        if isinstance(prompt, Point) and prompt.positive == positive:
            found.append(cut.points(np.array([prompt.position])))
        if isinstance(prompt, Scribble) and prompt.positive == positive:
            found.append(cut.points(np.asarray(prompt.voxels)))
    return np.concatenate(found)


def _lines(prompts: Sequence[Prompt], cut: _Cut) -> tuple[Array, ...]:
    """Return the outlines (N, 2) of boxes and lassos in the slice."""
    lines: list[Array] = []
    for prompt in prompts:
        if isinstance(prompt, Box):
            inside = cut.axis is None or prompt.lower[cut.axis] <= cut.index < prompt.upper[cut.axis]
            keep = [axis for axis in range(len(prompt.lower)) if axis != cut.axis]
            low, high = (np.array([corner[axis] for axis in keep]) for corner in (prompt.lower, prompt.upper))
            corners = [low, (low[0], high[1] - 1), high - 1, (high[0] - 1, low[1]), low]
            lines += [np.array(corners, float)] if inside else []
        if isinstance(prompt, Lasso) and (
            cut.axis is None or (prompt.axis, prompt.index) == (cut.axis, cut.index)
        ):
            lines.append(np.concatenate([prompt.vertices, prompt.vertices[:1]]))
    return tuple(lines)
