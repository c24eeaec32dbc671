"""The annotation server of ``medseg serve`` and ``medseg annotate`` (extra ``serve``).

It speaks MONAI Label's protocol with 3D Slicer and OHIF, and saves labels into the dataset's own layout.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.server.app import create_app
    from medseg.server.datastore.store import Datastore
    from medseg.server.options import Limits, ServerOptions
    from medseg.server.run import serve

__all__ = ["Datastore", "Limits", "ServerOptions", "create_app", "serve"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.server.app": ("create_app",),
        "medseg.server.datastore.store": ("Datastore",),
        "medseg.server.options": ("Limits", "ServerOptions"),
        "medseg.server.run": ("serve",),
    },
)
