"""``/ohif/``: the viewer, and ``/proxy/dicom/``: the DICOMweb service that it reads from."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from typing import IO

import anyio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from medseg.server.errors import RefusedError, UnknownIdError
from medseg.server.http.logs import LOGGER, describe_failure
from medseg.server.http.threads import Threads
from medseg.server.state import ServerState
from medseg.server.viewer.files import PREFIX, ViewerFiles
from medseg.server.viewer.proxy import DicomProxy, ProxyReply, accepted_type, check_resource
from medseg.server.viewer.stored import keep_segmentations

_PROXY = "/proxy/dicom"
_OWN = f"{_PROXY}/wado"
"""Address of the service's resources in replies: a path, since a reverse proxy may change scheme and host."""
_LONGEST_JSON, _LONGEST_REPLY = 256 << 20, 4 << 30
_LONGEST_QUERY = 8192
_THREADS = 16
_CODE_AGE = "private, max-age=3600"


def routes(state: ServerState) -> list[BaseRoute]:
    """Return the routes of OHIF and of the proxy; none without ``--ohif``."""
    options = state.options
    if options.ohif is None:
        return []
    viewer, proxy = _Viewer(state, ViewerFiles(options.ohif)), _Proxy(state)
    return [
        Route(PREFIX.rstrip("/"), _to_viewer),
        Route(PREFIX + "{path:path}", viewer.file),
        Route(_PROXY + "/{kind:str}/{path:path}", proxy.get, methods=["GET"]),
        Route(_PROXY + "/{kind:str}/{path:path}", proxy.store, methods=["POST"]),
    ]


async def _to_viewer(request: Request) -> Response:
    return RedirectResponse(PREFIX)


class _Viewer:
    """The files of OHIF."""

    def __init__(self, state: ServerState, files: ViewerFiles) -> None:
        self._state, self._files = state, files

    async def file(self, request: Request) -> Response:
        """Return a file, or the page for OHIF's own routes."""
        name = self._files.find(request.path_params["path"])
        if name is None:
            raise UnknownIdError("there is no such file")
        content = await self._state.threads.run(self._files.read, name)
        headers = {"content-security-policy": self._files.policy}
        if ".bundle." in name or name.endswith(".wasm"):  # names that change with their content
            headers["cache-control"] = _CODE_AGE
        return Response(content, media_type=self._files.media_type(name), headers=headers)


class _Proxy:
    """Requests for the DICOMweb service."""

    def __init__(self, state: ServerState) -> None:
        seconds = state.options.limits.request_seconds
        self._state = state
        self._proxy = DicomProxy(str(state.options.data), _LONGEST_JSON, _LONGEST_REPLY, seconds)
        self._threads = Threads(_THREADS, 16 * _THREADS, seconds)
        state.on_close.append(self._proxy.close)

    async def get(self, request: Request) -> Response:
        """Search for objects, or retrieve them."""
        if len(request.scope["query_string"]) > _LONGEST_QUERY:
            raise RefusedError("the query is too long")
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        if not all(text.isprintable() for pair in query for text in pair):
            raise RefusedError("the query is not printable")
        resource = check_resource(_resource(request))
        accept = accepted_type(resource, request.headers.get("accept", ""))
        reply = await self._threads.run(self._proxy.get, resource, query, accept, _OWN)
        return self._sent(reply)

    async def store(self, request: Request) -> Response:
        """Store objects; segmentations of images of the dataset become labels, too."""
        resource = check_resource(_resource(request), store=True)
        content_type = request.headers.get("content-type", "")
        if not content_type.lower().startswith("multipart/related") or not content_type.isprintable():
            raise RefusedError("expected DICOM objects (multipart/related)")
        state = self._state
        with tempfile.TemporaryFile(dir=state.temporary) as body:
            await _receive(request, body, state.options.limits.request_seconds)
            body.seek(0)
            reply = await self._threads.run(self._proxy.store, resource, body, content_type, _OWN)
            if reply.status in (200, 202):
                body.seek(0)
                try:
                    await state.threads.run(keep_segmentations, state, body, content_type, request)
                except Exception as error:  # the service has the objects: the reply is its reply
                    LOGGER.warning("a stored object was not kept as label: %s", describe_failure(error))
        return self._sent(reply)

    def _sent(self, reply: ProxyReply) -> Response:
        if reply.status == 204:
            reply.close()
            return Response(status_code=204)
        if reply.body is not None:
            return Response(reply.body, reply.status, media_type=reply.media_type)
        return StreamingResponse(self._parts(reply), reply.status, {"content-type": reply.media_type})

    async def _parts(self, reply: ProxyReply) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._threads.run(next, reply.chunks, b""):
                yield chunk
        finally:
            reply.close()


def _resource(request: Request) -> str:
    """Return the path behind ``/proxy/dicom/qido/`` or ``/proxy/dicom/wado/``."""
    if request.path_params["kind"] not in ("qido", "wado"):
        raise UnknownIdError("this is no resource of DICOMweb")
    return request.path_params["path"]


async def _receive(request: Request, body: IO[bytes], seconds: float) -> None:
    """Write a request's body, whose size is bounded by the guard, to a file."""
    with anyio.fail_after(seconds):
        async for chunk in request.stream():
            body.write(chunk)
