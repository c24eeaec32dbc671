"""What every request passes: host, origin, token, size, time, and errors as JSON."""

from __future__ import annotations

import errno
import hmac
import ipaddress
import logging
import re
import socket
import tempfile
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medseg.errors import DataError, DiskFullError, GeometryError, MedsegError, NotWritableError
from medseg.files import is_disk_full
from medseg.server.errors import BusyError, ConflictError, RefusedError, ServiceError, UnknownIdError
from medseg.server.http.logs import LOGGER, describe_failure
from medseg.server.options import ServerOptions
from medseg.system.allocator import is_out_of_memory

CONTENT_POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": CONTENT_POLICY,
}
_PUBLIC = ("/auth/", "/auth", "/auth/token", "/health")
_PART_SECONDS = 60.0
"""Time in which the next part of a body must arrive."""
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class TooLargeError(RefusedError):
    """The body of a request is larger than the limit (HTTP 413)."""


_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UnknownIdError, 404),
    (ConflictError, 412),
    (BusyError, 503),
    (ServiceError, 502),
    (TooLargeError, 413),
    (RefusedError, 400),
    (GeometryError, 422),
    (DataError, 422),
    (TimeoutError, 504),
)


def error_reply(error: Exception, options: ServerOptions) -> Response:
    """Return the reply to a request that ended with an error; unexpected errors are logged, not shown."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    headers = {"retry-after": "5"} if status == 503 else None
    if status == 504:
        return JSONResponse({"detail": "the request took too long"}, 504)
    if isinstance(error, DiskFullError) or is_disk_full(error):
        return JSONResponse({"detail": "the server's disk is full"}, 507)
    if isinstance(error, NotWritableError) or getattr(error, "errno", None) == errno.EROFS:
        LOGGER.error("a folder cannot be written to: %s", describe_failure(error))
        return JSONResponse({"detail": "the server cannot write to its folder"}, 507)
    if status is not None or isinstance(error, MedsegError):
        return JSONResponse({"detail": public_text(error, options)}, status or 500, headers)
    if is_out_of_memory(error):
        return JSONResponse({"detail": "the server has too little memory for this request"}, 507)
    LOGGER.error("unexpected error: %s", describe_failure(error))
    return JSONResponse({"detail": "unexpected error; the server's log says where"}, 500)


def public_text(error: Exception, options: ServerOptions) -> str:
    """Return an error's text without the names of files and folders on the server.

    Texts in which a folder is still named are replaced by the kind of the error.
    """
    path: Path | None = getattr(error, "path", None)
    text = str(error)
    for known in (path, path.resolve() if path is not None else None):
        if known is not None:
            text = text.replace(str(known), "the file")
    folders = [
        Path(str(one)) for one in (options.data, options.cache, options.runs, tempfile.gettempdir()) if one
    ]
    named = {str(form) for folder in folders for form in (folder, folder.resolve())}
    if any(one in text for one in named) or _PATH.search(text):
        return f"the files of this image cannot be used ({type(error).__name__})"
    return text


_PATH = re.compile(r"(^|[\s'\"(:])(/|\\\\|[A-Za-z]:[\\/])\S|\S[/\\]\S+[/\\]")
"""An absolute path, or a relative one with two folders."""


class Guard:
    """Checks every request before it reaches a route, and logs it without ids.

    Args:
        app: the application behind it.
        options: the server's options.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app, self._options = app, options
        self._cookie = f"medseg-token-{options.port}"
        names = {*options.allowed_hosts, *(_LOCAL_NAMES if options.is_local else _names_of(options.host))}
        self._hosts = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began, reply = time.perf_counter(), _Reply(send, self._extra_headers(scope))
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, reply.send)
            else:
                await self._app(scope, self._bounded(scope, receive), reply.send)
        except Exception as error:
            if reply.started:
                LOGGER.error("a reply broke off: %s", describe_failure(error))
                raise
            await error_reply(error, self._options)(scope, receive, reply.send)
        finally:
            _log(scope, reply, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the reply to a request that is not let through; None lets it through."""
        headers = Headers(scope=scope)
        if not self._is_known_host(headers.get("host", "")):
            return JSONResponse({"detail": "the server does not answer under this name"}, 421)
        if not self._is_allowed_origin(scope, headers):
            return JSONResponse({"detail": "other web pages may not use the server"}, 403)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > self._options.limits.upload_bytes:
            return JSONResponse({"detail": "the request is too large"}, 413)
        if scope["method"] == "OPTIONS" and headers.get("access-control-request-method"):
            return Response(status_code=204)
        return self._login(scope, headers)

    def _is_known_host(self, host: str) -> bool:
        """Whether a client used a name of this server: other names mean DNS rebinding."""
        if not _HOST.fullmatch(host):  # urlsplit also takes users and paths, which would get into addresses
            return False
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            _ = urlsplit(f"//{host}").port
        except ValueError:
            return False
        if name in self._hosts:
            return True
        return not self._options.is_local and _is_address(name)

    def _is_allowed_origin(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request comes from no web page, from the server's own, or from one that is allowed."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") != "cross-site" or scope["method"] in ("GET", "HEAD")
        return origin == f"{scope['scheme']}://{headers.get('host')}" or origin in self._options.allowed_origins

    def _login(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the reply to a request without the token; a token in the URL becomes a cookie."""
        token = self._options.token
        if token is None or scope["path"] in _PUBLIC:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and is_same_secret(given.strip(), token):
            return None
        if is_same_secret(_cookie(headers, self._cookie), token):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and any(
            name == "token" and is_same_secret(value, token) for name, value in query
        ):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = "/" + scope["path"].lstrip("/\\")
            reply = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
            reply.set_cookie(
                self._cookie,
                token,
                httponly=True,
                samesite="strict",
                secure=self._options.certificate is not None,
            )
            return reply
        return JSONResponse({"detail": "a token is needed"}, 401, {"www-authenticate": "Bearer"})

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Return a ``receive`` that ends a request whose body exceeds the limit."""
        received, limit, complete = 0, self._options.limits.upload_bytes, False

        async def bounded() -> Message:
            nonlocal received, complete
            with anyio.fail_after(None if complete else _PART_SECONDS):
                message = await receive()
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLargeError("the request is too large")
            return message

        return bounded

    def _extra_headers(self, scope: Scope) -> dict[str, str]:
        """Return headers for a web page that may use the server from elsewhere."""
        origin = Headers(scope=scope).get("origin")
        if origin not in self._options.allowed_origins or origin is None:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-allow-headers": "authorization, content-type, if-match, if-none-match",
            "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE",
            "access-control-expose-headers": "etag, x-label-version, content-disposition",
            "cross-origin-resource-policy": "cross-origin",
            "vary": "origin",
        }


class _Reply:
    """Sends a reply with the headers that every reply has."""

    def __init__(self, send: Send, extra: dict[str, str]) -> None:
        self._send, self._extra = send, extra
        self.started, self.status, self.bytes = False, 0, 0

    async def send(self, message: Message) -> None:
        """Send one message of a reply."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in (_HEADERS | self._extra).items():
                if name in self._extra or name not in headers:
                    headers[name] = value
        self.bytes += len(message.get("body", b""))
        await self._send(message)


def _log(scope: Scope, reply: _Reply, seconds: float) -> None:
    """Log one request by its route, without ids."""
    route: Any = scope.get("route")
    path = getattr(route, "path", None) or ("/" if scope["path"] == "/" else "(no route)")
    level = logging.WARNING if reply.status >= 500 else logging.INFO
    LOGGER.log(
        level, "%s %s %d %d bytes %.0f ms", _method(scope), path, reply.status, reply.bytes, 1000 * seconds
    )


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"


def is_same_secret(given: str, secret: str) -> bool:
    """Compare a secret in a time that does not depend on what is the same."""
    return hmac.compare_digest(given.encode(), secret.encode())


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names_of(host: str) -> set[str]:
    """Return the names by which clients reach a server that listens on a host."""
    names: set[str] = {host, *_LOCAL_NAMES}
    call: Callable[[], str]
    for call in (socket.gethostname, socket.getfqdn):
        names.add(call())
    return names
