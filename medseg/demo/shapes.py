"""Synthetic pictures of circles, rectangles and triangles, to run 2D segmentation without real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.files import write_atomic

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LABELS = {"background": 0, "circle": 1, "rectangle": 2, "triangle": 3}

SIZE = 128  # pixels
SMALLEST = 48  # pixels; below this a triangle and a circle look the same

# Palette of the label files, with which picture viewers show them in color.
_PALETTE = (0, 0, 0, 86, 180, 233, 213, 94, 0, 240, 228, 66)


def write_shapes(folder: Path, *, cases: int, seed: int, size: int = SIZE) -> None:
    """Write ``cases`` pictures to ``folder/images`` and ``folder/labels`` as ``shape_000.png`` and so on.

    Images are RGB, labels 8-bit indices with a palette (see ``LABELS``), both ``size`` x ``size`` pixels.
    The color does not depend on the class. A case depends only on (seed, index, size): more cases do not
    change the first ones.

    Args:
        folder: receives ``images`` and ``labels``; files of the same name are replaced.
        cases: number of cases, at least 1.
        seed: not negative.
        size: edge in pixels, at least 48.

    Raises:
        ConfigError: if ``cases``, ``seed`` or ``size`` is too small.
    """
    if cases < 1 or seed < 0 or size < SMALLEST:
        raise ConfigError(
            f"shapes: got cases={cases}, seed={seed}, size={size}; "
            f"expected cases >= 1, seed >= 0 and size >= {SMALLEST}"
        )
    for index in range(cases):
        image, label = make_shapes(seed, index, size)
        indexed = Image.fromarray(label)
        indexed.putpalette(_PALETTE)
        name = f"shape_{index:03d}.png"
        _write_png(Path(folder) / "images" / name, Image.fromarray(image))
        _write_png(Path(folder) / "labels" / name, indexed)


def make_shapes(seed: int, index: int, size: int = SIZE) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make one picture: image (H, W, 3) uint8 and label (H, W) uint8, both ``size`` x ``size``."""
    rng = np.random.default_rng([seed, index])
    row, column = np.mgrid[:size, :size] / size
    image = _background(rng, row, column)
    label = np.zeros((size, size), np.uint8)
    free = np.ones((size, size), bool)
    first = int(rng.integers(3))  # classes alternate, starting at random
    for turn in range(int(rng.integers(3, 6))):
        kind = 1 + (first + turn) % 3
        inside = _place_shape(rng, kind, row, column, free)
        if inside is None:
            continue
        image[inside] = _texture(rng, _contrasting(rng, image[inside].mean(axis=0)), inside)
        label[inside] = kind
        free &= ~inside
    image = ndimage.gaussian_filter(image, (0.5, 0.5, 0)) + rng.normal(0, 9, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def _background(rng: np.random.Generator, row: Floats, column: Floats) -> Floats:
    """A gradient between two muted colors, a soft cloud and faint stripes; (H, W, 3) in 0 to 255."""
    size = len(row)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * (row - 0.5) + np.sin(angle) * (column - 0.5)
    cloud = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 16)
    cloud /= cloud.std()
    stripes = np.sin(2 * np.pi * (rng.uniform(5, 12) * (row * np.sin(angle) - column * np.cos(angle))))
    start, end = rng.uniform(70, 190, (2, 1)) + rng.uniform(-22, 22, (2, 3))  # nearly gray
    mix = np.clip(0.5 + along + 0.12 * cloud, 0, 1)[..., None]
    return start * (1 - mix) + end * mix + (9 * cloud + 7 * stripes)[..., None]


def _place_shape(
    rng: np.random.Generator, kind: int, row: Floats, column: Floats, free: Mask, tries: int = 20
) -> Mask | None:
    """Return a shape of class ``kind`` that covers at most a fifth of earlier shapes, or None."""
    for _ in range(tries):
        center = rng.uniform(0.14, 0.86, 2)
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.14, 0.21)
        down, right = row - center[0], column - center[1]
        u = np.cos(turn) * down + np.sin(turn) * right
        v = np.cos(turn) * right - np.sin(turn) * down
        inside = _SHAPES[kind](rng, u, v, reach)
        if (inside & ~free).sum() <= 0.2 * inside.sum():
            return inside
    return None


def _circle(rng: np.random.Generator, u: Floats, v: Floats, reach: float) -> Mask:
    return np.hypot(u, v) < reach * rng.uniform(0.8, 0.95)


def _rectangle(rng: np.random.Generator, u: Floats, v: Floats, reach: float) -> Mask:
    return (np.abs(u) < reach * rng.uniform(0.55, 0.9)) & (np.abs(v) < reach * rng.uniform(0.7, 0.9))


def _triangle(rng: np.random.Generator, u: Floats, v: Floats, reach: float) -> Mask:
    inside = np.ones(u.shape, bool)
    for side in range(3):
        angle = 2 * np.pi * side / 3 + rng.uniform(-0.2, 0.2)
        inside &= u * np.cos(angle) + v * np.sin(angle) < 0.62 * reach
    return inside


_SHAPES = {1: _circle, 2: _rectangle, 3: _triangle}


def _contrasting(rng: np.random.Generator, behind: Floats) -> Floats:
    """Return a random saturated color that is visible against the one behind it."""
    while True:
        color = rng.uniform(20, 240, 3)
        if np.ptp(color) > 90 and np.linalg.norm(color - behind) > 75:
            return color


def _texture(rng: np.random.Generator, color: Floats, inside: Mask) -> Floats:
    """Return a color with soft shading, one row (3,) per pixel of ``inside``."""
    shade = ndimage.gaussian_filter(rng.normal(size=inside.shape), len(inside) / 24)
    return color + 12 * (shade / shade.std())[inside][:, None]


def _write_png(path: Path, image: Image.Image) -> None:
    with write_atomic(path) as temporary:
        image.save(temporary, format="PNG")
