"""The interface of models that answer prompts: networks of ``task: prompts``, SAM, baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from medseg.prompts.prompts import Prompt


@runtime_checkable
class PromptSession(Protocol):
    """One object of one open scan, segmented prompt by prompt."""

    @property
    def mask(self) -> np.ndarray:
        """(\\*S) bool, the current mask on the scan's grid; empty before the first prompt."""
        ...

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts so far, oldest first."""
        ...

    def add(self, prompt: Prompt) -> np.ndarray:
        """Add a prompt and return the new mask, (\\*S) bool."""
        ...

    def undo(self) -> np.ndarray:
        """Take back the last prompt and return the mask before it."""
        ...

    def restart(self, mask: np.ndarray | None = None) -> None:
        """Begin the next object of the scan; ``mask``, (\\*S) bool, is corrected instead of an empty one."""
        ...

    def save(self, path: Path) -> Path:
        """Write the mask (0, 1) on the scan's grid in the format of the file's ending and return the path.

        The sessions of medseg refuse an existing file that is no earlier save of theirs, unless they are called
        with ``overwrite=True``.
        """
        ...


@runtime_checkable
class Promptable(Protocol):
    """A model that answers prompts."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def spatial_dims(self) -> tuple[int, ...]:
        """Axes of the scans that it takes: 2 for pictures, 3 for volumes."""
        ...

    def open(self, scan: Path | np.ndarray, spacing: tuple[float, ...] | None = None) -> PromptSession:
        """Open a file, a DICOM series or an array, (\\*S) or channels first, with its spacing in mm.

        The models and baselines of medseg also open a `medseg.data.scans.Scan`.
        """
        ...
