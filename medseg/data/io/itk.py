"""ITK formats (NRRD, MetaImage), read and written with SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medseg.data.scans import Kind, Scan
from medseg.errors import DataError, GeometryError
from medseg.geometry import LPS_TO_RAS, Array, Grid, is_invertible


class ItkReader:
    """NRRD and MetaImage volumes: 3D with one or several components per voxel, or 4D with channels last."""

    suffixes: tuple[str, ...] = (".nrrd", ".nhdr", ".mha", ".mhd")
    kind: Kind = "volume"
    output_suffix = ".nrrd"

    def read(self, path: Path) -> Scan:
        """Read voxels as (C, X, Y, Z) and the affine in RAS mm."""
        return scan_from_sitk(sitk.ReadImage(str(path)), path)

    def files(self, path: Path) -> list[Path]:
        """List the file and the data files that its header names."""
        return [path, *_data_files(path)]

    def write_label_map(self, path: Path, label_map: Array, like: Scan, colors: Array | None) -> None:
        """Write compressed NRRD with the spacing, origin and direction of the input, or of its grid."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(label_map.transpose()))
        is_itk = isinstance(like.header, tuple)  # as scan_from_sitk makes it
        spacing, origin, direction = like.header if is_itk else _itk_header(LPS_TO_RAS @ like.grid.affine)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
        sitk.WriteImage(image, str(path), useCompression=True)


def scan_from_sitk(image: Any, path: Path) -> Scan:
    """Convert a SimpleITK image to a scan with the header (spacing, origin, direction) in ITK's LPS frame.

    Raises:
        DataError: if the image does not have three axes (or four, the last being channels), or is complex.
        GeometryError: if its directions do not span space.
    """
    voxels = sitk.GetArrayFromImage(image)  # (Z, Y, X) or (Z, Y, X, components), channels first in 4D
    dims, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dims not in (3, 4) or (dims == 4 and components > 1) or voxels.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {image.GetSize()} voxels of {image.GetPixelIDTypeAsString()}, expected a 3D volume of "
            "numbers, or 4D with channels last",
            path=path,
        )
    if components > 1:
        array = voxels.transpose(3, 2, 1, 0)
    else:
        array = voxels.transpose(2, 1, 0)[None] if dims == 3 else voxels.transpose(0, 3, 2, 1)
    direction = np.array(image.GetDirection()).reshape(dims, dims)[:3, :3]
    spacing, origin = np.array(image.GetSpacing())[:3], np.array(image.GetOrigin())[:3]
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    if not is_invertible(affine):
        raise GeometryError(
            f"{path}: its directions or spacing do not span space: {affine.tolist()}",
            hint="Repair the header.",
            path=path,
        )
    header = (tuple(spacing.tolist()), tuple(origin.tolist()), tuple(direction.ravel().tolist()))
    return Scan(array, Grid(array.shape[1:], LPS_TO_RAS @ affine), "volume", path, header)


def _itk_header(affine: Array) -> tuple[tuple[float, ...], ...]:
    """Return spacing, origin and direction of an affine (4, 4) in ITK's LPS frame."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    return tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction.ravel().tolist())


def _data_files(path: Path) -> list[Path]:
    """The files that contain the voxels of a header; empty if they are in the file itself."""
    if not path.is_file():
        return []
    parse = _metaimage_names if path.name.lower().endswith((".mha", ".mhd")) else _nrrd_names
    with path.open("rb") as stream:
        lines = (line.decode("utf-8", "replace").strip() for line in iter(lambda: stream.readline(4096), b""))
        names = parse(lines)
    files = (path.parent / name for name in names)
    return [file for file in files if file.resolve() != path.resolve()]


def _metaimage_names(lines: Iterator[str]) -> list[str]:
    """Parse ``ElementDataFile``: ``LOCAL``, a name, ``LIST`` with a name per line, or a numbered pattern."""
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("="))
        if key != "ElementDataFile":
            continue
        if value.upper() == "LOCAL":
            return []
        if value.upper().startswith("LIST"):
            return [name for name in lines if name]
        return _numbered(value)
    return []


def _nrrd_names(lines: Iterator[str]) -> list[str]:
    """Parse ``data file``: a name, ``LIST`` with a name per line, or a numbered pattern."""
    for line in lines:
        if not line:
            break  # end of the header, followed by the voxels
        key, _, value = (part.strip() for part in line.partition(":"))
        if key.lower().replace(" ", "") != "datafile":
            continue
        return [name for name in lines if name] if value.upper().startswith("LIST") else _numbered(value)
    return []


def _numbered(value: str) -> list[str]:
    """Expand ``slice%03d.raw 1 20 1`` (first, last, step) to names; any other value is a single name."""
    pattern, *numbers = value.split()
    if "%" not in pattern or len(numbers) < 2 or not all(n.lstrip("-").isdigit() for n in numbers):
        return [value]
    first, last, step = (int(n) for n in (*numbers, "1")[:3])
    try:
        return [pattern % n for n in range(first, last + (1 if step > 0 else -1), step or 1)]
    except (TypeError, ValueError):  # not a printf pattern
        return [value]
