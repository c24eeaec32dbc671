"""Bodies of requests: forms with files, and JSON."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from medseg.server.errors import RefusedError
from medseg.server.options import Limits

_MOST_FILES = 4096
_MOST_FIELDS = 32


@dataclass
class Form:
    """A form that a client sent.

    Attributes:
        fields: text fields.
        files: field → files, as they were sent.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[UploadFile]] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """Return the JSON object in the field ``params``.

        Raises:
            RefusedError: it is not a JSON object.
        """
        return parse_object(self.fields.get("params") or "{}")

    def file(self, name: str) -> UploadFile | None:
        """Return the file in a field; None without one."""
        files = self.files.get(name)
        return files[0] if files else None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RefusedError: it is not one.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError("expected a JSON object") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RefusedError("expected a JSON object")
    return content


async def read_object(request: Request, limits: Limits) -> dict[str, Any]:
    """Read a JSON object from the body of a request; an empty body is an empty object.

    Raises:
        RefusedError: the body is something else.
    """
    body = bytearray()
    with anyio.fail_after(limits.request_seconds):
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.text_bytes:
                raise RefusedError("the JSON text is too long")
    return parse_object(bytes(body)) if body.strip() else {}


@asynccontextmanager
async def read_form(request: Request, limits: Limits) -> AsyncIterator[Form]:
    """Read a form; its files are removed at the end.

    3D Slicer keeps the headers of one request for the next if it has a token, so that the boundary in them may
    be that of another form: the one with which the body begins is used.

    Raises:
        RefusedError: the body is not a form.
    """
    form = Form()
    try:
        with anyio.fail_after(limits.request_seconds):
            parsed = await _parse(request, limits)
        for name, value in parsed.multi_items():
            if isinstance(value, UploadFile):
                form.files.setdefault(name, []).append(value)
            else:
                form.fields[name] = value
        yield form
    finally:
        for files in form.files.values():
            for file in files:
                await file.close()


async def _parse(request: Request, limits: Limits) -> Any:
    stream = request.stream()
    try:
        first = b""
        async for chunk in stream:
            first += chunk
            if len(first) > 256:
                break
        boundary = _boundary(request.headers.get("content-type", ""), first)
        headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})

        async def body() -> AsyncGenerator[bytes, None]:
            yield first
            async for chunk in stream:
                yield chunk

        parser = MultiPartParser(
            headers, body(), max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=limits.text_bytes
        )
        return await parser.parse()
    except MultiPartException as error:
        raise RefusedError("the form is damaged or has too many parts") from error
    except ClientDisconnect as error:
        raise RefusedError("the client went away") from error


def _boundary(content_type: str, body: bytes) -> str:
    """Return the boundary of a form: that in the header, or, if the body begins with another one, that one."""
    _, _, declared = content_type.partition("boundary=")
    declared = declared.partition(";")[0].strip().strip('"')
    line = body.lstrip(b"\r\n").partition(b"\r\n")[0]
    if not line.startswith(b"--") or len(line) > 202:
        if not declared:
            raise RefusedError("expected a form (multipart/form-data)")
        return declared
    found = line[2:].decode("latin-1").removesuffix("--" if not declared else "")
    if declared and line == b"--" + declared.encode("latin-1", "replace"):
        return declared
    if not found.isprintable() or '"' in found or not found:
        raise RefusedError("the form is damaged")
    return found


def store_upload(upload: UploadFile, folder: Path, suffix: str) -> Path:
    """Copy a client's file into a folder, under a name that the client does not choose."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{secrets.token_hex(8)}{suffix}"
    upload.file.seek(0)
    with path.open("wb") as stream:
        shutil.copyfileobj(upload.file, stream)
    return path
