"""Everything that changes during a training, as one object that is saved in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from medseg.data.loading.sampling.class_shares import SamplingStats
from medseg.training.pacing.segments import PaceRecord
from medseg.training.run_folder.checkpoint import random_state, restore_random_state


@dataclass
class TrainState:
    """Network, optimizer and counters.

    Attributes:
        network: the network.
        optimizer: its optimizer.
        scaler: scales the gradients in fp16.
        averaged: an average of the weights, moving (EMA) or of several points (SWA); None without one.
        averages: number of weights that went into the average.
        step: updates done; the position of the sampler follows from it.
        epochs_closed: epochs validated and logged.
        loss_sum: sum of the losses of the current epoch.
        seconds: time of the updates of the current epoch.
        waited: time in which they waited for patches.
        scores: the monitored score of each validation.
        best: the best of them.
        best_step: the step of the best score.
        drawn: statistics of the patches of the current epoch.
        class_scores: Dice of each class at the last validation, which an adaptive balance follows.
        validated: ids of the cases that are validated.
        pace: decisions under a time budget.
        stop_requested: whether a callback ended the training.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: nn.Module | None = None
    averages: int = 0
    step: int = 0
    epochs_closed: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    scores: list[float] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0
    drawn: SamplingStats = field(default_factory=SamplingStats)
    class_scores: dict[str, float] = field(default_factory=dict)
    validated: list[str] = field(default_factory=list)
    pace: PaceRecord = field(default_factory=PaceRecord)
    stop_requested: bool = False

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and saved: the averaged one, once there is an average."""
        return self.averaged if self.averaged is not None and self.averages else self.network

    @property
    def stale_validations(self) -> int:
        """Number of validations since the best one."""
        if not self.scores or self.best is None:
            return 0
        best = self.scores.index(self.best) if self.best in self.scores else 0
        return len(self.scores) - 1 - best

    def begin_epoch(self, closed: int) -> None:
        """Set the sums of the epoch that begins after ``closed`` epochs."""
        self.epochs_closed, self.loss_sum, self.seconds, self.waited = closed, 0.0, 0.0, 0.0
        self.drawn = SamplingStats()

    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the current ones.

        The decay grows from 0.1 to ``decay``, so that the average is short at first. Buffers (running
        statistics of batch normalization) are copied.
        """
        if self.averaged is None:
            return
        self._move_average(1 - min(decay, (1 + self.step) / (10 + self.step)))

    def add_to_average(self) -> None:
        """Add the current weights to the mean of several weights; buffers are copied."""
        self._move_average(1 / (self.averages + 1))

    def _move_average(self, share: float) -> None:
        """Move the averaged weights towards the current ones by a share of their difference."""
        assert self.averaged is not None
        self.averages += 1
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
            for average, current in pairs:
                average.lerp_(current, share)
            for average, current in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
                average.copy_(current)

    def to_checkpoint(self) -> dict[str, Any]:
        """Return the state as plain types and tensors."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None and self.averages else None,
            "averages": self.averages,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epochs_closed": self.epochs_closed,
            "loss_sum": self.loss_sum,
            "seconds": self.seconds,
            "waited": self.waited,
            "scores": list(self.scores),
            "best": self.best,
            "best_step": self.best_step,
            "drawn": self.drawn.to_checkpoint(),
            "class_scores": dict(self.class_scores),
            "validated": list(self.validated),
            "pace": self.pace.to_checkpoint(),
            "stop_requested": self.stop_requested,
            "random": random_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint, with the global random sources."""
        self.network.load_state_dict(state["network"])
        if self.averaged is not None and state["averaged"] is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.averages = state.get("averages", state["step"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for key in ("step", "epochs_closed", "loss_sum", "seconds", "scores", "best", "best_step"):
            setattr(self, key, state[key])
        self.waited = state.get("waited", 0.0)
        self.drawn = SamplingStats(**state.get("drawn", {}))
        self.class_scores = dict(state.get("class_scores", {}))
        self.validated = list(state.get("validated", []))
        self.pace = PaceRecord.restore(state.get("pace", {}))
        self.stop_requested = state.get("stop_requested", False)
        restore_random_state(state["random"])
