"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from medseg.data.loading.loader import LoaderOptions, patch_batches
from medseg.data.loading.sampling import PatchDataset
from medseg.data.loading.sampling_stats import SamplingStats
from medseg.errors import TrainingError, TrainingStopped
from medseg.optim import learning_rate
from medseg.progress import Progress, stage
from medseg.system.core_usage import CoreMonitor
from medseg.system.device import cudnn_benchmark
from medseg.system.signals import collect_stop_signals
from medseg.training.model import Batch, TrainingModel
from medseg.training.options import TrainConfig
from medseg.training.run_folder.checkpoint import save_checkpoint
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import RunLog
from medseg.training.run_folder.state import TrainState
from medseg.training.validation import Scores, Validator, dice_of_classes, is_better, mean_scores

_LOGGER = logging.getLogger(__name__)

_READ_EVERY = 16
"""Updates between two readings of the losses of a GPU, which otherwise computes ahead of the CPU."""


@dataclass(frozen=True)
class PatchLoader:
    """Loads batches of patches, in worker processes.

    Attributes:
        patches: the patches by address.
        batch_size: patches in a batch.
        workers: processes that prepare patches; 0 prepares them in this one.
        timeout: seconds after which a worker counts as stuck.
        pin_memory: whether batches are in pinned memory.
    """

    patches: PatchDataset
    batch_size: int
    workers: int
    timeout: float
    pin_memory: bool

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches from ``start`` up to ``stop``, counted over the whole training."""
        options = LoaderOptions(
            batch_size=self.batch_size,
            start=start,
            stop=stop,
            workers=self.workers,
            timeout=self.timeout,
            pin_memory=self.pin_memory,
        )
        return patch_batches(self.patches, options)


@dataclass
class TrainingLoop:
    """Runs a training from its current state to the end.

    Attributes:
        options: of the loop.
        model: network, optimizer and loss.
        loader: the patches.
        validator: the validation; without cases there is none.
        run_folder: the folder for checkpoints.
        progress: receives updates and validated cases.
        read_every: updates between two readings of the losses, for which the CPU waits for the device; 0
            chooses by the device.
    """

    options: TrainConfig
    model: TrainingModel
    loader: PatchLoader
    validator: Validator
    run_folder: RunFolder
    progress: Progress
    read_every: int = 0
    _unread: list[torch.Tensor] = field(init=False, default_factory=list)
    _last_loss: float = field(init=False, default=math.nan)
    _saved_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.read_every = self.read_every or (1 if self.model.device.type == "cpu" else _READ_EVERY)

    @property
    def state(self) -> TrainState:
        """The state of the training."""
        return self.model.state

    @property
    def stopped_early(self) -> bool:
        """Whether ``early_stop`` ended the training."""
        patience = self.options.early_stop
        return patience is not None and self.state.stale_validations >= patience

    def run(self, log: RunLog) -> None:
        """Train to the end, or to the early stop.

        Args:
            log: receives an entry per epoch.

        Raises:
            TrainingStopped: on SIGTERM or SIGINT, after saving.
            TrainingError: if the loss is not finite.
        """
        options, state = self.options, self.state
        steps = options.epochs * options.iterations
        updates = stage(self.progress, steps, "training", unit="updates", completed=state.step)
        with collect_stop_signals() as signals, cudnn_benchmark(self.model.device), updates:
            self._saved_at = time.monotonic()
            cores = CoreMonitor() if self.model.device.type == "cpu" else None
            batches = self._batches(steps)
            while True:
                closing = state.step == (state.epochs_closed + 1) * options.iterations
                if closing and self._close_epoch(signals, log) and self.loader.patches.plan.adaptive:
                    batches = self._batches(steps)  # patches prepared ahead follow the old balance
                if state.step >= steps or self.stopped_early:
                    return
                self._update(batches, steps)
                self._stop_if_asked(signals)
                message = cores.check() if cores is not None else None
                if message is not None:
                    _LOGGER.warning(message)
                if self._save_is_due():
                    self.save()

    def save(self) -> None:
        """Write ``last.pt``.

        Raises:
            TrainingError: if a loss was not finite; the file then stays as it is.
        """
        self._read_losses()
        save_checkpoint(self.run_folder.last, self.state.to_checkpoint())
        self._saved_at = time.monotonic()

    def _batches(self, steps: int) -> Iterator[Batch]:
        plan, accumulate = self.loader.patches.plan, self.options.accumulate
        if plan.adaptive and self.state.class_scores:
            plan.adapt(self.state.class_scores)
        return self.loader.batches(self.state.step * accumulate, steps * accumulate)

    def _update(self, batches: Iterator[Batch], steps: int) -> None:
        """Update the weights once."""
        options, state = self.options, self.state
        began = time.monotonic()
        rate = learning_rate(options.optimizer.lr, options.schedule, state.step, steps, state.scores)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        state.network.train()
        state.optimizer.zero_grad(set_to_none=True)
        for _ in range(options.accumulate):
            batch = next(batches)
            state.drawn.add(batch)
            self._unread.append(self.model.gradient_step(batch))
        if options.gradient_clip is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.network.parameters(), options.gradient_clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step += 1
        state.update_average(options.ema)
        if math.isnan(self._last_loss) or len(self._unread) >= self.read_every * options.accumulate:
            self._read_losses()
        state.seconds += time.monotonic() - began
        self.progress.advance(f"loss {self._last_loss:.4f}")

    def _read_losses(self) -> None:
        """Add the losses that were not read yet to the sum of the epoch.

        Raises:
            TrainingError: if one is not finite.
        """
        if not self._unread:
            return
        losses, together = torch.stack(self._unread).tolist(), self.options.accumulate
        self._unread.clear()
        updates = [sum(losses[i : i + together]) / together for i in range(0, len(losses), together)]
        for step, loss in enumerate(updates, start=self.state.step + 1 - len(updates)):
            if not math.isfinite(loss):
                last = self.run_folder.last
                kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved yet"
                raise TrainingError(
                    f"the loss became {loss} at step {step}; {kept}",
                    hint="Lower train.optimizer.lr, check the intensities, or set train.amp=off.",
                )
            self.state.loss_sum += loss
            self._last_loss = loss

    def _close_epoch(self, signals: list[int], log: RunLog) -> bool:
        """Validate, log, keep the best checkpoint, save; return whether there was a validation."""
        self._read_losses()
        state, options = self.state, self.options
        epoch = state.epochs_closed + 1
        scores: Scores = {}
        if self.validator.cases and (epoch % options.validate_every == 0 or epoch == options.epochs):
            scores = self._validate(signals)
        entry = self._log_entry(epoch, scores)
        state.epochs_closed, state.loss_sum, state.seconds, state.drawn = epoch, 0.0, 0.0, SamplingStats()
        is_best = bool(scores) and is_better(scores[options.monitor], state.best)
        if scores:
            state.scores.append(scores[options.monitor])
            state.class_scores = dice_of_classes(scores, self.model.labels)
        if is_best:
            state.best, state.best_step = scores[options.monitor], state.step
            save_checkpoint(self.run_folder.best, state.to_checkpoint())
        log.append(entry)
        _LOGGER.info(describe_epoch(entry))
        self.save()
        return bool(scores)

    def _log_entry(self, epoch: int, scores: Scores) -> dict[str, Any]:
        state = self.state
        return {
            "epoch": epoch,
            "step": state.step,
            "loss": state.loss_sum / self.options.iterations,
            "lr": max(group["lr"] for group in state.optimizer.param_groups),
            "seconds": round(state.seconds, 3),
            **{f"val_{key}": None if math.isnan(value) else value for key, value in scores.items()},
            **({"val_cases": len(self.validator.cases)} if scores else {}),
            **state.drawn.shares(tuple(self.model.labels.names)),
        }

    def _validate(self, signals: list[int]) -> Scores:
        """Validate the current network; a received signal ends it."""
        began, cases = time.monotonic(), len(self.validator.cases)
        counts: list[Any] = []
        with stage(self.progress, cases, "validating"):
            self._stop_if_asked(signals)
            for one in self.validator.count(self.state.evaluated):
                counts.append(one)
                self.progress.advance()
                if len(counts) < cases:
                    self._stop_if_asked(signals)
        seconds, updates = time.monotonic() - began, self.state.seconds
        share = f", {seconds / updates:.0%} of the time of the updates of the epoch" if updates else ""
        _LOGGER.debug("step %d: %d cases validated in %.1f s%s", self.state.step, cases, seconds, share)
        return mean_scores(counts, tuple(self.model.labels.evaluated))

    def _save_is_due(self) -> bool:
        every_steps, every_minutes = self.options.save_every_steps, self.options.save_every_minutes
        if every_steps is not None and self.state.step % every_steps == 0:
            return True
        return every_minutes is not None and time.monotonic() - self._saved_at >= 60 * every_minutes

    def _stop_if_asked(self, signals: list[int]) -> None:
        if signals:
            self.save()
            raise TrainingStopped(signals[0])


def describe_epoch(entry: dict[str, Any]) -> str:
    """Format an entry of the log as one line.

    Example:
        >>> describe_epoch({"epoch": 1, "step": 4, "loss": 0.5, "seconds": 2.0, "val_dice": 0.75})
        'epoch 1  step 4  loss 0.5000  dice 0.7500  2.0 s'
    """
    parts = [f"epoch {entry['epoch']}", f"step {entry['step']}", f"loss {entry['loss']:.4f}"]
    parts += [
        f"{key.removeprefix('val_')} " + ("–" if value is None else f"{value:.4f}")
        for key, value in entry.items()
        if key.startswith("val_dice")
    ]
    return "  ".join([*parts, f"{entry['seconds']:.1f} s"])
