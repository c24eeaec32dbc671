"""``/auth/``, ``/info/``, ``/logs/``, ``/health``: what a client asks first."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from medseg.server.http.guard import is_same_secret
from medseg.server.models import AutomaticModel, Model
from medseg.server.routes.common import number, query, reply, state_of
from medseg.server.state import ServerState
from medseg.system.version import medseg_version


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/health", health),
        Route("/auth/", auth),
        Route("/auth/token", token, methods=["POST"]),
        Route("/auth/token/valid", valid_token),
        Route("/info/", info),
        Route("/logs/", logs),
    ]


async def health(request: Request) -> Response:
    """Answer that the server runs."""
    return reply({"status": "ok"})


async def auth(request: Request) -> Response:
    """Say whether clients need a token."""
    return reply({"enabled": state_of(request).options.token is not None})


async def token(request: Request) -> Response:
    """Exchange a password, which is the server's token, for the token: 3D Slicer asks for a password."""
    secret = state_of(request).options.token or ""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > 4096:
            break
    given = parse_qs(bytes(body[:4096]).decode("utf-8", "replace")).get("password", [""])[0]
    if not secret or not is_same_secret(given, secret):
        return reply({"detail": "the password is the server's token"}, 401)
    return reply({"access_token": secret, "token_type": "bearer"})


async def valid_token(request: Request) -> Response:
    """Answer that the token is valid: without it, the request is refused before it arrives here."""
    return reply({})


async def info(request: Request) -> Response:
    """Describe models, labels, strategies, trainings and the dataset."""
    state = state_of(request)
    return reply(await state.threads.run(describe, state))


def describe(state: ServerState) -> dict[str, Any]:
    """Return the content of ``/info/``. It has no ``config``: 3D Slicer refuses servers that have one."""
    return {
        "name": "medseg",
        "description": "medseg annotation server",
        "version": medseg_version(),
        "labels": state.label_names(),
        "models": {model.name: describe_model(model, state) for model in state.models.all()},
        "trainers": {name: {"description": "", "config": {}} for name in state.training.names()},
        "strategies": {
            name: {"description": text, "config": {}} for name, text in state.strategies.names().items()
        },
        "train_stats": state.training.statistics(),
        "datastore": state.datastore.status(),
    }


def describe_model(model: Model, state: ServerState) -> dict[str, Any]:
    """Describe one model as clients expect it."""
    if isinstance(model, AutomaticModel):
        return {
            "type": model.kind, "labels": model.served_labels, "dimension": model.spatial_dims,
            "description": "segments an image", "config": {},
        }  # fmt: skip
    return {
        "type": model.kind, "labels": state.label_names(), "dimension": 3 if 3 in model.spatial_dims else 2,
        "description": "segments what positive and negative points show", "config": {},
    }  # fmt: skip


async def logs(request: Request) -> Response:
    """Return the last lines of the log, as JSON or as text."""
    lines = list(state_of(request).log.lines)
    count = number(query(request, "lines", "300")) or len(lines)
    lines = lines[-count:] if count else lines
    if request.query_params.get("text") == "true":
        return PlainTextResponse("\n".join(lines))
    return reply(lines)
