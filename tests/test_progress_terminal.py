"""What a terminal shows: bars below intact messages, and a cursor at the end, also after Ctrl+C."""

import codecs
import os
import re
import signal
import subprocess
import sys
import time

import pytest

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

SCRIPT = """
import logging, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from medseg.progress import ConsoleProgress, stage
with ConsoleProgress() as progress, progress.show("PANEL"), stage(progress, 30, "training", unit="updates"):
    for number in range(20):
        logging.getLogger("medseg.training").info("message %d is complete", number)
        if number == 10:
            print("a print")
            child = os.fork()
            if child == 0:  # a worker must not wait for a lock of the thread that draws
                logging.getLogger("medseg.data").warning("of a worker")
                print("printed by a worker", file=sys.stderr, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        with stage(progress, 2, "validating"):
            progress.advance()
        progress.advance("loss 0.5")
        time.sleep(0.01)
    time.sleep(0.1)
    print("READY", flush=True)
    time.sleep(60)
"""


class Screen:
    """The few commands of a terminal that the bars use."""

    def __init__(self):
        self._decode, self._rest = codecs.getincrementaldecoder("utf-8")().decode, ""
        self.lines, self.row, self.column, self.cursor = [[]], 0, 0, True

    def feed(self, received):
        """Show what was received, bytes that may end within a character or a command; return the new text."""
        new = self._decode(received)
        text, begun = re.fullmatch(r"([\s\S]*?)(\x1b(?:\[\??[\d;]*)?)?", self._rest + new).groups()
        self._rest = begun or ""
        for part in re.findall(r"\x1b\[\??[\d;]*[a-zA-Z]|[\s\S]", text):
            if part.startswith("\x1b["):
                self._command(part[2:-1], part[-1])
            elif part == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append([])
            elif part == "\r":
                self.column = 0
            else:
                line = self.lines[self.row]
                line += [" "] * (self.column + 1 - len(line))
                line[self.column] = part
                self.column += 1
        return new

    def _command(self, number, letter):
        if letter == "A":
            self.row -= int(number or 1)
            assert self.row >= 0
        elif letter == "K":
            assert number == "2"
            self.lines[self.row] = []
        elif number == "?25":
            self.cursor = letter == "h"
        else:
            assert letter == "m", (number, letter)

    @property
    def text(self):
        return ["".join(line).rstrip() for line in self.lines]


@pytest.fixture
def terminal():
    """A running process on a terminal of 25 × 100 characters: its screen and the process."""
    controller, own = pty.openpty()
    termios.tcsetwinsize(own, (25, 100)) if hasattr(termios, "tcsetwinsize") else None
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "25"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=own, stdout=own, stderr=own, env=environment
    )
    yield process, controller, own
    process.kill()
    process.wait()
    os.close(controller)
    os.close(own)


def _read(controller, screen, until, seconds=60):
    """Feed the screen until a condition holds; raise after some seconds."""
    deadline, received = time.monotonic() + seconds, ""
    os.set_blocking(controller, False)
    while not until(received):
        assert time.monotonic() < deadline, received[-2000:]
        try:
            received += screen.feed(os.read(controller, 1 << 16))
        except BlockingIOError:
            time.sleep(0.01)
    return received


def test_messages_stay_intact_above_the_bars_and_ctrl_c_restores_the_cursor(terminal):
    process, controller, own = terminal
    before, screen = termios.tcgetattr(own), Screen()
    received = _read(controller, screen, lambda text: "READY" in text)
    assert "printed by a worker" in received
    time.sleep(0.3)  # some more frames
    _read(controller, screen, lambda text: True)
    assert not screen.cursor
    messages = [line for line in screen.text if "message" in line]
    assert messages == [f"message {number} is complete" for number in range(20)]
    assert "a print" in screen.text
    process.send_signal(signal.SIGINT)
    process.wait(60)
    _read(controller, screen, lambda text: screen.cursor)
    assert termios.tcgetattr(own) == before
