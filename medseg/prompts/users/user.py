"""The interface of simulated users."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DataError
from medseg.prompts.prompts import Prompt

BoolArray = NDArray[np.bool_]


@runtime_checkable
class User(Protocol):
    """A person who segments one object: what they point at first, and how they correct a mask.

    Users have no state and can be pickled; every draw comes from the generator, so that the same seed gives the
    same prompts. Positions are voxels of the arrays that are passed.
    """

    @property
    def name(self) -> str:
        """Name of the habit, as in `user_by_name`."""
        ...

    def first(self, reference: BoolArray, rng: np.random.Generator) -> Prompt:
        """Return the first prompt of an object, (\\*S) bool with at least one voxel.

        Raises:
            DataError: if the object has no voxel.
        """
        ...

    def next(self, reference: BoolArray, mask: BoolArray, rng: np.random.Generator) -> Prompt | None:
        """Return the prompt that corrects a mask, (\\*S) bool; None if the mask equals the reference."""
        ...


def check_object(reference: BoolArray, mask: BoolArray | None = None) -> None:
    """Raise a `DataError` unless a user can look at an object and a mask of it."""
    if reference.ndim not in (2, 3) or reference.dtype != np.bool_:
        raise DataError(
            f"object of a simulated user: expected booleans (*S) in 2D or 3D, got {reference.dtype} "
            f"{reference.shape}"
        )
    if mask is None and not reference.any():
        raise DataError("object of a simulated user: no voxel", hint="Leave out empty objects.")
    if mask is not None and (mask.shape != reference.shape or mask.dtype != np.bool_):
        raise DataError(
            f"mask of a simulated user: expected booleans {reference.shape}, got {mask.dtype} {mask.shape}"
        )
