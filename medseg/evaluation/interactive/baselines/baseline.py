"""Methods without learning that answer prompts as models do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.readers import read_scan, write_mask
from medseg.data.scans import Scan, array_dims, scan_from_array
from medseg.errors import ConfigError, did_you_mean
from medseg.evaluation.interactive.baselines.seeds import BoolArray, Seeds
from medseg.evaluation.interactive.baselines.solvers import (
    Image,
    Solver,
    evolve_chan_vese,
    grow_geodesic_contour,
    walk_randomly,
)
from medseg.prompts import Prompt
from medseg.prompts.validation import check_prompt, check_start_mask

_LARGEST_VOXELS = 1 << 17
"""Larger images are segmented on a coarser grid, so that an answer takes a second."""


@dataclass(frozen=True)
class Baseline:
    """A method without learning; a `Promptable`.

    Args:
        name: of the method.
        solver: segments an image from seeds.
    """

    name: str
    solver: Solver
    spatial_dims: tuple[int, ...] = (2, 3)

    def open(self, scan: Path | np.ndarray | Scan, spacing: tuple[float, ...] | None = None) -> BaselineSession:
        """Open a file, a scan in memory, or an array, (\\*S) or channels first.

        Of an array without spacing, a first axis of at most 4 holds channels if there are 3 axes; volumes need
        it.
        """
        if isinstance(scan, np.ndarray):
            scan = scan_from_array(scan, array_dims(scan, spacing), spacing)
        elif not isinstance(scan, Scan):
            scan = read_scan(Path(scan))
        return BaselineSession(self, scan)


class BaselineSession:
    """One object of one open scan; a `PromptSession`."""

    def __init__(self, baseline: Baseline, scan: Scan) -> None:
        self._baseline = baseline
        self._scan = scan
        self._saved = set[Path]()
        self._spacing = tuple(float(value) for value in scan.grid.spacing)
        excess = np.prod(scan.grid.shape) / _LARGEST_VOXELS
        self._factor = max(1, int(np.ceil(excess ** (1 / scan.spatial_dims))))
        self._image = _coarse_image(_normalized(scan.array), self._factor)
        self.restart()

    @property
    def mask(self) -> BoolArray:
        return self._masks[-1].copy()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return tuple(self._prompts)

    def add(self, prompt: Prompt) -> BoolArray:
        check_prompt(prompt, self._scan.grid.shape)
        self._prompts.append(prompt)
        self._masks.append(self._solve())
        return self.mask

    def undo(self) -> BoolArray:
        if self._prompts:
            self._prompts.pop()
            self._masks.pop()
        return self.mask

    def restart(self, mask: NDArray[np.generic] | None = None) -> None:
        """Begin the next object. ``mask`` is shown until the first prompt; the methods start anew."""
        shape = self._scan.grid.shape
        self._prompts: list[Prompt] = []
        self._masks = [np.zeros(shape, bool) if mask is None else check_start_mask(mask, shape)]

    def save(self, path: Path, *, overwrite: bool = False) -> Path:
        return write_mask(path, self._masks[-1], self._scan, self._saved, overwrite=overwrite)

    def _solve(self) -> BoolArray:
        seeds = Seeds.of(self._prompts, self._scan.grid.shape)
        if not seeds.object.any():
            return np.zeros(self._scan.grid.shape, bool)
        if self._factor == 1:
            found = self._baseline.solver(self._image, seeds, self._spacing)
        else:
            coarse = Seeds(_coarse_seeds(seeds.values, self._factor))
            small = self._baseline.solver(self._image, coarse, self._spacing)
            transform: Any = import_module("skimage.transform")
            found = transform.resize(small.astype(np.float32), self._fine_shape, order=1) >= 0.5
            found = found[tuple(slice(size) for size in self._scan.grid.shape)]
        return (found | seeds.object) & ~seeds.background

    @property
    def _fine_shape(self) -> tuple[int, ...]:
        return tuple(size * self._factor for size in self._image.shape[1:])


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        one.name: one
        for one in (
            Baseline("random-walker", walk_randomly),
            Baseline("geodesic-contour", grow_geodesic_contour),
            Baseline("chan-vese", evolve_chan_vese),
        )
    }
)
"""The baselines by name."""


def baseline_by_name(name: str) -> Baseline:
    """Return a baseline: ``random-walker``, ``geodesic-contour`` or ``chan-vese``.

    Raises:
        ConfigError: if there is no such baseline.
    """
    if name not in BASELINES:
        raise ConfigError(
            f"baseline {name!r}: expected one of {', '.join(BASELINES)}",
            hint=did_you_mean(name, BASELINES) or "Choose one of these methods.",
        )
    return BASELINES[name]


def _normalized(array: NDArray[np.generic]) -> Image:
    """Scale each channel so that its percentiles 0.5 and 99.5 are 0 and 1."""
    channels: list[Image] = []
    for channel in np.asarray(array, np.float32):
        low, high = np.percentile(channel, (0.5, 99.5))
        channels.append(np.clip((channel - low) / max(float(high - low), 1e-6), 0, 1))
    return np.stack(channels).astype(np.float32)


def _blocks(array: NDArray[np.generic], factor: int, *, constant: bool) -> NDArray[np.generic]:
    """Split spatial axes into blocks: (\\*S) becomes (N0, factor, N1, factor, …)."""
    pads = [(0, -size % factor) for size in array.shape]
    padded = np.pad(array, pads) if constant else np.pad(array, pads, mode="edge")
    return padded.reshape([part for size in padded.shape for part in (size // factor, factor)])


def _coarse_image(image: Image, factor: int) -> Image:
    if factor == 1:
        return image
    inner = tuple(range(1, 2 * (image.ndim - 1), 2))
    return np.stack([_blocks(one, factor, constant=False).astype(np.float32).mean(axis=inner) for one in image])


def _coarse_seeds(values: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return seeds of blocks: the object's where a block has some, else background where it has only that."""
    inner = tuple(range(1, 2 * values.ndim, 2))
    inside = (_blocks(values == 1, factor, constant=True)).any(axis=inner)
    outside = (_blocks(values == 2, factor, constant=True)).any(axis=inner)
    return np.where(inside, 1, np.where(outside, 2, 0)).astype(np.uint8)
