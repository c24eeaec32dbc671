"""The page of one case: figures and, for volumes, the viewer, in one offline file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from medseg.files import write_text
from medseg.report.media.case_view import CaseView
from medseg.report.media.figures import FigureOptions, case_figures
from medseg.report.media.payload import volume_payload
from medseg.report.media.viewer import viewer_html, viewer_scripts, viewer_style

_MOST_FIGURE_BYTES = 3_000_000
_MOST_VOLUME_BYTES = 12_000_000


def write_case_page(path: Path, view: CaseView, options: FigureOptions | None = None) -> None:
    """Write the page of a case. It loads nothing and runs no script but its own.

    Args:
        path: file to write, ``.html``.
        view: the case.
        options: how the figures are drawn.
    """
    options = options or FigureOptions(size=360, max_bytes=_MOST_FIGURE_BYTES)
    figures = case_figures(view, options)
    payload = volume_payload(view, _MOST_VOLUME_BYTES)
    payloads = [] if payload is None else [payload]
    style = viewer_style() + files("medseg.report.media").joinpath("static", "page.css").read_text("utf-8")
    scripts = viewer_scripts() if payloads else []
    body = f"<h1>{escape(view.name)}</h1><p>{escape(_summary(view))}</p>"
    body += f"<h2>Figures</h2>{figures.to_html()}"
    body += f"<h2>Volume</h2>{viewer_html(payloads)}" if payloads else ""
    body += "".join(f"<script>{script}</script>" for script in scripts)
    write_text(
        path,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy([style], scripts)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(view.name)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n",
    )


def content_security_policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return a policy that allows these inline styles and scripts, pictures in the page, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hashes(styles)}; script-src {_hashes(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def _summary(view: CaseView) -> str:
    """Describe the grid, and what is shown."""
    unit = "voxels" if view.spatial_dims == 3 else "pixels"
    shape = " × ".join(map(str, view.shape))
    spacing = " × ".join(f"{one:.3g}" for one in view.spacing)
    parts = ("image", "reference", "prediction")
    shown = [part for part in parts if getattr(view, part) is not None]
    of_mm = f" of {spacing} mm" if view.spatial_dims == 3 else ""
    return f"{shape} {unit}{of_mm}; {', '.join(shown)}."
