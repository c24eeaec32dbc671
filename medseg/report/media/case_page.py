"""The page of one case: figures and, for volumes, the viewer, in one offline file."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from medseg.report.html import paragraph
from medseg.report.media.case_view import CaseView
from medseg.report.media.figures.case import FigureOptions, case_figures
from medseg.report.media.payload import volume_payload
from medseg.report.media.viewer import deferred_scripts, viewer_html, viewer_scripts, viewer_style
from medseg.report.page import Page

_DEFAULTS = FigureOptions(size=360, max_bytes=3_000_000)
_MOST_VOLUME_BYTES = 12_000_000


def write_case_page(path: Path, view: CaseView, options: FigureOptions = _DEFAULTS) -> None:
    """Write the page of a case. It loads nothing and runs no script but its own.

    Args:
        path: file to write, ``.html``.
        view: the case.
        options: how the figures are drawn.

    Raises:
        ExistingFileError: if the file exists and is not a page of medseg of the same kind.
    """
    page = Page(view.name, "Case", paragraph(_summary(view), class_="lead"))
    page.add_style(viewer_style())
    page.add("Figures", Markup(case_figures(view, options).to_html()))
    payload = volume_payload(view, _MOST_VOLUME_BYTES)
    if payload is not None:
        page.add("Volume", Markup(viewer_html([payload])))
        for script in viewer_scripts():
            page.add_script(script)
        for name, script in deferred_scripts().items():
            page.add_deferred_script(name, script)
    page.write(path)


def _summary(view: CaseView) -> str:
    """Describe the grid, and what is shown."""
    unit = "voxels" if view.spatial_dims == 3 else "pixels"
    shape = " × ".join(map(str, view.shape))
    spacing = " × ".join(f"{one:.3g}" for one in view.spacing)
    parts = ("image", "reference", "prediction")
    shown = [part for part in parts if getattr(view, part) is not None]
    of_mm = f" of {spacing} mm" if view.spatial_dims == 3 else ""
    return f"{shape} {unit}{of_mm}; {', '.join(shown)}."
