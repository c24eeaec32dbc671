"""Settings of executors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import Spec
from medseg.study.executors.protocol import Executor

Positive = Annotated[int, Field(ge=1)]


class LocalConfig(Spec):
    """Processes on this machine.

    Attributes:
        jobs: number of trainings that run at the same time; they divide cores and GPUs.
    """

    name: Literal["local"] = "local"
    jobs: Positive = 1

    def build(self, folder: Path) -> Executor:
        """Return the executor for a study in a folder."""
        from medseg.study.executors.local import LocalExecutor

        return LocalExecutor(self.jobs)


ExecutorConfig = LocalConfig
"""Settings of an executor."""
