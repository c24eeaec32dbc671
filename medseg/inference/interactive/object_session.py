"""One object of a scan, segmented prompt by prompt in windows around the prompts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from medseg.geometry import Array
from medseg.inference.interactive.occupancy import Occupancy
from medseg.inference.interactive.windows import (
    Bools,
    Floats,
    ScanWindows,
    nearest_any,
    nearest_mask,
    nearest_region,
    resample_logits,
)
from medseg.prompts.encoding import FULL, PROMPT_CHANNELS, draw_prompts, empty_channels, set_mask
from medseg.prompts.extent import prompt_box
from medseg.prompts.frame import Frame
from medseg.prompts.prompts import Prompt
from medseg.prompts.users.regions import bounding_box

Predict = Callable[[torch.Tensor], torch.Tensor]
"""Maps inputs (1, C + 7, *W) to logits (1, 2, *W)."""

_GROWTH = 2.0
"""Factor of the zoom if what changes touches the border of the window."""
_ROOM = 1.25
"""Factor of the size of a box that a zoomed out window covers at least."""
_TOUCH = 1 / 400
"""Share of the voxels of a face of the window above which something touches it."""
_MARGIN = 1 / 8
"""Share of a refined window that is not written: close to its border the network sees too little."""


@dataclass(frozen=True)
class _Change:
    """What a prompt changed, to take it back."""

    region: tuple[slice, ...]
    before: Bools
    filled: Occupancy


@dataclass(frozen=True)
class _Answer:
    """What the network says in a window.

    Attributes:
        frame: the window.
        logits: (*W) of the object, above 0 where it is likely.
        change: (*W) where the network differs from the mask before.
    """

    frame: Frame
    logits: Array
    change: Bools


@dataclass
class ObjectSession:
    """Segments one object; time and memory of a prompt do not depend on the size of the scan.

    The window contains the object and all prompts if it is large enough for them, otherwise the new prompt. If
    what changes touches the border of the window, it zooms out; the result is then refined in windows of the
    network's own resolution (Isensee et al. 2025, arXiv:2503.08373).

    Attributes:
        windows: reads windows of the scan.
        predict: the network.
        mask: (*S) bool, with the axes of the scan.
        refinements: largest number of windows that refine the result of a zoomed out window.
        prompts: the prompts so far.
    """

    windows: ScanWindows
    predict: Predict
    mask: Bools
    refinements: int = 3
    prompts: list[Prompt] = field(default_factory=list[Prompt])
    _filled: Occupancy = field(init=False)
    _history: list[list[_Change]] = field(default_factory=list[list[_Change]])

    def __post_init__(self) -> None:
        self._filled = Occupancy.of(self._view)

    @property
    def _view(self) -> Bools:
        """The mask with the axes of the image."""
        return self.windows.oriented(self.mask)

    def add(self, prompt: Prompt) -> None:
        """Add a prompt and segment the object again."""
        self.prompts.append(prompt)
        self._history.append([])
        try:
            with torch.inference_mode():
                self._segment(prompt)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Take back the last prompt; nothing happens if there is none."""
        if not self.prompts:
            return
        self.prompts.pop()
        for change in reversed(self._history.pop()):
            self._view[change.region] = change.before
            self._filled = change.filled

    def _segment(self, prompt: Prompt) -> None:
        lower, upper = self._focus(prompt)
        zoom, near = self._zoom_for(upper - lower), None
        while True:
            answer = self._answer(self.windows.frame((lower + upper) / 2, zoom))
            near = answer if zoom == 1 else near
            if zoom >= self.windows.largest_zoom or not self._touches(answer.change, answer.frame):
                break
            zoom = min(zoom * _GROWTH, self.windows.largest_zoom)
            first, stop = self._box_of(answer.change, answer.frame)
            lower, upper = np.minimum(lower, first), np.maximum(upper, stop)
        if zoom > 1 and answer.change.any():
            self._write_coarse(answer, prompt)
        elif near is not None:  # what is too small for the zoomed out window is in the first one
            self._write(near, self.windows.covered(near.frame))

    def _write_coarse(self, answer: _Answer, prompt: Prompt) -> None:
        """Change the mask as a zoomed out window does, and refine the border of the object there."""
        room = 1 / np.array(answer.frame.scale)
        first, stop = self._box_of(answer.change, answer.frame)
        ends = zip(np.floor(first - room), np.ceil(stop + room), strict=True)
        around = tuple(slice(max(int(a), 0), max(int(b), 0)) for a, b in ends)
        region = _intersection(around, self.windows.covered(answer.frame))
        if region is None:
            return
        self._write(answer, region)
        for center in self._refined_centers(prompt, region, answer):
            near = self._answer(self.windows.frame(center, 1.0))
            self._write(near, self.windows.covered(near.frame, _MARGIN))

    def _focus(self, prompt: Prompt) -> tuple[Floats, Floats]:
        """Return the box (first, stop) that the window has to cover.

        It is that of the object and all prompts if a window of the network's resolution covers it, otherwise
        that of the new prompt.
        """
        boxes = [self._prompt_box(one) for one in self.prompts]
        extent = self._filled.box
        if extent is not None:
            boxes.append(_ends(extent))
        lower, upper = np.min([a for a, _ in boxes], axis=0), np.max([b for _, b in boxes], axis=0)
        return (lower, upper) if self._zoom_for(upper - lower) == 1 else self._prompt_box(prompt)

    def _prompt_box(self, prompt: Prompt) -> tuple[Floats, Floats]:
        """Return the box (first, stop) of a prompt, in voxels of the image."""
        whole = self.windows.frame(np.zeros(len(self.windows.length)), 1.0)
        natural = Frame(
            whole.shape, whole.axes, whole.flipped, whole.length, (0.0,) * len(whole.shape),
            (1.0,) * len(whole.shape),
        )  # fmt: skip
        faces = np.sort(natural.faces(np.stack(prompt_box(prompt))), axis=0)
        return faces[0], faces[1]

    def _zoom_for(self, size: Floats) -> float:
        """Return the zoom at which a window covers a box of this size, with some room."""
        needed = float((size * _ROOM / self.windows.size(1.0)).max())
        fits = float((size / self.windows.size(1.0)).max()) <= 1
        return 1.0 if fits else min(needed, self.windows.largest_zoom)

    def _answer(self, frame: Frame) -> _Answer:
        """Run the network in a window."""
        channels, before = empty_channels(frame.shape), np.zeros(frame.shape, bool)
        if self._filled.box is not None:
            before = self.windows.read_mask(self._view, frame)
            set_mask(channels, before)
        draw_prompts(channels, self.prompts, frame)
        image = self.windows.read(frame)
        joined = np.empty((len(image) + PROMPT_CHANNELS, *frame.shape), np.float32)
        joined[: len(image)] = image
        np.divide(channels, FULL, out=joined[len(image) :], dtype=np.float32)
        logits = self.predict(torch.as_tensor(joined)[None])[0].float()
        margin = (logits[1] - logits[0]).cpu().numpy()
        return _Answer(frame, margin, (margin > 0) != before)

    def _touches(self, mask: Bools, frame: Frame) -> bool:
        """Return whether a mask (*W) touches a face of the window that does not lie at the scan's border."""
        for axis, length in enumerate(self.windows.length):
            stop = frame.start[axis] + frame.shape[axis] / frame.scale[axis]
            for index, open_ in ((0, frame.start[axis] > 0), (-1, stop < length)):
                face = mask.take(index, axis)
                if open_ and face.sum() > max(2, _TOUCH * face.size):
                    return True
        return False

    def _box_of(self, mask: Bools, frame: Frame) -> tuple[Floats, Floats]:
        """Return the box (first, stop) of a mask (*W) of a window, in voxels of the image."""
        box = bounding_box(mask)
        assert box is not None
        ends = np.array([[part.start for part in box], [part.stop for part in box]], float)
        faces = ends / np.array(frame.scale) + np.array(frame.start)
        return faces[0], faces[1]

    def _write(self, answer: _Answer, region: tuple[slice, ...]) -> None:
        """Change the mask in a region of a window where the network does; the rest keeps all its detail."""
        grown = _grown(answer.change)
        changed = nearest_region(grown, answer.frame, region)
        if changed is None:
            return
        view, filled = self._view, self._filled
        before = view[changed].copy()
        # beside a changed voxel, the border lies where the interpolated logits change their sign
        written = nearest_mask(grown, answer.frame, changed)
        after = np.where(written, resample_logits(answer.logits, answer.frame, changed), before)
        replaced = filled.replaced(changed, before, after)
        self._history[-1].append(_Change(changed, before, filled))
        view[changed], self._filled = after, replaced

    def _refined_centers(self, prompt: Prompt, region: tuple[slice, ...], coarse: _Answer) -> list[Floats]:
        """Return centers of windows where the object's border changed, the nearest to the prompt first."""
        first, stop = _ends(region)
        step = self.windows.size(1.0) * (1 - 2 * _MARGIN)
        counts = np.maximum(np.ceil((stop - first) / step), 1).astype(int)
        lines: list[Floats] = [
            a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(first, stop, counts, strict=True)
        ]
        lower, upper = self._prompt_box(prompt)
        here = (lower + upper) / 2
        centers: list[Floats] = [np.array(center, float) for center in itertools.product(*lines)]
        centers.sort(key=lambda center: float((((center - here) / step) ** 2).sum()))
        holding = (center for center in centers if self._holds_border(center, coarse))
        return list(itertools.islice(holding, self.refinements))

    def _holds_border(self, center: Floats, coarse: _Answer) -> bool:
        """Return whether a window around a center contains voxels of the object and others, and a change."""
        region = self.windows.covered(self.windows.frame(center, 1.0), _MARGIN / 2)
        if not nearest_any(coarse.change, coarse.frame, region):
            return False
        part = self._view[region]
        return bool(part.any()) and not bool(part.all())


def _grown(mask: Bools) -> Bools:
    """Return a mask with the voxels that touch it."""
    for axis in range(mask.ndim):
        wide, thin = np.moveaxis(mask.copy(), axis, 0), np.moveaxis(mask, axis, 0)
        wide[1:] |= thin[:-1]
        wide[:-1] |= thin[1:]
        mask = np.moveaxis(wide, 0, axis)
    return mask


def _intersection(a: tuple[slice, ...] | None, b: tuple[slice, ...]) -> tuple[slice, ...] | None:
    if a is None:
        return None
    parts = tuple(slice(max(s.start, t.start), min(s.stop, t.stop)) for s, t in zip(a, b, strict=True))
    return parts if all(part.start < part.stop for part in parts) else None


def _ends(region: tuple[slice, ...]) -> tuple[Floats, Floats]:
    return np.array([s.start for s in region], float), np.array([s.stop for s in region], float)
