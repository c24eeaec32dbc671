"""Start a program on some cores, so that it ends with its parent: ``python -m … PARENT CORES COMMAND…``."""

from __future__ import annotations

import os
import sys

from medseg.system.processes import end_with_parent, run_on_cores


def main(arguments: list[str]) -> None:
    """Become the program.

    Args:
        arguments: process id of the parent; numbers of the cores, joined by commas, or ``all``; the command.
    """
    parent, cores, *command = arguments
    end_with_parent(int(parent))
    if cores != "all":
        run_on_cores(int(core) for core in cores.split(","))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
