"""``Interactive``: a network of ``task: prompts`` that segments what a user points at."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Literal

import torch
from nibabel.orientations import io_orientation  # pyright: ignore[reportUnknownVariableType]

from medseg.data.io.pictures import convert_channels
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.data.scans import Scan, check_finite
from medseg.data.tiled.normalization_statistics import fit_normalization
from medseg.errors import DataError, ModelFileError
from medseg.geometry import Array, ras_order, same_spacing
from medseg.inference.backends import BackendSetup
from medseg.inference.interactive.scan_session import ScanSession
from medseg.inference.interactive.windows import ScanWindows
from medseg.inference.model.ensemble.member import MemberOptions, ModelSource, load_member
from medseg.inference.model.prediction import load_scan
from medseg.system.allocator import keep_freed_memory
from medseg.system.device import resolve_autocast_dtype, resolve_device

_PLANES = 32
"""Planes of a scan that are measured at a time."""


class Interactive:
    """Segments objects by prompts: points, boxes, scribbles and lassos.

    Each prompt is answered in a window around it: time and memory do not depend on the size of the scan.
    Several threads may use one object, each with sessions of its own. On a CPU, the process keeps freed memory
    for the next window (:func:`medseg.system.allocator.keep_freed_memory`).

    Args:
        model: a run folder or a model file of a training with ``task: prompts``.
        device: ``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        amp: mixed precision: ``auto``, ``bf16``, ``fp16`` or ``off``.
        backend: what runs the network: ``torch``, ``openvino``, or ``auto``, which is OpenVINO on CPUs where
            it is installed. The network is converted when the first scan is opened.

    Attributes:
        name: name of the run folder, or of the file without its ending.
        spatial_dims: axes of the scans that it takes, ``(2,)`` or ``(3,)``.
        header: the model's header.
        digest: SHA-256 of header and weights.

    Raises:
        ModelFileError: the file is missing or damaged, or the model does not answer prompts.

    Example:
        >>> model = Interactive("runs/hippocampus_prompts")  # doctest: +SKIP
        >>> session = model.open("scan.nii.gz")  # doctest: +SKIP
        >>> mask = session.point((17, 30, 12))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: ModelSource,
        *,
        device: str = "auto",
        amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
        backend: Literal["auto", "torch", "openvino"] = "auto",
    ) -> None:
        chosen = resolve_device(device)
        if chosen.type == "cpu":
            keep_freed_memory()
        setup = BackendSetup(chosen, resolve_autocast_dtype(amp, chosen))
        member = load_member(model, MemberOptions(setup, backend=backend))
        if member.header.prompts is None:
            raise ModelFileError(
                f"{member.path}: the model does not answer prompts",
                hint="Train one with task.name=prompts; use this one with medseg infer.",
                path=member.path,
            )
        self.header, self.digest, self.path = member.header, member.digest, member.path
        self.name = member.path.parent.name if member.path.name == "model.safetensors" else member.path.stem
        self.spatial_dims: tuple[int, ...] = (self.header.spatial_dims,)
        self._member = member
        self._lock, self._converted = Lock(), False

    def open(self, scan: Scan | Path | str | Array, spacing: tuple[float, ...] | None = None) -> ScanSession:
        """Open a scan.

        Args:
            scan: a file, a DICOM series, a scan in memory, or an array (*S) or (C, *S) with the axes of the
                training's files.
            spacing: distance between the voxels of an array along each axis, mm. Volumes need it; of a picture
                it is 1 by default.

        Raises:
            DataError: the scan cannot be read or does not suit the model.
        """
        opened = load_scan(scan, self.header.spatial_dims, spacing)
        self._member.check_dimensions(opened)
        check_finite(opened)
        windows = scan_windows(opened, self.header.preprocess, self.header.channels, self.window_shape)
        self._convert()
        return ScanSession(opened, windows, self._member.backend.predict)

    def _convert(self) -> None:
        """Run the network once, so that the first prompt does not wait for its conversion."""
        with self._lock, torch.no_grad():
            if not self._converted:
                self._member.backend.predict(torch.zeros(1, self.header.task.in_channels, *self.window_shape))
                self._converted = True

    @property
    def window_shape(self) -> tuple[int, ...]:
        """Voxels of a window along each axis, on the network's grid."""
        assert self.header.inference.roi_size is not None
        return self.header.inference.roi_size


def scan_windows(
    scan: Scan, preprocess: PreprocessConfig, channels: int, shape: tuple[int, ...]
) -> ScanWindows:
    """Return the windows over a scan.

    Args:
        scan: the scan.
        preprocess: grid and intensities that the network works on.
        channels: of the network's image.
        shape: voxels of a window.

    Raises:
        DataError: the scan has other channels or axes.
    """
    array, grid = convert_channels(scan, channels), scan.grid
    dims = len(grid.shape)
    axes, flipped = tuple(range(dims)), (False,) * dims
    if scan.kind == "volume" and preprocess.orientation == "RAS":
        axes = ras_order(grid)
        flipped = tuple(bool(d < 0) for d in io_orientation(grid.affine)[list(axes), 1])
    spacing = tuple(grid.spacing[axis] for axis in axes)
    wanted = preprocess.spacing or spacing
    if len(wanted) != dims:
        raise DataError(
            f"{scan.path}: image with {dims} axes, but preprocess.spacing has {len(wanted)} values",
            path=scan.path,
        )
    same = same_spacing(spacing, wanted)
    scale = tuple(1.0 if same else a / b for a, b in zip(spacing, wanted, strict=True))
    turned = array.transpose(0, *(1 + axis for axis in axes))
    turned = turned[(slice(None), *(slice(None, None, -1) if back else slice(None) for back in flipped))]
    planes = range(0, array.shape[1], _PLANES)
    normalize = fit_normalization(preprocess.normalize, lambda: (array[:, i : i + _PLANES] for i in planes))
    return ScanWindows(turned, normalize, axes, flipped, scale, shape)
