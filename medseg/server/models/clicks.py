"""Open images with prompts: several clients, one model in memory."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.prompts import Box, Lasso, Point, Prompt, PromptSession, Scribble
from medseg.server.errors import RefusedError, UnknownIdError
from medseg.server.models.pool import ModelPool, PromptModel

_MOST_PROMPTS = 1000
_MOST_VOXELS = 1 << 20


@dataclass
class OpenImage:
    """One object of one image that a client segments with prompts."""

    model: PromptModel
    session: PromptSession
    scan: Scan
    plane: tuple[int, int] | None
    key: tuple[str, ...]
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def mask(self, of_plane: Array | None = None) -> Array:
        """Return the mask (*S) on the image's grid."""
        mask = self.session.mask if of_plane is None else of_plane
        if self.plane is None:
            return np.asarray(mask, dtype=bool)
        axis, index = self.plane
        volume = np.zeros(self.scan.grid.shape, bool)
        np.moveaxis(volume, axis, 0)[index] = mask
        return volume


class PromptSessions:
    """The open images of all clients.

    Sessions that are not used for a time are closed, and the one that was not used for longest if there are
    too many.

    Args:
        models: the models.
        most: number of open sessions.
        seconds: time after which an unused session is closed.
    """

    def __init__(self, models: ModelPool, most: int = 16, seconds: float = 3600.0) -> None:
        self._models, self._most, self._seconds = models, most, seconds
        self._open: OrderedDict[str, OpenImage] = OrderedDict()
        self._lock = threading.Lock()

    def open(
        self,
        model: str,
        scan: Scan,
        *,
        key: tuple[str, ...] = (),
        plane: tuple[int, int] | None = None,
        mask: Array | None = None,
    ) -> str:
        """Open an image and return the id of its session.

        Args:
            model: name of a model that answers prompts.
            scan: the image.
            key: what identifies the session for :meth:`find`.
            plane: axis and index of a slice, for models of pictures on a volume.
            mask: (*S) bool, mask to correct.

        Raises:
            UnknownIdError: there is no such model.
            RefusedError: the model answers no prompts, or there is no such slice.
        """
        found = self._models.get(model)
        if not isinstance(found, PromptModel):
            raise RefusedError("this model answers no prompts")
        if plane is None:
            session = found.open(scan)
        else:
            axis, index = plane
            if scan.kind != "volume" or not 0 <= axis < 3 or not 0 <= index < scan.grid.shape[axis]:
                raise RefusedError("there is no such slice")
            spacing = tuple(s for a, s in enumerate(scan.grid.spacing) if a != axis)
            session = found.open_slice(np.take(scan.array, index, axis=axis + 1), spacing)
        entry = OpenImage(found, session, scan, plane, key)
        id = secrets.token_urlsafe(16)
        with self._lock:
            self._drop_old()
            while len(self._open) >= self._most:
                self._open.popitem(last=False)
            self._open[id] = entry
        if mask is not None:
            self.restart(id, mask)
        return id

    def find(self, key: tuple[str, ...]) -> str | None:
        """Return the session with a key; None if there is none."""
        with self._lock:
            self._drop_old()
            return next((id for id, entry in self._open.items() if entry.key == key), None)

    def add(self, id: str, prompt: Prompt) -> Array:
        """Add a prompt and return the mask (*S) bool."""
        entry = self._entry(id)
        check_prompt(prompt, entry)
        with entry.lock:
            if len(entry.session.prompts) >= _MOST_PROMPTS:
                raise RefusedError(f"an object has at most {_MOST_PROMPTS} prompts")
            with entry.model.turns.take():
                return entry.mask(entry.session.add(prompt))

    def set(self, id: str, prompts: Sequence[Prompt], mask: Array | None = None) -> Array:
        """Answer a list of prompts, of which those that are already in the session are not answered again."""
        entry = self._entry(id)
        if len(prompts) > _MOST_PROMPTS:
            raise RefusedError(f"an object has at most {_MOST_PROMPTS} prompts")
        for prompt in prompts:
            check_prompt(prompt, entry)
        with entry.lock, entry.model.turns.take():
            known = _missing(entry.session.prompts, prompts)
            if known is None or mask is not None:
                entry.session.restart(_of_plane(mask, entry))
                known = list(prompts)
            for prompt in known:
                entry.session.add(prompt)
            return entry.mask()

    def undo(self, id: str) -> Array:
        """Take back the last prompt and return the mask."""
        entry = self._entry(id)
        with entry.lock, entry.model.turns.take():
            if not entry.session.prompts:
                raise RefusedError("there is no prompt to take back")
            return entry.mask(entry.session.undo())

    def restart(self, id: str, mask: Array | None = None) -> None:
        """Begin the next object, with an empty mask or one (*S) to correct."""
        entry = self._entry(id)
        if mask is not None and mask.shape != entry.scan.grid.shape:
            raise RefusedError("the mask has another shape than the image")
        with entry.lock, entry.model.turns.take():
            entry.session.restart(_of_plane(mask, entry))

    def mask(self, id: str) -> Array:
        """Return the mask (*S) bool."""
        entry = self._entry(id)
        with entry.lock:
            return entry.mask()

    def model(self, id: str) -> PromptModel:
        """Return the model of a session."""
        return self._entry(id).model

    def close(self, id: str) -> None:
        """Close a session."""
        with self._lock:
            self._open.pop(id, None)

    def _entry(self, id: str) -> OpenImage:
        with self._lock:
            self._drop_old()
            if id not in self._open:
                raise UnknownIdError("the session has ended; open the image again")
            self._open.move_to_end(id)
            entry = self._open[id]
            entry.used = time.monotonic()
            return entry

    def _drop_old(self) -> None:
        now = time.monotonic()
        for id in [id for id, entry in self._open.items() if now - entry.used > self._seconds]:
            del self._open[id]


def _of_plane(mask: Array | None, entry: OpenImage) -> Array | None:
    """Return the part of a mask that lies in the open slice."""
    if mask is None or entry.plane is None:
        return None if mask is None else np.asarray(mask, bool)
    axis, index = entry.plane
    return np.take(mask, index, axis=axis).astype(bool)


def _missing(present: Sequence[Prompt], wanted: Sequence[Prompt]) -> list[Prompt] | None:
    """Return the prompts that are not yet in a session; None if it has prompts that are not wanted.

    Clients list positive and negative points separately, so that their order is not that in which they were
    made.
    """
    if not all(isinstance(prompt, Point | Box) for prompt in (*present, *wanted)):
        return None
    have, need = Counter(present), Counter(wanted)
    if have - need:
        return None
    rest = need - have
    ordered: list[Prompt] = []
    for prompt in wanted:
        if rest[prompt] > 0:
            rest[prompt] -= 1
            ordered.append(prompt)
    return ordered


def check_prompt(prompt: Prompt, entry: OpenImage) -> None:
    """Check that a prompt lies in an image.

    Raises:
        RefusedError: it does not.
    """
    shape = entry.scan.grid.shape
    if entry.plane is not None:
        shape = tuple(n for axis, n in enumerate(shape) if axis != entry.plane[0])
    if isinstance(prompt, Point):
        inside = len(prompt.position) == len(shape) and _inside(np.array([prompt.position]), shape)
    elif isinstance(prompt, Box):
        corners = np.array([prompt.lower, np.array(prompt.upper) - 1])
        ordered = bool(np.all(np.array(prompt.lower) < np.array(prompt.upper)))
        inside = len(prompt.lower) == len(shape) and ordered and _inside(corners, shape)
    elif isinstance(prompt, Scribble):
        inside = prompt.voxels.shape[1:] == (len(shape),) and _inside(prompt.voxels, shape)
    else:
        axis, index = prompt.axis, prompt.index
        proper = (axis is None) == (len(shape) == 2) and (axis is None or 0 <= axis < 3)
        inside = proper and (axis is None or (index is not None and 0 <= index < shape[axis]))
        if inside:
            inside = _inside(prompt.vertices, tuple(n for a, n in enumerate(shape) if a != axis))
    if not inside:
        raise RefusedError("a prompt lies outside of the image")


def _inside(positions: Array, shape: tuple[int, ...]) -> bool:
    if len(positions) == 0 or not np.isfinite(positions).all():
        return False
    return bool(((positions > -1) & (positions < np.array(shape))).all())


def prompt_from_json(content: Any) -> Prompt:
    """Build a prompt from ``{"type": "point", "position": […], "positive": true}`` and the like.

    Raises:
        RefusedError: it is not a prompt.
    """
    if not isinstance(content, dict):
        raise RefusedError("a prompt is an object")
    positive = bool(content.get("positive", True))
    try:
        if content.get("type") == "point":
            return Point(tuple(_numbers(content["position"], 1).tolist()), positive)
        if content.get("type") == "box":
            lower, upper = (_numbers(content[key], 1).astype(int).tolist() for key in ("lower", "upper"))
            return Box(tuple(lower), tuple(upper), positive)
        if content.get("type") == "scribble":
            return Scribble(np.rint(_numbers(content["voxels"], 2)).astype(np.int64), positive)
        if content.get("type") == "lasso":
            axis, index = (None if content.get(key) is None else int(content[key]) for key in ("axis", "index"))
            return Lasso(_numbers(content["vertices"], 2), axis, index, positive)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RefusedError("a prompt lacks a position, or it is not a list of numbers") from error
    raise RefusedError("the type of a prompt is point, box, scribble or lasso")


def _numbers(values: Any, axes: int) -> Array:
    """Return a list of finite numbers as array with a number of axes."""
    if not isinstance(values, list) or len(values) > _MOST_VOXELS:
        raise ValueError("expected a list of numbers")
    array = np.array(values, dtype=np.float64)
    if array.ndim != axes or array.size == 0 or array.shape[-1] > 3 or not np.isfinite(array).all():
        raise ValueError("expected a list of finite numbers")
    return array
