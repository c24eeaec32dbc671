"""What the routes share: parameters of requests, and replies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from medseg.server.datastore import Author
from medseg.server.errors import RefusedError
from medseg.server.state import ServerState

_LONGEST = 256
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def state_of(request: Request) -> ServerState:
    """Return the server's state."""
    return request.app.state.server


def query(request: Request, name: str, default: str | None = None) -> str:
    """Return a parameter of the URL.

    Raises:
        RefusedError: it is missing, too long or not printable.
    """
    value = request.query_params.get(name, default)
    if value is None:
        raise RefusedError(f"the parameter {name} is missing")
    if len(value) > _LONGEST or (value and not value.isprintable()):
        raise RefusedError(f"the parameter {name} is not an id")
    return value


def number(text: str) -> int | None:
    """Return a whole number written in ASCII digits; None for an empty text.

    Raises:
        RefusedError: the text is something else.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise RefusedError("expected a whole number")
    return int(text)


def client_name(request: Request, parameters: dict[str, Any] | None = None) -> str:
    """Return the name by which a client calls itself, in plain printable characters."""
    given = request.headers.get("x-annotator") or (parameters or {}).get("client_id") or ""
    return re.sub(r"[^\w .@+-]", "", str(given))[:64]


def author_of(request: Request, image: str, parameters: dict[str, Any] | None = None) -> Author:
    """Return who saves a label of an image, with the models whose results the client received for it."""
    name = client_name(request, parameters)
    program = re.sub(r"[^\w ./-]", "", request.headers.get("user-agent", ""))[:64]
    return Author(name, program, state_of(request).proposals(name, image))


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a JSON reply."""
    return JSONResponse(content, status, headers)


def file_reply(path: Path, name: str, headers: dict[str, str] | None = None) -> FileResponse:
    """Return a file, with the name that the client gives it."""
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    named = {"content-disposition": disposition(name)}
    return FileResponse(path, media_type=kind, headers=(headers or {}) | named)


def disposition(name: str) -> str:
    """Return the header ``Content-Disposition`` for a file name."""
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    return f'attachment; filename="{plain}"' + (
        "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    )


def bytes_reply(content: bytes, kind: str, headers: dict[str, str] | None = None) -> Response:
    """Return bytes with their length."""
    return Response(content, media_type=kind, headers=headers)
