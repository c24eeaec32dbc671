"""The viewer of volumes in a page: three planes, or NiiVue with a 3D view where it is installed.

A page holds one viewer for all its volumes. Its scripts and its style are inline, use no ``eval``, load
nothing, and therefore work under a strict content security policy with hashes:
``default-src 'none'; img-src data:; style-src 'sha256-…'; script-src 'sha256-…'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

from medseg.report.media.payload import VolumePayload

NIIVUE = "assets/niivue/niivue.umd.js"
"""File of NiiVue in this package, put there by ``scripts/assets``; git ignores it."""

_NOTICE = "assets/niivue/LICENSE"


def viewer_html(payloads: Sequence[VolumePayload]) -> str:
    """Return the viewer and the volumes as HTML, for the body of a page; empty without volumes.

    A button with ``data-show-volume="CASE"`` anywhere in the page opens the volume of that case.

    Args:
        payloads: the volumes, in the order of the list to choose from.
    """
    if not payloads:
        return ""
    options = "".join(f"<option>{escape(payload.name)}</option>" for payload in payloads)
    data = "".join(
        f'<script type="application/json" class="medseg-volume">{payload.json}</script>' for payload in payloads
    )
    template = _read("static/viewer.html").replace("{{options}}", options)
    return template + data


def viewer_style() -> str:
    """Return the CSS of the viewer and of the figures of cases."""
    return _read("static/viewer.css")


def viewer_scripts() -> list[str]:
    """Return the scripts of the viewer, each for an inline ``script`` element at the end of the page."""
    return [_read(f"static/{name}.js") for name in ("niivue_view", "slices", "viewer")]


def deferred_scripts() -> dict[str, str]:
    """Return what the viewer starts on demand, for :meth:`Page.add_deferred_script`.

    That is NiiVue (2.3 MB), if ``scripts/assets`` has installed it. Without it, the viewer shows slices.
    """
    if not has_niivue():
        return {}
    notice = _read(_NOTICE).replace("*/", "* /")
    return {"niivue": f"/*!\n{notice}\n*/\n{_read(NIIVUE)}"}


def has_niivue() -> bool:
    """Whether NiiVue is installed in this package."""
    root = files("medseg.report.media")
    return all(root.joinpath(*path.split("/")).is_file() for path in (NIIVUE, _NOTICE))


@cache
def _read(path: str) -> str:
    return files("medseg.report.media").joinpath(*path.split("/")).read_text(encoding="utf-8")
