"""``/train/``: start, follow and stop trainings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from medseg.server.errors import UnknownIdError
from medseg.server.http.bodies import read_object
from medseg.server.routes.common import query, reply, state_of


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/train/", status, methods=["GET"]),
        Route("/train/", stop, methods=["DELETE"]),
        Route("/train/", start, methods=["POST"]),
        Route("/train/{model}", start, methods=["POST"]),
    ]


async def start(request: Request) -> Response:
    """Start a training, of the first model if none is named."""
    state = state_of(request)
    parameters = await read_object(request, state.options.limits)
    name = request.path_params.get("model", "")
    return reply(await state.threads.run(state.training.start, name, parameters))


async def status(request: Request) -> Response:
    """Describe the last training, also one that ended with an earlier server.

    404 if there is none, or with ``check_if_running=true`` if it has ended.
    """
    state = state_of(request)
    running = query(request, "check_if_running", "") == "true"
    found = await state.threads.run(state.training.current, running=running)
    if found is None:
        raise UnknownIdError("no training is running" if running else "no training was started")
    return reply([found] if query(request, "all", "") == "true" else found)


async def stop(request: Request) -> Response:
    """Stop the training; its state is saved, and the next start continues it."""
    state = state_of(request)
    return reply(await state.threads.run(state.training.stop))
