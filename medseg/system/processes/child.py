"""Start a program on some cores, so that it ends with its parent: ``python -m … PARENT CORES COMMAND…``."""

from __future__ import annotations

import os
import sys

from medseg.system.processes.cores import run_on_cores
from medseg.system.processes.lifetime import end_with_parent


def main(arguments: list[str]) -> None:
    """Become the program.

    Args:
        arguments: process id of the parent, and, after a colon, the signal to receive when it ends instead of
            being killed; numbers of the cores, joined by commas, or ``all``; the command.
    """
    parent, cores, *command = arguments
    process, _, number = parent.partition(":")
    end_with_parent(int(process), int(number) if number else None)
    if cores != "all":
        run_on_cores(int(core) for core in cores.split(","))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
