"""Files of one case for other programs, by format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.files import write_text
from medseg.report.export.color_tables import itksnap_labels, slicer_color_table
from medseg.report.export.contour_files import contours_geojson, plane_svg
from medseg.report.export.meshes import label_mesh, write_obj, write_stl
from medseg.report.media.case_view import CaseView
from medseg.report.media.figures.case import display_size, plane_strip
from medseg.report.media.planes import display_planes
from medseg.report.pictures import save_png

Array = NDArray[Any]
ExportFormat = Literal["png", "svg", "geojson", "stl", "obj", "slicer", "itksnap"]

_PNG_SIZE = 768


def export_case(view: CaseView, folder: Path, formats: Sequence[ExportFormat]) -> list[Path]:
    """Write files of a case: ``CASE[_plane | _map][_label].EXT``.

    * ``png``: image, reference, prediction and errors, one picture for each plane.
    * ``svg``: image and contours, one drawing for each plane.
    * ``geojson``: regions of the reference and of the prediction of a picture, for QuPath.
    * ``stl``: a surface for each label of the reference and of the prediction of a volume; ``obj``: one file
      for each, with colors. RAS mm.
    * ``slicer``, ``itksnap``: names and colors of the labels.

    Args:
        view: the case.
        folder: folder to write to.
        formats: what to write.

    Returns:
        The files.

    Raises:
        ConfigError: if a format does not apply: surfaces of pictures, GeoJSON of volumes, color tables without
            labels.
    """
    _check(view, formats)
    written: list[Path] = []
    planes = display_planes(view, crop=view.spatial_dims == 3) if {"png", "svg"} & {*formats} else []
    for plane in planes:
        stem = view.name + (f"_{plane.title.split(',')[0]}" if plane.title else "")
        if "png" in formats:
            written.append(folder / f"{stem}.png")
            save_png(written[-1], plane_strip(view, plane, display_size(plane, planes, _PNG_SIZE)))
        if "svg" in formats:
            written.append(folder / f"{stem}.svg")
            write_text(written[-1], plane_svg(plane, view.legend, f"{view.name} {plane.title}".strip()))
    maps = (("reference", view.reference), ("prediction", view.prediction))
    for name, label_map in ((name, one) for name, one in maps if one is not None):
        if "geojson" in formats:
            written.append(folder / f"{view.name}_{name}.geojson")
            write_text(written[-1], contours_geojson(label_map, view.legend))
        if {"stl", "obj"} & {*formats}:
            written += _write_meshes(view, folder / f"{view.name}_{name}", label_map, formats)
    tables = {"slicer": (slicer_color_table, ".ctbl"), "itksnap": (itksnap_labels, "_itksnap.txt")}
    for name, (text, suffix) in tables.items():
        if name in formats and view.labels is not None:
            written.append(folder / f"{view.name}{suffix}")
            write_text(written[-1], text(view.labels))
    return written


def _check(view: CaseView, formats: Sequence[ExportFormat]) -> None:
    volume = view.spatial_dims == 3
    reasons = {
        "stl": "" if volume else "a picture has no surface",
        "obj": "" if volume else "a picture has no surface",
        "geojson": "QuPath shows pictures, and this is a volume" if volume else "",
        "slicer": "" if view.labels is not None else "the case has no labels",
        "itksnap": "" if view.labels is not None else "the case has no labels",
    }
    for name in formats:
        if reasons.get(name):
            raise ConfigError(f"--export {name}: {reasons[name]}", hint="Leave it out.", case=view.name)


def _write_meshes(view: CaseView, stem: Path, label_map: Array, formats: Sequence[ExportFormat]) -> list[Path]:
    affine = np.diag([*view.spacing, 1.0]) if view.affine is None else view.affine
    present = [int(one) for one in np.unique(label_map) if one >= view.legend.first]
    meshes = {view.legend.name(one): label_mesh(label_map == one, affine) for one in present}
    palette = view.legend.palette(max(present, default=0) + 1)
    written: list[Path] = []
    if "stl" in formats:
        for name, mesh in meshes.items():
            written.append(stem.with_name(f"{stem.name}_{'_'.join(name.replace('/', ' ').split())}.stl"))
            write_stl(written[-1], mesh)
    if "obj" in formats and meshes:
        colors = {view.legend.name(one): (*(int(part) for part in palette[one]),) for one in present}
        written += [stem.with_name(f"{stem.name}.obj"), stem.with_name(f"{stem.name}.mtl")]
        write_obj(written[-2], meshes, colors)  # type: ignore[arg-type]
    return written
