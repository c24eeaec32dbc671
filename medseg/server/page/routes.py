"""Routes of the page: its files, and what they request: cases, voxels, labels, prompts."""

from __future__ import annotations

import base64
import getpass
import json
import math
import zlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from medseg.geometry import Array
from medseg.server.datastore.versions import Author
from medseg.server.errors import RefusedError, UnknownIdError
from medseg.server.page.desk import Desk
from medseg.server.page.prompting import PagePrompts, PlaneOfPrompt, parse_prompt

if TYPE_CHECKING:
    from medseg.server.state import ServerState

PREFIX = "/annotate/"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_LONGEST_NAME = 60
_LABEL_LEVEL = 1
"""Level of compression of label maps: most of their voxels are equal, and time counts."""

_SMALL_BODY = 1 << 16
"""Bytes by which the compressed label map of a small image can be larger than its voxels."""

Handler = Callable[[Request], Awaitable[Response]]


def routes(state: ServerState) -> list[BaseRoute]:
    """Return the routes of the page.

    Args:
        state: state of the server.
    """
    page = _Page(state)
    api = PREFIX + "api/"
    return [
        Route("/", _to_page),
        Route(PREFIX.rstrip("/"), _to_page),
        Route(PREFIX, _file_of("index.html")),
        Route(PREFIX + "static/{name}", _static),
        Route(api + "info", page.info),
        Route(api + "cases", page.cases),
        Route(api + "next", page.next_case, methods=["POST"]),
        Route(api + "classes", page.add_class, methods=["POST"]),
        Route(api + "cases/{id}", page.case),
        Route(api + "cases/{id}/image", page.image),
        Route(api + "cases/{id}/label", page.label),
        Route(api + "cases/{id}/label", page.save, methods=["PUT"]),
        Route(api + "cases/{id}/proposal", page.proposal, methods=["POST"]),
        Route(api + "sessions", page.open_session, methods=["POST"]),
        Route(api + "sessions/{session}/prompts", page.prompt, methods=["POST"]),
        Route(api + "sessions/{session}/undo", page.undo, methods=["POST"]),
        Route(api + "sessions/{session}", page.close_session, methods=["DELETE"]),
    ]


class _Page:
    """The handlers that need the server's state."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.desk = Desk(state)
        self.prompts = PagePrompts(state, self.desk)
        self.author = _user() if state.options.is_local else ""

    async def info(self, request: Request) -> Response:
        """Return dataset, classes, models and strategies."""
        return JSONResponse(await self.state.threads.run(self._info))

    async def cases(self, request: Request) -> Response:
        """Return id and state of all cases, and the version of the open case's label."""
        return JSONResponse(await self.state.threads.run(self._cases, request.query_params.get("open", "")))

    async def next_case(self, request: Request) -> Response:
        """Choose the next case."""
        query = request.query_params
        arguments = (query.get("strategy", "random"), _client(request), query.get("after", ""))
        return JSONResponse({"case": await self.state.threads.run(self.desk.next_case, *arguments)})

    async def add_class(self, request: Request) -> Response:
        """Add a class to the dataset."""
        name = (await _object(request)).get("name")
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
            raise RefusedError(f"the name of a class has 1 to {_LONGEST_NAME} characters")
        values = await self.state.threads.run(self.state.datastore.add_labels, [name.strip()])
        value = next(v for known, v in values.items() if known.casefold() == name.strip().casefold())
        return JSONResponse({"value": value, "classes": self.desk.classes()})

    async def case(self, request: Request) -> Response:
        """Describe a case."""
        return JSONResponse(await self.state.threads.run(self.desk.describe, request.path_params["id"]))

    async def image(self, request: Request) -> Response:
        """Return the voxels of a channel, or of one of its planes."""
        query = request.query_params
        numbers = [_integer(query.get(name)) for name in ("channel", "axis", "index")]
        content = await self.state.threads.run(self._image, request.path_params["id"], *numbers)
        return Response(content, media_type="application/octet-stream")

    async def label(self, request: Request) -> Response:
        """Return a label map, compressed; 204 without one."""
        found = await self.state.threads.run(self.desk.read_label, request.path_params["id"])
        if found is None:
            return Response(status_code=204)
        label, version = found
        return await self._label_reply(label, {"x-label-version": version})

    async def save(self, request: Request) -> Response:
        """Save a label map as a draft or, if it is accepted, into the dataset."""
        image = await self.state.threads.run(self.desk.image, request.path_params["id"])
        most = 2 * math.prod(image.frame.page_shape) + _SMALL_BODY
        with anyio.fail_after(self.state.options.limits.request_seconds):
            body = await _body(request, most)
        return JSONResponse(await self.state.threads.run(self._save, request, body))

    async def proposal(self, request: Request) -> Response:
        """Return the label map of an automatic model, compressed."""
        arguments = (request.path_params["id"], request.query_params.get("model", ""), _client(request))
        return await self._label_reply(await self.state.threads.run(self.desk.propose, *arguments), {})

    async def open_session(self, request: Request) -> Response:
        """Open a session of a prompt model."""
        content = await _object(request)
        plane = PlaneOfPrompt.parse(content)
        mask = content.get("mask")
        if not isinstance(mask, str | None):
            raise RefusedError("mask is not text")
        id, model = str(content.get("case", "")), str(content.get("model", ""))
        session = await self.state.threads.run(self._open_session, id, model, plane, mask, _client(request))
        return JSONResponse({"session": session})

    async def prompt(self, request: Request) -> Response:
        """Give a prompt to a session and return the mask."""
        session, prompt = request.path_params["session"], parse_prompt(await _object(request))
        return _mask_reply(*await self.state.threads.run(self.prompts.add, session, prompt))

    async def undo(self, request: Request) -> Response:
        """Take back the last prompt of a session and return the mask before it."""
        return _mask_reply(*await self.state.threads.run(self.prompts.undo, request.path_params["session"]))

    async def close_session(self, request: Request) -> Response:
        """Close a session."""
        await self.state.threads.run(self.prompts.close, request.path_params["session"])
        return Response(status_code=204)

    async def _label_reply(self, label: Array, headers: dict[str, str]) -> Response:
        content = await self.state.threads.run(pack, label)
        headers = headers | {"x-label-type": label.dtype.name}
        return Response(content, media_type="application/gzip", headers=headers)

    def _info(self) -> dict[str, Any]:
        store = self.state.datastore
        return {
            "dataset": store.folder.resolve().name,
            "classes": self.desk.classes(),
            "models": self.prompts.models(),
            "strategies": self.state.strategies.names(),
            "author": self.author,
        }

    def _cases(self, open_case: str) -> dict[str, Any]:
        current = self.desk.current(open_case) if open_case else None
        version = current.id if current is not None else None
        return {"cases": self.desk.cases(), "classes": self.desk.classes(), "version": version}

    def _image(self, id: str, channel: int | None, axis: int | None, index: int | None) -> bytes:
        image = self.desk.image(id)
        if channel is None or not 0 <= channel < len(image.channels):
            raise UnknownIdError("there is no such channel")
        if axis is None or index is None:
            if not image.is_whole:
                raise RefusedError("the image is too large for one answer: request planes")
            return image.voxels(channel)
        if not 0 <= axis < 3 or not 0 <= index < image.frame.page_shape[axis]:
            raise UnknownIdError("there is no such plane")
        return image.plane(channel, axis, index)

    def _save(self, request: Request, body: bytes) -> dict[str, str]:
        id, query = request.path_params["id"], request.query_params
        kind = np.dtype(np.uint16 if query.get("dtype") == "uint16" else np.uint8)
        label = unpack(body, self.desk.image(id).frame.page_shape, kind)
        name = query.get("author", "")[:_LONGEST_NAME] or self.author
        author = Author(name, "page", self.state.proposals(_client(request), id))
        accepted = query.get("accepted") == "1"
        version, state = self.desk.save(id, label, base=query.get("base", ""), accepted=accepted, by=author)
        return {"version": version, "state": state}

    def _open_session(self, id: str, model: str, plane: PlaneOfPrompt, packed: str | None, client: str) -> str:
        mask = None
        if packed is not None:
            try:
                data = base64.b64decode(packed, validate=True)
            except ValueError as error:
                raise RefusedError("mask is not base64") from error
            mask = unpack(data, self.desk.image(id).frame.page_shape, np.dtype(np.uint8)) != 0
        return self.prompts.open(id, model, plane, mask, client)


def pack(label: Array) -> bytes:
    """Compress a label map (X, Y, Z) by gzip, x fastest."""
    compressor = zlib.compressobj(_LABEL_LEVEL, zlib.DEFLATED, 31)  # 31: gzip
    kind = label.dtype.newbyteorder("<")
    parts = [
        compressor.compress(np.ascontiguousarray(one.T, kind).tobytes()) for one in np.moveaxis(label, 2, 0)
    ]
    return b"".join([*parts, compressor.flush()])


def unpack(body: bytes, shape: tuple[int, int, int], kind: np.dtype[Any]) -> Array:
    """Return the label map (X, Y, Z) that :func:`pack` compressed.

    Raises:
        RefusedError: the body is not gzip, or has another number of bytes.
    """
    expected = math.prod(shape) * kind.itemsize
    unpacker = zlib.decompressobj(31)
    try:
        data = unpacker.decompress(body, expected + 1)
    except zlib.error as error:
        raise RefusedError("the label map is not compressed by gzip") from error
    if len(data) != expected or not unpacker.eof:
        raise RefusedError(f"the label map has another size than its image: expected {expected} bytes")
    return np.frombuffer(data, kind.newbyteorder("<")).reshape(shape, order="F").astype(kind, copy=False)


async def _to_page(request: Request) -> Response:
    return RedirectResponse(PREFIX)


def _file_of(name: str) -> Handler:
    content = files("medseg.server.page").joinpath("static", name).read_bytes()
    kind = _TYPES[name.rpartition(".")[2]]

    async def handler(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"content-security-policy": _POLICY})

    return handler


async def _static(request: Request) -> Response:
    """Return a file of the page; only files of the package have a name here."""
    handler = _STATIC.get(request.path_params["name"])
    return Response(status_code=404) if handler is None else await handler(request)


_STATIC = {
    entry.name: _file_of(entry.name)
    for entry in files("medseg.server.page").joinpath("static").iterdir()
    if entry.name.rpartition(".")[2] in _TYPES
}


def _mask_reply(content: bytes, box: tuple[list[int], list[int]]) -> Response:
    headers = {"x-mask-box": json.dumps(box)}
    return Response(content, media_type="application/gzip", headers=headers)


async def _body(request: Request, most: int) -> bytes:
    """Read the body of a request.

    Raises:
        RefusedError: it has more than ``most`` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RefusedError("the label map has another size than its image")
    return bytes(body)


async def _object(request: Request) -> dict[str, Any]:
    from medseg.server.http.bodies import read_object

    return await read_object(request, request.app.state.server.options.limits)


def _user() -> str:
    """Return the name of the user who runs the server; empty if the system does not know it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _client(request: Request) -> str:
    """Return the name by which a window of a browser is known; it is sent with each request."""
    return request.headers.get("x-client", "")[:_LONGEST_NAME] or "page"


def _integer(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RefusedError("expected a number")
    return int(text)
