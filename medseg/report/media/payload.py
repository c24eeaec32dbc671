"""Volumes for the viewer of a page: cropped, in 8 bits, compressed, and no larger than a limit."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.report.media.case_view import CaseView
from medseg.report.media.error_map import error_map, labeled_box
from medseg.report.media.planes import focus_voxel
from medseg.report.media.windows import display_window
from medseg.report.scaling import stretch

Array = NDArray[Any]

_MARGIN_MM = 20.0
_MOST_VOXELS = 6_000_000
_IGNORED = 255
"""Value of voxels that are not annotated; classes from 255 on are drawn like class 254."""


@dataclass(frozen=True)
class VolumePayload:
    """A volume with its label maps, as text for a page.

    Attributes:
        name: name of the case.
        json: a JSON object with ``name``, ``shape`` (X, Y, Z), ``spacing`` and ``origin`` in RAS mm, ``start``
            and ``stride`` (voxel i is voxel start + stride * i of the case), ``focus`` (the voxel shown first),
            ``labels`` (value, name, color), ``note``, and ``image``, ``reference`` and ``prediction``: uint8
            with X fastest, compressed by gzip, in base64; null if absent. ``<`` is escaped, so that the text
            can be part of HTML.
        stride: every how many voxels one was kept, along each axis.
    """

    name: str
    json: str
    stride: tuple[int, ...]


def volume_payload(view: CaseView, max_bytes: int = 1_500_000) -> VolumePayload | None:
    """Pack a volume for the viewer: the region of its labels with 20 mm around it.

    A volume that is larger than ``max_bytes`` is reduced: every second voxel (and so on) is kept along the axes
    with the finest spacing, until it fits.

    Args:
        view: the case.
        max_bytes: limit of the length of ``json``.

    Returns:
        The payload; None for pictures.
    """
    if view.spatial_dims != 3:
        return None
    box = labeled_box(view, _MARGIN_MM)
    window = display_window(view)
    focus = focus_voxel(view, error_map(view))
    stride = _first_stride(view.spacing, [s.stop - s.start for s in box])
    while True:
        packed = _pack(view, box, stride, window, focus)
        size = [len(range(*s.indices(n))[::t]) for s, n, t in zip(box, view.shape, stride, strict=True)]
        if len(packed) <= max_bytes or max(size) <= 8:
            return VolumePayload(view.name, packed, stride)
        stride = _coarser(stride, view.spacing, size)


def _first_stride(spacing: Sequence[float], size: Sequence[int]) -> tuple[int, ...]:
    stride = (1, 1, 1)
    while np.prod([n / s for n, s in zip(size, stride, strict=True)]) > _MOST_VOXELS:
        stride = _coarser(stride, spacing, size)
    return stride


def _coarser(stride: tuple[int, ...], spacing: Sequence[float], size: Sequence[int]) -> tuple[int, ...]:
    """Increase the stride along the axis with the finest spacing; axes of few voxels come last."""
    steps = [(n <= 8, s * t) for s, t, n in zip(spacing, stride, size, strict=True)]
    finest = min(range(3), key=lambda axis: steps[axis])
    return tuple(t + (axis == finest) for axis, t in enumerate(stride))


def _pack(
    view: CaseView,
    box: tuple[slice, ...],
    stride: tuple[int, ...],
    window: tuple[float, float],
    focus: tuple[int, ...],
) -> str:
    cut = tuple(slice(s.start, s.stop, t) for s, t in zip(box, stride, strict=True))
    start = np.array([s.start for s in box])
    shape = [len(range(s.start, s.stop, t)) for s, t in zip(box, stride, strict=True)]
    affine = np.diag([*view.spacing, 1.0]) if view.affine is None else view.affine
    image = None if view.image is None else stretch(view.image[cut], window)
    content = {
        "name": view.name,
        "shape": shape,
        "spacing": [float(s) * t for s, t in zip(view.spacing, stride, strict=True)],
        "origin": [round(float(one), 4) for one in affine[:3, :3] @ start + affine[:3, 3]],
        "start": [int(one) for one in start],
        "stride": list(stride),
        "focus": [
            min(max(0, (f - s.start) // t), n - 1) for f, s, t, n in zip(focus, box, stride, shape, strict=True)
        ],
        "labels": _labels(view),
        "note": _note(box, stride, view.shape),
        "image": _compress(image),
        "reference": _compress(None if view.reference is None else _classes(view.reference[cut])),
        "prediction": _compress(None if view.prediction is None else _classes(view.prediction[cut])),
    }
    return json.dumps(content).replace("<", "\\u003c")


def _labels(view: CaseView) -> list[dict[str, Any]]:
    """Return value, name and color of the classes that occur."""
    maps = [one for one in (view.reference, view.prediction) if one is not None]
    present = sorted({int(v) for one in maps for v in np.unique(one) if v >= view.legend.first})
    palette = view.legend.palette(max(present, default=0) + 1)
    return [
        {"value": min(v, _IGNORED - 1), "name": view.legend.name(v), "color": [int(c) for c in palette[v]]}
        for v in present
    ]


def _note(box: tuple[slice, ...], stride: tuple[int, ...], shape: Sequence[int]) -> str:
    parts = []
    if any((s.stop - s.start) < n for s, n in zip(box, shape, strict=True)):
        parts.append("cropped to the labels")
    if max(stride) > 1:
        parts.append("reduced by " + " × ".join(map(str, stride)))
    return ", ".join(parts)


def _classes(label_map: Array) -> Array:
    return np.where(label_map < 0, _IGNORED, np.minimum(label_map, _IGNORED - 1)).astype(np.uint8)


def _compress(array: Array | None) -> str | None:
    if array is None:
        return None
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: gzip, without a time
    return base64.b64encode(compressor.compress(array.tobytes("F")) + compressor.flush()).decode()
