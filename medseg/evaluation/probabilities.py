"""Probabilities that ``medseg infer --probabilities`` wrote beside the label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan, align_to_grid
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.metrics import ReliabilityCurve

PROBABILITIES_FOLDER = "probabilities"
_ENDINGS = (".nii.gz", ".npz", ".tif")
_ROUNDING = 1e-3
"""How far probabilities may lie outside of 0 to 1: half precision, and scales in headers, are rounded."""
_HINT = "Predict with medseg infer --probabilities, or leave calibration out of --metrics."


def read_probabilities(folder: Path, case: str, scan: Scan, labels: LabelSchema) -> Array:
    """Read the probabilities of a case.

    Args:
        folder: folder of the predictions, with the subfolder ``probabilities``.
        case: name of the case.
        scan: the reference, on whose grid the probabilities are returned.
        labels: names of the channels.

    Returns:
        (K, *S) for the classes, or for the regions if there are any.

    Raises:
        DataError: if there is no file for the case, or it has other channels or another shape.
        GeometryError: if its grid differs from the reference's.
    """
    candidates = [folder / PROBABILITIES_FOLDER / f"{case}{ending}" for ending in _ENDINGS]
    path = next((one for one in candidates if one.is_file()), None)
    if path is None:
        raise DataError(f"{candidates[0].parent}: no probabilities of case {case}", hint=_HINT, path=folder)
    array = _read_volume(path, scan) if path.name.endswith(".nii.gz") else _read_picture(path)
    expected = (len(labels.class_names), *scan.grid.shape)
    if array.shape != expected:
        raise DataError(f"{path}: probabilities of shape {array.shape}, expected {expected}", path=path)
    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also NaN
        raise DataError(
            f"{path}: expected probabilities from 0 to 1, got {low:.4g} to {high:.4g}", hint=_HINT, path=path
        )
    return array


def by_name(probabilities: Array, labels: LabelSchema) -> dict[str, Array]:
    """Return the probability map (*S) of each evaluated label or region."""
    channels: Sequence[str] = labels.class_names
    return {name: probabilities[channels.index(name)] for name in labels.evaluated}


def reliability(probabilities: Array, encoded: Array, labels: LabelSchema) -> ReliabilityCurve:
    """Return the reliability of the most probable class over the voxels that count.

    Regions overlap, so the reliability is that of all regions' probabilities together.

    Args:
        probabilities: (K, *S).
        encoded: reference (*S), class index + 1, and 0 for voxels to leave out.
        labels: names of the channels.
    """
    curve, valid = ReliabilityCurve(), encoded != 0
    if not labels.regions:
        confidence, best = probabilities.max(axis=0), probabilities.argmax(axis=0)
        curve.add(confidence[valid], best[valid] + 1 == encoded[valid])
        return curve
    order = list(labels.names)
    for channel, members in zip(probabilities, labels.regions.values(), strict=True):
        indices = [order.index(member) + 1 for member in members]
        curve.add(channel[valid], np.isin(encoded[valid], indices))
    return curve


def _read_volume(path: Path, scan: Scan) -> Array:
    return align_to_grid(read_scan(path), scan.grid).array


def _read_picture(path: Path) -> Array:
    """Return (K, H, W) float32: of an array of that shape, or of a tiled TIFF (H, W, K) of a large picture."""
    try:
        if path.suffix == ".tif":
            pixels: Array = tifffile.imread(path)
            return np.moveaxis(pixels, -1, 0).astype(np.float32)
        with np.load(path, allow_pickle=False) as content:
            return content["probabilities"].astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a file of probabilities ({error})", hint=_HINT, path=path) from error
