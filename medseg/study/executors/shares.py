"""Shares of a machine: the cores and the GPU of each of several processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.system.processes.cores import THREAD_VARIABLES


@dataclass(frozen=True)
class Share:
    """What one process may use.

    Attributes:
        cores: numbers of its cores; empty for all.
        gpu: its GPU, as in ``CUDA_VISIBLE_DEVICES``; None for all.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make libraries keep to the share.

        The number of threads is that of the cores; a smaller one of the caller's environment is kept.
        """
        variables: dict[str, str] = {}
        for name in THREAD_VARIABLES if self.cores else ():
            given = os.environ.get(name, "")
            threads = min(int(given), len(self.cores)) if given.isdigit() else len(self.cores)
            variables[name] = str(threads)
        if self.gpu is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpu
        return variables


def deal_out(jobs: int, cores: Sequence[int], gpus: Sequence[str]) -> list[Share]:
    """Divide cores and GPUs among ``jobs`` processes; one job gets everything.

    Each process gets neighboring cores, and one GPU. More processes than cores or GPUs share them in turn.

    Example:
        >>> [share.cores for share in deal_out(2, [0, 1, 2, 3, 4], [])]
        [(0, 1), (2, 3, 4)]
        >>> [(share.cores, share.gpu) for share in deal_out(3, [0, 1], ["0", "1"])]
        [((0,), '0'), ((1,), '1'), ((0,), '0')]
    """
    if jobs == 1:
        return [Share()]
    shares: list[Share] = []
    for index in range(jobs):
        if jobs <= len(cores):
            own = cores[index * len(cores) // jobs : (index + 1) * len(cores) // jobs]
        else:
            own = cores[index % len(cores) :][:1]
        shares.append(Share(tuple(own), gpus[index % len(gpus)] if gpus else None))
    return shares
