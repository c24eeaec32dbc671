"""Executors: run the cells of a study as processes on this machine, or as jobs of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.study.executors.local import LocalExecutor
    from medseg.study.executors.protocol import CellCommand, CellResult, Executor
    from medseg.study.executors.state import CellState, read_state

__all__ = ["CellCommand", "CellResult", "CellState", "Executor", "LocalExecutor", "read_state"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.study.executors.local": ("LocalExecutor",),
        "medseg.study.executors.protocol": ("CellCommand", "CellResult", "Executor"),
        "medseg.study.executors.state": ("CellState", "read_state"),
    },
)
