"""Options of a training with several processes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import FieldTraits, Spec

_RESUME_SAFE = FieldTraits(resume_safe=True)


class DistributedConfig(Spec):
    """Training with several processes, started by ``torchrun``; without effect in a single process.

    Attributes:
        strategy: ``ddp``: every process has the whole network (Li et al. 2020, arXiv:2006.15704). ``fsdp``:
            weights, gradients and the state of the optimizer are divided among the processes, for networks that
            do not fit otherwise (FSDP2; Zhao et al. 2023, arXiv:2304.11277); slower, and the checkpoints are
            the same.
        sync_batchnorm: compute the statistics of batch norms over the whole batch, as one process does. On
            CPUs, PyTorch does not support it: every process has statistics of its own, whose means are saved.
        compression: type in which gradients are sent: smaller ones need a faster network less, but round. For
            ``ddp`` only.
        timeout: seconds that a process waits for the others in an update before the training ends with an
            error.
        silence: seconds without a sign of life after which a process counts as dead.
    """

    strategy: Annotated[Literal["ddp", "fsdp"], _RESUME_SAFE] = "ddp"
    sync_batchnorm: bool = True
    compression: Literal["none", "bf16", "fp16"] = "none"
    timeout: Annotated[float, _RESUME_SAFE] = Field(default=600.0, gt=0)
    silence: Annotated[float, _RESUME_SAFE] = Field(default=40.0, ge=2)
