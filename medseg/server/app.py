"""The application: routes behind the checks that every request passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from medseg.server.http.guard import Guard, error_reply
from medseg.server.models import Model
from medseg.server.models.loading import load_models
from medseg.server.options import ServerOptions
from medseg.server.routes import protocol_routes
from medseg.server.state import ServerState
from medseg.server.viewer.routes import routes as viewer_routes


def create_app(options: ServerOptions, models: Sequence[Model] | None = None) -> Starlette:
    """Create the server's application.

    Args:
        options: the options.
        models: models to serve instead of those that the options name.

    Returns:
        An ASGI application; ``app.state.server`` is its :class:`ServerState`.

    Raises:
        DataError: the dataset cannot be served.
        NotWritableError: labels cannot be saved in the dataset.
        ModelFileError: a model cannot be loaded.
        ConfigError: the options name no OHIF.
    """
    state = ServerState(options, load_models(options) if models is None else models)
    try:
        routes = [*protocol_routes(), *viewer_routes(state), *(_page_routes(state) if options.page else [])]
    except BaseException:
        state.close()
        raise

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            state.close()

    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, options=options)],
        exception_handlers=_handlers(),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.server = state
    return app


def _handlers() -> dict[type[Exception], Any]:
    """Return the handlers of errors that routes raise; Starlette prints tracebacks of others."""
    from medseg.errors import MedsegError

    return {
        HTTPException: _http_error,
        MedsegError: _error,
        TimeoutError: _error,
        OSError: _error,
        Exception: _error,
    }


async def _error(request: Request, error: Exception) -> Response:
    return error_reply(error, request.app.state.server.options)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _page_routes(state: ServerState) -> list[BaseRoute]:
    """Return the routes of the annotation page."""
    if find_spec("medseg.server.page") is None:
        return []
    return list(import_module("medseg.server.page").routes(state))
