"""One case ready to be drawn: image, reference and prediction on one grid, in display orientation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.chunked_statistics import count_values, look_up
from medseg.data.io.pictures import display_image
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema, guess_schema
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import GeometryError, LabelGridError
from medseg.geometry import Grid, to_ras
from medseg.report.palette import PLAIN, Legend

Array = NDArray[Any]

_MOST_GUESSED = 64


@dataclass(frozen=True)
class CaseView:
    """Arrays of one case, ready to be drawn. Volumes are RAS+.

    Attributes:
        name: name of the case.
        spacing: two numbers for a picture, three for a volume, in array axis order.
        image: (H, W), (H, W, 3) uint8, or (X, Y, Z). If None, label maps are drawn on black.
        reference: class indices on the grid of the image, negative where not annotated.
        prediction: as ``reference``.
        legend: names and colors of the classes.
        affine: (4, 4), voxel to RAS mm; None for pictures, and for volumes whose position does not matter.
        modality: as in ``Scan``, such as ``CT``; None if unknown.
        labels: names and values of the labels in files; None if unknown.

    Raises:
        ValueError: if there is no array, or shapes and spacing do not match.
    """

    name: str
    spacing: Sequence[float]
    image: Array | None = None
    reference: Array | None = None
    prediction: Array | None = None
    legend: Legend = PLAIN
    affine: Array | None = None
    modality: str | None = None
    labels: LabelSchema | None = None

    def __post_init__(self) -> None:
        arrays = [one for one in (self.image, self.reference, self.prediction) if one is not None]
        if not arrays:
            raise ValueError(f"{self.name}: no image, reference or prediction")
        shapes = {np.shape(one)[: len(self.spacing)] for one in arrays}
        if len(self.spacing) not in (2, 3) or len(shapes) > 1 or len(next(iter(shapes))) != len(self.spacing):
            raise ValueError(
                f"{self.name}: arrays of shape {', '.join(str(np.shape(one)) for one in arrays)} and "
                f"{len(self.spacing)} spacings do not match"
            )

    @property
    def spatial_dims(self) -> int:
        """2 for pictures, 3 for volumes."""
        return len(self.spacing)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid."""
        first = next(one for one in (self.image, self.reference, self.prediction) if one is not None)
        return np.shape(first)[: self.spatial_dims]

    @property
    def labeled(self) -> Array:
        """Mask of what is drawn in the reference or the prediction: (*S) bool."""
        mask = np.zeros(self.shape, bool)
        for label_map in (self.reference, self.prediction):
            if label_map is not None:
                mask |= label_map >= max(self.legend.first, 1)
        return mask


def read_case_view(
    name: str,
    *,
    image: Path | None = None,
    reference: Path | None = None,
    prediction: Path | None = None,
    labels: LabelSchema | None = None,
) -> CaseView:
    """Read the files of one case.

    Args:
        name: name of the case.
        image: file of the image; its first channel, or its colors, are drawn.
        reference: file of the reference label map.
        prediction: file of the predicted label map.
        labels: names, values and colors of the labels; values without a name count as background. If None,
            every value is a label; if there are more than 64 values, they are drawn as one label.

    Raises:
        DataError: a file cannot be read or is not a label map.
        LabelGridError: the grids of the files differ.

    Example:
        >>> view = read_case_view("a", prediction=Path("out/a.nii.gz"))  # doctest: +SKIP
    """
    scans = [read_scan(path) for path in (image, reference, prediction) if path is not None]
    if not scans:
        raise ValueError(f"{name}: no image, reference or prediction")
    scan = scans[0]
    maps = [None if p is None else _read_values(p, scan.grid) for p in (reference, prediction)]
    return view_of_scan(name, scan if image is not None else replace(scan, array=scan.array[:0]), maps, labels)


def read_method_views(
    name: str,
    predictions: Mapping[str, Path],
    *,
    image: Path | None = None,
    reference: Path | None = None,
    labels: LabelSchema | None = None,
) -> dict[str, CaseView]:
    """Read one case as several methods segmented it: method → the case with its prediction.

    Args:
        name: name of the case.
        predictions: method → file of its label map.
        image: as in :func:`read_case_view`.
        reference: as in :func:`read_case_view`.
        labels: as in :func:`read_case_view`; the same for all methods.

    Raises:
        DataError: a file cannot be read or is not a label map.
        LabelGridError: the grids of the files differ.
    """
    first = next((path for path in (image, reference, *predictions.values()) if path is not None), None)
    if first is None:
        raise ValueError(f"{name}: no image, reference or prediction")
    scan = read_scan(first)
    expected = None if reference is None else _read_values(reference, scan.grid)
    maps = {method: _read_values(path, scan.grid) for method, path in predictions.items()}
    labels = labels or _guess_labels([expected, *maps.values()])
    scan = scan if image is not None else replace(scan, array=scan.array[:0])
    return {method: view_of_scan(name, scan, [expected, own], labels) for method, own in maps.items()}


def view_of_scan(
    name: str, scan: Scan, maps: Sequence[Array | None], labels: LabelSchema | None = None
) -> CaseView:
    """Turn a scan and its label maps into a view.

    Args:
        name: name of the case.
        scan: the image; without channels, it only gives the grid.
        maps: reference and prediction, label values (*S) on the grid of the scan.
        labels: as in :func:`read_case_view`.
    """
    labels = labels or _guess_labels(maps)
    reference, prediction = (None if m is None else _encode(m, labels) for m in maps)
    legend = PLAIN if labels is None else Legend.of(labels)
    image = display_image(scan) if len(scan.array) else None
    view = _oriented(name, scan.grid, (image, reference, prediction))
    modality = None if scan.kind == "picture" else scan.modality
    return replace(view, legend=legend, modality=modality, labels=labels)


def view_of_objects(name: str, grid: Grid, numbers: Sequence[Array], image: Scan | None = None) -> CaseView:
    """Return a view whose label maps are numbers of objects instead of classes.

    Args:
        name: name of the case.
        grid: of the label maps and the image.
        numbers: reference and prediction, (*S) non-negative integers.
        image: its first channel, or its colors, are drawn; None for none.
    """
    view = _oriented(name, grid, (None if image is None else display_image(image), *numbers))
    return view if image is None or view.spatial_dims == 2 else replace(view, modality=image.modality)


def _oriented(name: str, grid: Grid, arrays: Sequence[Array | None]) -> CaseView:
    """Return the view of image, reference and prediction (*S), of volumes in RAS+."""
    image, reference, prediction = arrays
    if len(grid.shape) == 2:
        return CaseView(name, grid.spacing, image, reference, prediction)
    image, reference, prediction = (
        None if one is None else to_ras(one[None], grid.affine)[0][0] for one in arrays
    )
    affine = to_ras(np.broadcast_to(np.uint8(0), (1, *grid.shape)), grid.affine)[1]
    spacing = Grid(grid.shape, affine).spacing
    return CaseView(name, spacing, image, reference, prediction, affine=affine)


def _read_values(path: Path, grid: Grid) -> Array:
    scan = read_scan(path)
    try:
        return as_label_map(align_to_grid(scan, grid))
    except GeometryError as error:
        raise LabelGridError(
            f"{path}: {error.message}", same_shape=scan.grid.shape == grid.shape, path=path,
            hint="Resample the label map onto its image with nearest neighbor.",
        ) from error  # fmt: skip


def _guess_labels(maps: Sequence[Array | None]) -> LabelSchema | None:
    """Name the values of label maps; None if there are no labels."""
    values = {0}.union(*(map(int, count_values(one)) for one in maps if one is not None))
    if len(values) < 2:
        return None
    if len(values) <= _MOST_GUESSED:
        return guess_schema(values)
    return LabelSchema(names={"background": (0,), "foreground": (1,)}, collapse_instances=True)


def _encode(values: Array, labels: LabelSchema | None) -> Array:
    """Turn label values (*S) into class indices, int16; undeclared values are background, ignored ones -1."""
    if labels is None:
        return np.zeros(values.shape, np.int16)
    classes = {value: index for index, group in enumerate(labels.names.values()) for value in group}
    rest = 1 if labels.collapse_instances else 0
    if labels.ignore_value is not None:
        classes[labels.ignore_value] = -1
    present = [int(value) for value in count_values(values)]
    return look_up(values, {v: classes.get(v, rest) for v in present}, np.dtype(np.int16))
