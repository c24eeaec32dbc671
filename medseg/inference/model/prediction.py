"""Inputs and results of a predictor: prepared scans, prepared tiled images, predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.multichannel import read_image
from medseg.data.io.readers import read_scan
from medseg.data.preprocessing.pipeline import PreparedImage
from medseg.data.scans import Scan, scan_from_array
from medseg.data.tiled.preprocessed_image import PreprocessedTiledImage
from medseg.data.tiled.tiled_image import TiledImage
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.inference.shift.comparison import ShiftReport
from medseg.inference.shift.rescale import ScaleChoice
from medseg.instances.result import Instances


@dataclass(frozen=True)
class Prediction:
    """Result of segmenting one scan, on the scan's own grid.

    Attributes:
        label_map: (*S) label values as in the training's label files, in the smallest integer type.
        probabilities: (K, *S) float32 of each class (or region); None if not requested.
        scan: the input.
        notes: what was reduced to fit into memory.
        shift: how far the scan and the label map are from the training cases; None if the model file does not
            describe them.
        scale: the scale at which a picture was segmented; None if it was not resized.
        instances: the objects, for models that tell them apart; the label map shows their classes.
    """

    label_map: Array
    probabilities: Array | None
    scan: Scan
    notes: tuple[str, ...] = ()
    shift: ShiftReport | None = None
    scale: ScaleChoice | None = None
    instances: Instances | None = None


@dataclass(frozen=True)
class PreparedScan:
    """A scan with the preprocessed image of each ensemble member.

    Attributes:
        scan: the scan.
        inputs: one image for each member.
        foreground: (*S) mask on the scan's grid, if one was given.
        scale: the scale of the inputs of a resized picture.
    """

    scan: Scan
    inputs: tuple[PreparedImage, ...]
    foreground: Array | None = None
    scale: ScaleChoice | None = None

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self.scan.path


@dataclass(frozen=True)
class PreparedTiledImage:
    """A picture that stays in its file, with each ensemble member's view of its windows."""

    image: TiledImage
    inputs: tuple[PreprocessedTiledImage, ...]

    @property
    def path(self) -> Path:
        """The picture's file."""
        return self.image.path


def load_scan(
    source: Scan | Case | Path | str | Array, spatial_dims: int = 3, spacing: tuple[float, ...] | None = None
) -> Scan:
    """Return a scan in memory; read it if ``source`` is a case or a file.

    Args:
        source: a scan, a case, a file, or an array (*S) or (C, *S).
        spatial_dims: axes S of an array.
        spacing: distance between the voxels of an array, mm.

    Raises:
        DataError: the scan cannot be read, or the array is not one.
    """
    if isinstance(source, Scan):
        return source
    if isinstance(source, np.ndarray):
        return scan_from_array(source, spatial_dims, spacing)
    if isinstance(source, Case):
        return read_image(source)
    try:
        path = Path(source)
    except TypeError as error:
        raise DataError(
            f"{type(source).__name__}: expected a file, a Scan, a Case or a NumPy array with its spacing",
            hint="Convert tensors with tensor.cpu().numpy().",
        ) from error
    return read_scan(path)
