"""The files of a built OHIF, in a folder or in MONAI Label's wheel."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Protocol

from medseg.errors import ConfigError

PREFIX = "/ohif/"
"""Path at which OHIF is served; it is compiled into the build."""

_INDEX, _SETTINGS, _MANIFEST = "index.html", "app-config.js", "manifest.json"
_IN_WHEEL = "monailabel/endpoints/static/ohif/"
_HINT = (
    "Name the folder of an OHIF that was built with PUBLIC_URL=/ohif/, or MONAI Label's wheel, which contains "
    "one: pip download --no-deps monailabel==0.8.5"
)
_TYPES = {
    ".css": "text/css", ".html": "text/html", ".ico": "image/x-icon", ".jpg": "image/jpeg",
    ".js": "text/javascript", ".json": "application/json", ".map": "application/json", ".png": "image/png",
    ".svg": "image/svg+xml", ".ttf": "font/ttf", ".wasm": "application/wasm",
    ".webmanifest": "application/json", ".woff": "font/woff", ".woff2": "font/woff2", ".xml": "text/xml",
}  # fmt: skip
_ELSEWHERE = re.compile(r"""<link\b[^>]*\bhref=["']?(https?:)?//[^>]*>""", re.IGNORECASE)
_IMPORTS = re.compile(rb"""@import\s+url\(["']?(?:https?:)?//[^)]*\)[^;]*;""")
_INLINE = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.IGNORECASE | re.DOTALL)


class _Source(Protocol):
    """Files by name."""

    names: frozenset[str]

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        paths = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        self.names = frozenset(path.relative_to(root).as_posix() for path in paths)

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class _Wheel:
    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as wheel:
            members = (name for name in wheel.namelist() if name.startswith(_IN_WHEEL))
            self.names = frozenset(name.removeprefix(_IN_WHEEL) for name in members if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self._path) as wheel:
            return wheel.read(_IN_WHEEL + name)


class ViewerFiles:
    """The files of a built OHIF. Only files that it lists at the start are served.

    Links of its page and styles to other servers, such as those of fonts, are removed, and its settings are
    replaced by those of this server.

    Args:
        source: folder of the build, or MONAI Label's wheel.

    Attributes:
        policy: content security policy of its pages.

    Raises:
        ConfigError: there is no OHIF, or it was built for another path than ``/ohif/``.
    """

    def __init__(self, source: Path) -> None:
        self._source = _open(source)
        if _INDEX not in self._source.names:
            raise ConfigError(f"{source}: contains no built OHIF", hint=_HINT, path=source)
        try:
            content = self._source.read(_INDEX).decode("utf-8")
        except (OSError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
            raise ConfigError(
                f"{source}: its {_INDEX} cannot be read ({type(error).__name__})", hint=_HINT, path=source
            ) from error
        page = _ELSEWHERE.sub("", content.replace("\r\n", "\n"))  # browsers hash scripts with these line ends
        if f"{PREFIX}{_SETTINGS}" not in page:
            raise ConfigError(
                f"{source}: this OHIF was not built for the path {PREFIX}", hint=_HINT, path=source
            )
        self._own: dict[str, Callable[[], bytes]] = {
            _INDEX: page.encode,
            _SETTINGS: files("medseg.server.viewer").joinpath("static", "settings.js").read_bytes,
        }
        self.policy = _policy(page)

    def find(self, path: str) -> str | None:
        """Return the name of the file at a path behind ``/ohif/``; OHIF's own routes lead to its page.

        Args:
            path: path of a request.
        """
        if path in self._source.names or path in self._own:
            return path
        return None if PurePosixPath(path).suffix.lower() in _TYPES else _INDEX

    def read(self, name: str) -> bytes:
        """Return the content of a file that :meth:`find` returned."""
        own = self._own.get(name)
        content = self._source.read(name) if own is None else own()
        if name == _MANIFEST:  # its icons lie below the same path as the rest
            return content.replace(b'"/assets/', f'"{PREFIX}assets/'.encode())
        return _IMPORTS.sub(b"", content) if name.endswith(".css") else content

    @staticmethod
    def media_type(name: str) -> str:
        """Return the type of a file's content."""
        return _TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def _open(source: Path) -> _Source:
    """Open a folder or a wheel.

    Raises:
        ConfigError: it is neither.
    """
    if source.is_dir():
        return _Folder(source)
    if source.is_file() and zipfile.is_zipfile(source):
        with suppress(zipfile.BadZipFile):
            return _Wheel(source)
    raise ConfigError(f"{source}: neither a folder nor a wheel", hint=_HINT, path=source)


def _policy(page: str) -> str:
    """Return the content security policy of a page: its own scripts, and WebAssembly that decodes images."""
    digests = [hashlib.sha256(script.encode()).digest() for script in _INLINE.findall(page)]
    inline = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {inline}; worker-src 'self' blob:; "
        "connect-src 'self' blob: data:; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
        "font-src 'self' data:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
