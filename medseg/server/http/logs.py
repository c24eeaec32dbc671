"""The server's log: what happened and how long it took, never for whom."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from pathlib import Path

LOGGER = logging.getLogger("medseg.server")
_LINES = 2000
_PACKAGE = Path(__file__).parents[2]


class LogLines(logging.Handler):
    """Keeps the last lines of the log in memory, for ``/logs/``."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(self.format(record))


def describe_failure(error: BaseException) -> str:
    """Describe an unexpected error by its type and the place in medseg; messages may name patients.

    Example:
        >>> describe_failure(ValueError("Jane Doe"))
        'ValueError'
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(_PACKAGE)
    ]
    where = f" at {Path(frames[-1].filename).relative_to(_PACKAGE)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
