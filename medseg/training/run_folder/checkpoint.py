"""Training checkpoints: everything that an exact resume needs."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.errors import DiskFullError, TrainingError
from medseg.files import is_disk_full, write_atomic

CHECKPOINT_VERSION = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: the old file stays intact until the new one is complete.

    Raises:
        DiskFullError: if the disk is full.
    """
    try:
        with write_atomic(path) as temporary:
            torch.save({"version": CHECKPOINT_VERSION, **state}, temporary)
    except (OSError, RuntimeError) as error:
        # on a full disk, torch's zip writer only reports an unexpected position in its file
        refused = "inline_container" in str(error) or "write" in str(error).lower()
        if not is_disk_full(error) and not refused:
            raise
        raise DiskFullError(
            f"{path}: cannot be written, the disk is full or read-only ({error}); the last checkpoint is kept",
            hint="Free some space and continue with --resume auto.",
            path=path,
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; no code from it is executed.

    Raises:
        TrainingError: if it is damaged or of another version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{path}: not a valid checkpoint: {error}", path=path) from error
    if state.get("version") != CHECKPOINT_VERSION:
        raise TrainingError(
            f"{path}: checkpoint of another version of medseg", hint="Start a new run.", path=path
        )
    return state


def random_state() -> dict[str, Any]:
    """Return the state of every global random source, in types that load safely."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore every global random source."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():  # a training may be resumed with fewer GPUs, or none
        for index, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda, index)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def seed_everything(seed: int) -> None:
    """Seed every global random source (initial weights and dropout use torch's)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
