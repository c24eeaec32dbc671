"""``/session/``: images that clients send and that are not in the dataset."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from medseg.server.http.bodies import read_form
from medseg.server.routes.common import number, query, reply, state_of


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/session/", create, methods=["PUT"]),
        Route("/session/{id}", get, methods=["GET"]),
        Route("/session/{id}", remove, methods=["DELETE"]),
    ]


async def create(request: Request) -> Response:
    """Keep an image for the requests of one client."""
    state = state_of(request)
    expiry = number(query(request, "expiry", ""))
    async with read_form(request, state.options.limits) as form:
        files = form.files.get("files", [])
        id = await state.threads.run(state.uploads.create, files, float(expiry) if expiry else None)
    return reply({"session_id": id, "session_info": state.uploads.get(id).as_dict(id)})


async def get(request: Request) -> Response:
    """Describe a session."""
    id = request.path_params["id"]
    return reply(state_of(request).uploads.get(id).as_dict(id))


async def remove(request: Request) -> Response:
    """End a session."""
    state, id = state_of(request), request.path_params["id"]
    session = await state.threads.run(state.uploads.remove, id)
    return reply(session.as_dict(id))
