"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from medseg.system.platform import STOP_SIGNALS


@contextmanager
def collect_stop_signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop in a list, instead of ending the process.

    Only the main thread can; in another thread the list stays empty.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
