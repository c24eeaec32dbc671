"""Prompts of the page: from its axes to those of the scan, and masks back, cropped to what they hold."""

from __future__ import annotations

import secrets
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.geometry import Array
from medseg.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.server.errors import RefusedError, UnknownIdError
from medseg.server.models import PromptModel
from medseg.server.page.frame import Frame, drop_axis

if TYPE_CHECKING:
    from medseg.server.page.desk import Desk
    from medseg.server.state import ServerState

_MOST_VOXELS = 200_000
"""Voxels of a scribble, vertices of a lasso."""
_FARTHEST = 1 << 20
_MOST_SESSIONS = 256
Box3D = tuple[list[int], list[int]]
"""First voxel and the voxel after the last one, (x, y, z)."""


@dataclass(frozen=True)
class PlaneOfPrompt:
    """The slice of the page in which a prompt was drawn.

    Attributes:
        axis: of the page.
        index: along ``axis``.
    """

    axis: int
    index: int

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> PlaneOfPrompt:
        """Read ``axis`` and ``index``."""
        axis, index = content.get("axis"), content.get("index")
        if not _is_integer(axis) or not _is_integer(index) or not 0 <= axis < 3:  # pyright: ignore
            raise RefusedError("axis and index are not those of a plane")
        return cls(axis, index)  # pyright: ignore


@dataclass(frozen=True)
class _Open:
    frame: Frame
    plane: PlaneOfPrompt | None
    """The slice of the page, if the model segments slices."""


class PagePrompts:
    """Sessions of prompt models, in the page's axes.

    Args:
        server: state of the server.
        desk: the cases of the page.
    """

    def __init__(self, server: ServerState, desk: Desk) -> None:
        self._server, self._desk = server, desk
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    def models(self) -> list[dict[str, Any]]:
        """Return name and kind of every model, and whether a prompt model segments slices only."""
        pool = self._server.models
        automatic = [{"name": one.name, "kind": "automatic", "slices": False} for one in pool.automatic]
        prompted = [
            {"name": one.name, "kind": "prompts", "slices": 3 not in one.spatial_dims} for one in pool.prompted
        ]
        return automatic + prompted

    def open(self, case: str, model: str, plane: PlaneOfPrompt, mask: Array | None, client: str) -> str:
        """Open a session and return its id.

        Args:
            case: id of the case.
            model: name of a prompt model.
            plane: where the first prompt was drawn; a model of slices segments this slice.
            mask: (X, Y, Z) bool, the object so far.
            client: who opens it.
        """
        frame, found = self._desk.image(case).frame, self._server.models.get(model)
        in_slice = len(frame.shape) == 3 and isinstance(found, PromptModel) and 3 not in found.spatial_dims
        if not 0 <= plane.index < frame.page_shape[plane.axis]:
            raise RefusedError("there is no such slice")
        id = self._server.clicks.open(
            model,
            self._server.datastore.scan(case),
            key=(client, case, secrets.token_hex(8)),
            plane=frame.slice_from_page(plane.axis, plane.index) if in_slice else None,
            mask=None if mask is None else frame.from_page(mask),
        )
        self._server.note_proposal(client, case, found)
        with self._lock:
            while len(self._open) >= _MOST_SESSIONS:
                self._open.pop(next(iter(self._open)))
            self._open[id] = _Open(frame, plane if in_slice else None)
        return id

    def add(self, session: str, prompt: Prompt) -> tuple[bytes, Box3D]:
        """Give a prompt to a session; return the mask in the box of what it holds, compressed, and the box."""
        opened = self._get(session)
        turned = opened.frame.prompt_from_page(prompt)
        if opened.plane is not None:
            axis, _ = opened.frame.slice_from_page(opened.plane.axis, opened.plane.index)
            turned = drop_axis(turned, axis)
        return self._reply(opened, self._server.clicks.add(session, turned))

    def undo(self, session: str) -> tuple[bytes, Box3D]:
        """Take back the last prompt; return the mask before it."""
        opened = self._get(session)
        return self._reply(opened, self._server.clicks.undo(session))

    def close(self, session: str) -> None:
        """Close a session."""
        self._get(session)
        with self._lock:
            self._open.pop(session, None)
        self._server.clicks.close(session)

    def _get(self, session: str) -> _Open:
        with self._lock:
            if session not in self._open:
                raise UnknownIdError("there is no such session; it may have expired")
            return self._open[session]

    @staticmethod
    def _reply(opened: _Open, mask: Array) -> tuple[bytes, Box3D]:
        shown = opened.frame.to_page(mask)
        box = _box(shown)
        cut = shown[tuple(slice(low, high) for low, high in zip(*box, strict=True))]
        return zlib.compress(cut.astype(np.uint8).tobytes(order="F"), 1, wbits=31), box


def parse_prompt(content: Mapping[str, Any]) -> Prompt:
    """Read a prompt of the page: ``kind``, positions (x, y, z), ``positive``.

    Raises:
        RefusedError: it is not a prompt.
    """
    kind, positive = content.get("kind"), content.get("positive", True)
    if not isinstance(positive, bool):
        raise RefusedError("positive is not true or false")
    if kind == "point":
        position = _numbers(content.get("position"), 3)[0]
        return Point(tuple(float(one) for one in position), positive)
    if kind == "box":
        lower, upper = (np.rint(_numbers(content.get(name), 3)[0]).astype(int) for name in ("lower", "upper"))
        if (lower >= upper).any():
            raise RefusedError("the box is empty")
        return Box(tuple(lower.tolist()), tuple(upper.tolist()), positive)
    if kind == "scribble":
        return Scribble(np.unique(np.rint(_numbers(content.get("voxels"), 3)).astype(int), axis=0), positive)
    if kind == "lasso":
        plane = PlaneOfPrompt.parse(content)
        return Lasso(_numbers(content.get("vertices"), 2), plane.axis, plane.index, positive)
    raise RefusedError("kind is not point, box, scribble or lasso")


def _numbers(value: Any, columns: int) -> Array:
    """Return positions (N, columns) as float64."""
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RefusedError("positions are not numbers") from error
    numbers = numbers[None] if numbers.ndim == 1 else numbers
    if numbers.ndim != 2 or numbers.shape[1] != columns or not 0 < len(numbers) <= _MOST_VOXELS:
        raise RefusedError(f"positions have {columns} numbers each")
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > _FARTHEST:
        raise RefusedError("positions are too far away")
    return numbers


def _box(mask: Array) -> Box3D:
    """Return the first voxels and the voxels after the last ones of what a mask holds; empty at the origin."""
    lower, upper = [0, 0, 0], [0, 0, 0]
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if found.size:
            lower[axis], upper[axis] = int(found[0]), int(found[-1]) + 1
    return lower, upper


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
