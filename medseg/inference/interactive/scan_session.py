"""A session over a scan: prompts in, masks on the scan's grid out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.data.io.readers import write_mask
from medseg.data.scans import Scan
from medseg.inference.interactive.object_session import ObjectSession, Predict
from medseg.inference.interactive.windows import Bools, ScanWindows
from medseg.prompts.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.prompts.validation import as_numbers, check_prompt, check_start_mask


class ScanSession:
    """Segments the objects of one open scan, one after the other; made by :meth:`Interactive.open`.

    Positions are voxels of the scan's array as it is in the file, ``(x, y, z)`` or ``(row, column)``. Each
    method that adds a prompt returns the new mask, a copy.

    Args:
        scan: the scan.
        windows: reads windows of it.
        predict: the network.

    Example:
        >>> session = Interactive("runs/prompts").open("scan.nii.gz")  # doctest: +SKIP
        >>> mask = session.point((120, 88, 40))  # doctest: +SKIP
        >>> mask = session.point((131, 90, 40), positive=False)  # doctest: +SKIP
        >>> session.save("mask.nii.gz")  # doctest: +SKIP
    """

    def __init__(self, scan: Scan, windows: ScanWindows, predict: Predict) -> None:
        self.scan = scan
        self._windows, self._predict = windows, predict
        self._saved = set[Path]()
        self._object = ObjectSession(windows, predict, np.zeros(scan.grid.shape, bool))

    @property
    def mask(self) -> Bools:
        """(*S) bool, a copy of the current mask; empty before the first prompt."""
        return self._object.mask.copy()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts so far, oldest first."""
        return tuple(self._object.prompts)

    def add(self, prompt: Prompt) -> Bools:
        """Add a prompt and return the new mask.

        Raises:
            DataError: the prompt, or a part of a stroke, lies outside the scan; or it has the wrong number of
                axes, or no numbers.
        """
        check_prompt(prompt, self.scan.grid.shape)
        self._object.add(prompt)
        return self.mask

    def point(self, position: Sequence[float], *, positive: bool = True) -> Bools:
        """Click on a voxel: on the object, or (if not ``positive``) on what does not belong to it."""
        numbers = as_numbers("point", position, axes=1)
        return self.add(Point(tuple(float(number) for number in numbers), positive))

    def box(self, lower: Sequence[int], upper: Sequence[int], *, positive: bool = True) -> Bools:
        """Draw a box from its first voxel to the one after its last; of a volume, in one or many slices."""
        corners = [as_numbers("box", corner, axes=1) for corner in (lower, upper)]
        first, stop = (tuple(int(number) for number in corner) for corner in corners)
        return self.add(Box(first, stop, positive))

    def scribble(self, voxels: ArrayLike, *, positive: bool = True) -> Bools:
        """Paint over voxels (N, D). Those outside the scan by up to half the width of the stroke are cut."""
        return self.add(Scribble(as_numbers("scribble", voxels), positive))

    def lasso(
        self,
        vertices: ArrayLike,
        *,
        axis: int | None = None,
        index: int | None = None,
        positive: bool = True,
    ) -> Bools:
        """Draw a closed line (N, 2); of a volume, in the slice ``index`` perpendicular to ``axis``.

        Vertices that lie outside the scan by up to a voxel are cut.
        """
        return self.add(Lasso(as_numbers("lasso", vertices).astype(np.float64), axis, index, positive))

    def undo(self) -> Bools:
        """Take back the last prompt and return the mask before it."""
        self._object.undo()
        return self.mask

    def restart(self, mask: NDArray[np.generic] | None = None) -> None:
        """Begin the next object of the scan.

        Args:
            mask: (*S) bool, or 0 and 1: the result of another model that is corrected instead of an empty mask.
                Of a label map with several objects, pass one: ``label_map == value``.

        Raises:
            DataError: the mask does not have the shape of the scan, or has other values than 0 and 1.
        """
        shape = self.scan.grid.shape
        own = np.zeros(shape, bool) if mask is None else check_start_mask(mask, shape)
        self._object = ObjectSession(self._windows, self._predict, own)

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the mask, 0 and 1, on the scan's grid in the format of the file's ending, and return the path.

        Args:
            path: the file. An earlier save of this session is replaced.
            overwrite: whether any other existing file is replaced, too; never the scan itself.

        Raises:
            DataError: masks of such a scan are not written in this format; the message lists those that are.
            ExistingFileError: the file exists and is no earlier save of this session.
        """
        return write_mask(path, self._object.mask, self.scan, self._saved, overwrite=overwrite)
