"""Requests that are passed on to a DICOMweb service: reading, and storing objects."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from medseg.server.errors import RefusedError, ServiceError, UnknownIdError
from medseg.server.http.sessions import bounded_session

_UID = r"[0-9]+(?:\.[0-9]+)*"
_RESOURCE = re.compile(
    rf"(?:studies|series|instances"
    rf"|studies/{_UID}(?:/(?:metadata|rendered|thumbnail|series|instances|series/{_UID}"
    rf"(?:/(?:metadata|rendered|thumbnail|instances|instances/{_UID}"
    rf"(?:/(?:metadata|rendered|thumbnail|frames/[0-9]+(?:,[0-9]+)*(?:/(?:rendered|thumbnail))?"
    rf"|bulk(?:data)?(?:/[0-9A-Za-z]+)+))?))?))?)"
)
_STORE = re.compile(rf"studies(?:/{_UID})?")
_JSON = "application/dicom+json"
_FRAMES = 'multipart/related; type="application/octet-stream"'
_PLAIN_TYPE = re.compile(
    r"(?:image/(?:jpeg|png|gif|jp2|jpx|jls|jphc|jxl)|video/(?:mp4|mpeg)|application/dicom)\b"
)
_ADDRESS = re.compile(rb'"https?:(?:\\?/){2}[^"\s]*"')
_BEHIND_SERVICE = re.compile(rb'\\?/(studies\\?/.*)"', re.DOTALL)
_ANY_SYNTAX = re.compile(r';\s*transfer-syntax="?\*"?', re.IGNORECASE)
_PASSED = (400, 404, 406, 410, 413, 415)
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 120.0
_CHUNK = 1 << 18
_CONNECTIONS = 16


def check_resource(path: str, *, store: bool = False) -> str:
    """Return the path of a resource behind the service's address.

    Args:
        path: path of a request, without query.
        store: whether objects are stored there.

    Raises:
        UnknownIdError: it is no resource of DICOMweb.
    """
    resource = path.rstrip("/")
    if not (_STORE if store else _RESOURCE).fullmatch(resource) or len(resource) > 1024:
        raise UnknownIdError("this is no resource of DICOMweb")
    return resource


def accepted_type(resource: str, asked: str) -> str:
    """Return the header ``Accept`` for a resource.

    OHIF asks for frames with ``transfer-syntax=*``, which older servers refuse; without it, they send frames
    uncompressed.

    Args:
        resource: path of the resource.
        asked: the client's header.

    Example:
        >>> accepted_type("studies/1.2/metadata", "*/*")
        'application/dicom+json'
    """
    last = resource.rpartition("/")[2]
    if last in ("metadata", "studies", "series", "instances"):
        return _JSON
    wanted = _ANY_SYNTAX.sub("", asked).strip()
    if wanted in ("", "*/*"):
        return "image/jpeg" if last in ("rendered", "thumbnail") else _FRAMES
    return wanted


@dataclass(frozen=True)
class ProxyReply:
    """Reply of the service.

    Attributes:
        status: HTTP status.
        media_type: type of the body.
        body: the whole body; None if it comes in chunks.
        chunks: parts of the body, bounded in size and time.
        close: ends the reply, also before its end and while another thread reads it; does not wait.
    """

    status: int
    media_type: str
    body: bytes | None
    chunks: Iterator[bytes]
    close: Callable[[], None]


class _Body:
    """The parts of a body. Closing a connection waits for the thread that reads it: that thread closes it.

    Args:
        reply: the reply of requests.
        chunks: its parts.
    """

    def __init__(self, reply: Any, chunks: Iterator[bytes]) -> None:
        self._reply, self._chunks = reply, chunks
        self._reading, self._is_ended = threading.Lock(), False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._reading:
                if self._is_ended:
                    raise StopIteration
                return next(self._chunks)
        finally:
            if self._is_ended:
                self.close()

    def close(self) -> None:
        """End the reply; a thread that reads it stops."""
        self._is_ended = True
        if self._reading.acquire(blocking=False):
            try:
                self._reply.close()
            finally:
                self._reading.release()
        else:
            with suppress(Exception):  # older versions of urllib3 cannot: the thread ends after a time
                self._reply.raw.shutdown()


def _replaced(address: bytes, own: bytes) -> bytes:
    """Return an address in quotation marks, with that of the proxy before ``studies/``."""
    found = _BEHIND_SERVICE.search(address)
    return address if found is None else b'"' + own + b"/" + found[1] + b'"'


class DicomProxy:
    """Passes requests on to one DICOMweb service.

    Args:
        url: address of the service; a user and a password may be in it.
        longest_json: bytes of a reply in JSON, which is held in memory.
        longest_reply: bytes of any other reply.
        seconds: time for one request, its reply included.

    Raises:
        ConfigError: the package dicomweb-client, which brings requests, is not installed.
    """

    def __init__(self, url: str, longest_json: int, longest_reply: int, seconds: float) -> None:
        self._url, self._seconds = url.rstrip("/"), seconds
        self._longest_json, self._longest_reply = longest_json, longest_reply
        timeouts = _CONNECT_SECONDS, min(_READ_SECONDS, seconds)
        self._session = bounded_session(seconds, timeouts=timeouts, connections=_CONNECTIONS)

    def get(self, resource: str, query: Sequence[tuple[str, str]], accept: str, own: str) -> ProxyReply:
        """Read a resource.

        Args:
            resource: path of the resource, checked by :func:`check_resource`.
            query: parameters of the search.
            accept: type of the reply.
            own: path of the proxy, which replaces the address of the service in JSON. Without scheme and host,
                it is valid behind a reverse proxy, too.

        Raises:
            UnknownIdError: the service has no such object.
            RefusedError: the service does not accept the request.
            ServiceError: the service does not answer.
        """
        reply = self._send("GET", resource, {"accept": accept}, params=list(query))
        return self._passed_on(reply, own)

    def store(self, resource: str, body: IO[bytes], content_type: str, own: str) -> ProxyReply:
        """Store objects; arguments and errors as :meth:`get`.

        Args:
            resource: path of the resource.
            body: the objects, as ``multipart/related``.
            content_type: type of the body, with its boundary.
            own: path of the proxy.
        """
        headers = {"accept": _JSON, "content-type": content_type}
        return self._passed_on(self._send("POST", resource, headers, data=body), own)

    def _send(self, method: str, resource: str, headers: dict[str, str], **content: Any) -> Any:
        """Send a request; neither redirections nor texts of the service are passed on."""
        try:
            reply = self._session.request(
                method, f"{self._url}/{resource}", headers=headers | {"accept-encoding": "identity"},
                stream=True, allow_redirects=False, **content,
            )  # fmt: skip
        except Exception as error:  # requests raises errors of many kinds
            raise ServiceError(f"the DICOMweb service does not answer ({type(error).__name__})") from error
        status = int(reply.status_code)
        if 200 <= status < 300 or (method == "POST" and status == 409):
            return reply
        reply.close()
        if status in (404, 410):
            raise UnknownIdError("the DICOMweb service has no such object")
        if status in _PASSED:
            raise RefusedError(f"the DICOMweb service does not accept the request (status {status})")
        raise ServiceError(f"the DICOMweb service cannot answer (status {status})")

    def _passed_on(self, reply: Any, own: str) -> ProxyReply:
        chunks = _Body(reply, self._chunks(reply))
        declared = str(reply.headers.get("content-type", ""))
        kind = declared.partition(";")[0].strip().lower()
        if kind in (_JSON, "application/json"):
            try:
                body = self._read(chunks)
            finally:
                reply.close()
            body = _ADDRESS.sub(lambda found: _replaced(found[0], own.encode()), body)
            return ProxyReply(reply.status_code, kind, body, iter(()), reply.close)
        safe = kind == "multipart/related" or _PLAIN_TYPE.fullmatch(kind) is not None
        plain = declared.isascii() and declared.isprintable()
        media_type = declared if safe and plain else "application/octet-stream"
        return ProxyReply(reply.status_code, media_type, None, chunks, chunks.close)

    def _read(self, chunks: Iterator[bytes]) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self._longest_json:
                raise ServiceError("the reply of the DICOMweb service is too long")
        return bytes(body)

    def _chunks(self, reply: Any) -> Iterator[bytes]:
        """Yield the parts of a body, up to a number of bytes and for a time."""
        received, end = 0, time.monotonic() + self._seconds
        try:
            for chunk in reply.iter_content(_CHUNK):
                received += len(chunk)
                if received > self._longest_reply:
                    raise ServiceError("the reply of the DICOMweb service is too long")
                if time.monotonic() > end:
                    raise TimeoutError
                yield chunk
        except (ServiceError, TimeoutError):
            raise
        except Exception as error:  # requests raises errors of many kinds
            raise ServiceError(
                f"the reply of the DICOMweb service broke off ({type(error).__name__})"
            ) from error
        finally:
            reply.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
