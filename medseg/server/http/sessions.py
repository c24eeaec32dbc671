"""Requests to another service that end after a time, also if it sends byte by byte, and bounded in size."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from medseg.errors import ConfigError

_CURRENT = threading.local()


class Deadline:
    """Shuts the connection of a request down after a time: a thread that waits for it goes on at once.

    Timeouts of sockets start again with every byte.

    Args:
        seconds: the time, which starts now.

    Attributes:
        is_over: whether the time has passed.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def attach(self, connection: socket.socket) -> None:
        """Watch a connection instead of an earlier one."""
        own = connection.dup()  # stays valid when the connection's owner closes it
        with self._lock:
            self._connection, earlier = own, self._connection
            if self.is_over:
                self._shut()
        if earlier is not None:
            earlier.close()

    def stop(self) -> None:
        """Leave the connection alone from now on."""
        self._timer.cancel()
        with self._lock:
            own, self._connection = self._connection, None
        if own is not None:
            own.close()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            self._shut()

    def _shut(self) -> None:
        own, self._connection = self._connection, None
        if own is not None:
            with suppress(OSError):  # the service has closed it
                own.shutdown(socket.SHUT_RDWR)
            own.close()


def bounded_session(
    seconds: float,
    longest: int | None = None,
    timeouts: tuple[float, float] = (10.0, 120.0),
    connections: int = 10,
) -> Any:
    """Return a session of requests with a limit of time for each request, its reply included.

    Args:
        seconds: time of a request; that of a streamed reply ends when the reply is closed.
        longest: bytes of a reply; None: any number.
        timeouts: time to connect, and for the next part of a reply.
        connections: connections that are kept open.

    Raises:
        ConfigError: the package dicomweb-client, which brings requests, is not installed.
    """
    try:
        import requests
    except ImportError as error:
        raise ConfigError(
            "DICOMweb needs the package dicomweb-client", hint="Install it with: pip install 'medseg[serve]'"
        ) from error

    class BoundedSession(requests.Session):
        """Gives each request a deadline, which redirections share."""

        def send(self, *args: Any, **options: Any) -> requests.Response:
            if _deadline() is not None:  # a redirection
                return super().send(*args, **options)
            deadline = _CURRENT.deadline = Deadline(seconds)
            try:
                reply = super().send(*args, **options)
            except BaseException:
                deadline.stop()
                raise
            finally:
                _CURRENT.deadline = None
            if options.get("stream"):
                _call_on_close(reply, deadline)
            else:
                deadline.stop()
            return reply

    session = BoundedSession()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _adapter(longest, timeouts, connections))
    return session


def _deadline() -> Deadline | None:
    """Return the deadline of the request that this thread sends."""
    return getattr(_CURRENT, "deadline", None)


def _call_on_close(reply: Any, deadline: Deadline) -> None:
    close = reply.close

    def ended() -> None:
        deadline.stop()
        close()

    reply.close = ended


def _adapter(longest: int | None, timeouts: tuple[float, float], connections: int) -> Any:
    from requests.adapters import HTTPAdapter

    pools = _pool_classes()

    class BoundedAdapter(HTTPAdapter):
        """Opens connections that deadlines watch; counts the bytes of replies."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*args, **options)
            manager.pool_classes_by_scheme = pools
            return manager

        def send(self, *args: Any, **options: Any) -> Any:
            reply: Any = super().send(*args, **options | {"timeout": timeouts})
            parts, deadline = reply.iter_content, _deadline()
            reply.iter_content = lambda *sizes, **more: _bounded(parts(*sizes, **more), longest, deadline)
            return reply

    return BoundedAdapter(pool_maxsize=connections)


def _bounded(parts: Iterator[bytes], longest: int | None, deadline: Deadline | None) -> Iterator[bytes]:
    """Yield the parts of a body; raise an error if it is too long, or its time is over."""
    received = 0
    for part in parts:
        received += len(part)
        if longest is not None and received > longest:
            raise ReplyTooLongError
        yield part
    if deadline is not None and deadline.is_over:  # a body of unknown length looks complete
        raise TimeoutError


class ReplyTooLongError(Exception):
    """A reply has more bytes than it may have."""


def _pool_classes() -> dict[str, Any]:
    """Return urllib3's pools with connections that deadlines watch."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def watched(connection: Any, pool: Any) -> Any:
        class Watched(connection):
            """A connection that the deadline of each of its requests watches."""

            _twin: socket.socket | None = None

            def _new_conn(self) -> socket.socket:
                made: socket.socket = super()._new_conn()
                if self._twin is not None:
                    self._twin.close()
                self._twin = made.dup()  # that of TLS cannot be shut down from outside
                self._watch()
                return made

            def request(self, *args: Any, **options: Any) -> Any:
                self._watch()
                return super().request(*args, **options)

            def close(self) -> None:
                super().close()
                twin, self._twin = self._twin, None
                if twin is not None:
                    twin.close()

            def _watch(self) -> None:
                deadline = _deadline()
                if deadline is not None and self._twin is not None:
                    deadline.attach(self._twin)

        return type("WatchedPool", (pool,), {"ConnectionCls": Watched})

    return {
        "http": watched(HTTPConnection, HTTPConnectionPool),
        "https": watched(HTTPSConnection, HTTPSConnectionPool),
    }
