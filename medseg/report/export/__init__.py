"""Files of one case for other programs: pictures, contours, surfaces and color tables.

Modules:
    case_files: ``export_case``, which writes the requested formats.
    contour_files: contours as SVG, and as GeoJSON for QuPath.
    meshes: surfaces of labels as STL and OBJ.
    color_tables: names and colors for 3D Slicer and ITK-SNAP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.report.export.case_files import ExportFormat, export_case
    from medseg.report.export.color_tables import itksnap_labels, slicer_color_table
    from medseg.report.export.contour_files import contours_geojson, plane_svg
    from medseg.report.export.meshes import Mesh, label_mesh, write_obj, write_stl

__all__ = [
    "ExportFormat",
    "Mesh",
    "contours_geojson",
    "export_case",
    "itksnap_labels",
    "label_mesh",
    "plane_svg",
    "slicer_color_table",
    "write_obj",
    "write_stl",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.report.export.case_files": ("ExportFormat", "export_case"),
        "medseg.report.export.color_tables": ("itksnap_labels", "slicer_color_table"),
        "medseg.report.export.contour_files": ("contours_geojson", "plane_svg"),
        "medseg.report.export.meshes": ("Mesh", "label_mesh", "write_obj", "write_stl"),
    },
)
