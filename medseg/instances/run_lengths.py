"""Run lengths of masks, as COCO stores them (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Array


def run_lengths(mask: Array, box: Array, shape: tuple[int, int]) -> list[int]:
    """Return the lengths of runs of 0 and 1 of a mask, column by column, beginning with 0.

    Args:
        mask: (h, w) bool, within a box.
        box: (2, 2) first and last (exclusive) row and column.
        shape: height and width of the picture.

    Example:
        >>> run_lengths(np.array([[True], [True]]), np.array([[1, 3], [0, 1]]), (3, 2))
        [1, 2, 3]
    """
    height, width = shape
    (top, bottom), (left, right) = np.asarray(box).tolist()
    columns = np.zeros((right - left, height), np.int8)
    columns[:, top:bottom] = mask.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=np.int8(0), append=np.int8(0))) + left * height
    runs = np.diff(changes, prepend=0, append=height * width)
    return [int(n) for n in (runs if runs[-1] else runs[:-1])]


def compress_runs(runs: list[int]) -> str:
    """Return run lengths as COCO's text: differences to the length two before, in groups of five bits.

    Example:
        >>> compress_runs([1, 2, 3])
        '123'
    """
    text: list[str] = []
    for index, run in enumerate(runs):
        rest = run - runs[index - 2] if index > 2 else run
        while True:
            bits = rest & 31
            rest >>= 5
            more = rest != (-1 if bits & 16 else 0)
            text.append(chr((bits | 32 if more else bits) + 48))
            if not more:
                break
    return "".join(text)


def mask_of_runs(runs: list[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of run lengths."""
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(shape[::-1]).T
