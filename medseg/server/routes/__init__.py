"""The routes of MONAI Label's protocol, as 3D Slicer and OHIF use it."""

from __future__ import annotations

from starlette.routing import BaseRoute

from medseg.server.routes import datastore, infer, info, learning, sessions, training


def protocol_routes() -> list[BaseRoute]:
    """Return the routes of the protocol."""
    return [
        *info.routes(),
        *infer.routes(),
        *datastore.routes(),
        *learning.routes(),
        *sessions.routes(),
        *training.routes(),
    ]
