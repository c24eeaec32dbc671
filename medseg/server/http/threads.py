"""Blocking work of requests, on a bounded number of threads and for a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from medseg.server.errors import BusyError

P = ParamSpec("P")
Result = TypeVar("Result")


class Threads:
    """Runs functions on threads.

    Args:
        count: functions that run at the same time.
        waiting: further functions that may wait for a thread.
        seconds: time after which a function's request is answered with an error. The function itself goes on;
            its result is dropped.
    """

    def __init__(self, count: int, waiting: int, seconds: float) -> None:
        self._count, self._most, self._seconds = count, count + waiting, seconds
        self._open = 0
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call a function on a thread.

        Raises:
            BusyError: too many functions run or wait.
            TimeoutError: the function takes too long.
        """
        if self._open >= self._most:
            raise BusyError("too many requests are waiting; try again in a moment")
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._count)
        self._open += 1
        try:
            with anyio.fail_after(self._seconds):
                call: Callable[[], Any] = partial(function, *args, **kwargs)
                return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)
        finally:
            self._open -= 1
