"""Whether label maps number objects, such as cells, or name classes, such as organs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.geometry import Array
from medseg.instances.label_maps import split_components

_FEWEST = 5
"""Objects in one label map at least."""


def count_numbered_pieces(label_map: Array) -> int:
    """Return n if a label map holds the values 1 to n and each is one connected piece; else 0.

    Example:
        >>> count_numbered_pieces(np.array([[1, 1, 0], [0, 0, 2]]))
        2
        >>> count_numbered_pieces(np.array([[1, 0, 1], [0, 0, 2]]))
        0
    """
    values = np.unique(label_map)
    values = values[values != 0]
    count = len(values)
    if count == 0 or values[0] != 1 or values[-1] != count:
        return 0
    _, pieces = split_components(label_map)
    return count if pieces == count else 0


def number_objects(counts: Sequence[int]) -> bool:
    """Whether the values in label maps are numbers of objects, not classes.

    Classes are the same in most cases, or some are missing here and there. Numbers of objects begin at 1 in
    each case and end where its objects do.

    Args:
        counts: :func:`count_numbered_pieces` of each label map that is not empty.

    Example:
        >>> number_objects([19, 17]), number_objects([4, 4, 4]), number_objects([13, 0])
        (True, False, False)
    """
    return len(set(counts)) > 1 and min(counts) > 0 and max(counts) >= _FEWEST
