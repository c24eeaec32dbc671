"""Running the server: its socket, its log, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from medseg.errors import ConfigError
from medseg.server.options import ServerOptions

if TYPE_CHECKING:
    import uvicorn

_PACKAGES = ("starlette", "uvicorn", "python_multipart")
_CONNECTIONS = 1024
_FIRST_REQUEST_SECONDS = 20.0


def check_packages() -> None:
    """Check that the packages of the extra ``serve`` are installed.

    Raises:
        ConfigError: one is missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the server needs the package {missing[0]}", hint="Install it with: pip install 'medseg[serve]'"
        )


def serve(options: ServerOptions, *, started: Callable[[str], None] | None = None) -> None:
    """Serve until the process is interrupted or ended.

    Args:
        options: the options.
        started: called with the server's address once it accepts requests. With port 0, the system chooses
            the port.

    Raises:
        ConfigError: the port is taken, the certificate cannot be read, or packages are missing.
        DataError: the dataset cannot be served.
        NotWritableError: labels cannot be saved in the dataset.
        ModelFileError: a model cannot be loaded.
    """
    check_packages()
    with _listen(options) as listener:
        _serve_on(listener, options, started)


def _serve_on(listener: socket.socket, options: ServerOptions, started: Callable[[str], None] | None) -> None:
    from medseg.server.app import create_app

    options = replace(options, port=listener.getsockname()[1])
    with _log_to_standard_error():
        app = create_app(options)
        try:
            _run(app, listener, options, started)
        finally:
            app.state.server.close()


def _run(
    app: Any, listener: socket.socket, options: ServerOptions, started: Callable[[str], None] | None
) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on",
        limit_concurrency=_CONNECTIONS, timeout_keep_alive=30, timeout_graceful_shutdown=10,
        ssl_certfile=options.certificate, ssl_keyfile=options.key, http=_impatient_protocol(),
    )  # fmt: skip
    try:
        config.load()
    except OSError as error:
        raise ConfigError(
            f"{options.certificate}: cannot be used as certificate ({error})",
            hint="Expected PEM files: --certificate, and --key if the key is in another file.",
        ) from error
    server = uvicorn.Server(config)
    if started is not None:
        _call_when_started(server, lambda: started(options.url))
    server.run(sockets=[listener])


def _impatient_protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's protocol, which also closes connections that send no request."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class ImpatientProtocol(H11Protocol):
        """Closes a connection without the head of a request after some seconds."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(_FIRST_REQUEST_SECONDS, self._close_if_silent)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return ImpatientProtocol


def _call_when_started(server: uvicorn.Server, call: Callable[[], None]) -> None:
    """Call a function once the server accepts requests."""
    startup = server.startup

    async def announced(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        call()

    server.startup = announced


def _listen(options: ServerOptions) -> socket.socket:
    """Open the socket, before models are loaded.

    Raises:
        ConfigError: the address or the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {options.host} port {options.port} ({reason})",
            hint="Choose another --port, or --port 0 for any.",
        ) from error
    return listener


@contextmanager
def _log_to_standard_error() -> Iterator[None]:
    """Print the server's own log, and of other modules errors only: their messages may name patients."""
    from medseg.server.http.logs import LOGGER

    quiet = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.error", "uvicorn.asgi")]
    levels = {logger: logger.level for logger in (LOGGER, *quiet)}
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    propagate = LOGGER.propagate
    for logger in quiet:
        logger.setLevel(logging.CRITICAL)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.propagate = propagate
        for logger, level in levels.items():
            logger.setLevel(level)
