"""Pictures and volumes of cases for pages.

Modules:
    case_view: ``CaseView``, the arrays of one case; ``read_case_view`` reads its files.
    windows: gray values that are drawn black and white.
    error_map: where prediction and reference differ, and where most.
    planes, drawing: the planes of a case, and their pictures.
    figures: ``case_figures`` and others, pictures as PNG data URIs with alt texts.
    payload, viewer: volumes in a page, and the viewer that shows them.
    case_page: a page with one case.
    contours: contours of label maps as polygons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.report.media.case_page import write_case_page
    from medseg.report.media.case_view import CaseView, read_case_view, view_of_scan
    from medseg.report.media.figures.case import CaseFigures, Figure, FigureOptions, case_figures
    from medseg.report.media.payload import VolumePayload, volume_payload
    from medseg.report.media.viewer import deferred_scripts, viewer_html, viewer_scripts, viewer_style

__all__ = [
    "CaseFigures",
    "CaseView",
    "Figure",
    "FigureOptions",
    "VolumePayload",
    "case_figures",
    "deferred_scripts",
    "read_case_view",
    "view_of_scan",
    "viewer_html",
    "viewer_scripts",
    "viewer_style",
    "volume_payload",
    "write_case_page",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.report.media.case_page": ("write_case_page",),
        "medseg.report.media.case_view": ("CaseView", "read_case_view", "view_of_scan"),
        "medseg.report.media.figures.case": ("CaseFigures", "Figure", "FigureOptions", "case_figures"),
        "medseg.report.media.viewer": ("deferred_scripts", "viewer_html", "viewer_scripts", "viewer_style"),
        "medseg.report.media.payload": ("VolumePayload", "volume_payload"),
    },
)
