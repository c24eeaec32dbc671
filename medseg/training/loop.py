"""The training loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any

import torch
from torch import nn

from medseg.config.schema import RunConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache import CachedCase
from medseg.data.loading.loader import LoaderOptions, patch_batches
from medseg.data.loading.sampling import PatchDataset
from medseg.errors import TrainingError, TrainingStopped
from medseg.model_output import as_output
from medseg.optim.optimizers import learning_rate
from medseg.system.device import autocast, channels_last, cudnn_benchmark
from medseg.system.platform import STOP_SIGNALS
from medseg.training.core_usage import CoreWatch
from medseg.training.progress import LOGGER, Progress, ValidationProgress
from medseg.training.run_folder.checkpoint import save_checkpoint
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import RunLog
from medseg.training.run_folder.state import TrainState
from medseg.training.sampling_stats import Drawn
from medseg.training.validation import Scores, better, dice_of_classes, validate

_READ_EVERY = 16
"""Updates between two readings of the losses of a GPU, which computes ahead of the processor otherwise."""


@dataclass
class Trainer:
    """Runs a training from wherever its state stands to the end.

    Attributes:
        loss: of an ``Output`` and a target.
        dataset: patches by address.
        validation: the cases validated on; may be empty.
        progress: told of updates, with the last loss that was read, of validations and epochs.
        log: where epochs are written.
        read_every: updates after which losses are read from the device, which waits for it.
    """

    config: RunConfig
    run: RunFolder
    state: TrainState
    loss: nn.Module
    dataset: PatchDataset
    validation: list[CachedCase]
    labels: LabelSchema
    device: torch.device
    dtype: torch.dtype | None
    progress: Progress
    log: RunLog | None = None
    read_every: int = 0
    unread: list[torch.Tensor] = field(default_factory=list)
    last_loss: float = math.nan

    def __post_init__(self) -> None:
        self.read_every = self.read_every or (1 if self.device.type == "cpu" else _READ_EVERY)

    def train(self) -> None:
        """Train to the end, or to the early stop.

        Raises: TrainingStopped on SIGTERM or SIGINT, after saving; TrainingError if the loss is not finite.
        """
        settings = self.config.train
        steps = settings.epochs * settings.iterations
        with _signals() as signals, cudnn_benchmark(self.device):
            self.saved_at = time.monotonic()
            self.cores = CoreWatch() if self.device.type == "cpu" else None
            batches = self._batches(steps)
            while True:
                closing = self.state.step == (self.state.epochs_closed + 1) * settings.iterations
                if closing and self._close_epoch(signals) and self.dataset.plan.adaptive:
                    batches = self._batches(steps)  # patches prepared ahead follow the old balance
                if self.state.step >= steps or self.finished_early:
                    return
                self._update(batches, steps)
                self._stop_if_asked(signals)
                self._look_at_cores()
                if self._save_is_due():
                    self.save()

    def save(self) -> None:
        """Write ``last.pt``. Raises: TrainingError, and leaves the file as it is, if a loss was not finite."""
        self._read_losses()
        save_checkpoint(self.run.last, self.state.to_checkpoint())
        self.saved_at = time.monotonic()

    def gradient_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Add one batch's gradient; returns its loss, which the device may still be computing."""
        image = batch["image"].to(self.device, non_blocking=True)
        if self.config.train.channels_last:
            image = image.to(memory_format=channels_last(image.ndim - 2))
        target = self._target(batch)
        with autocast(self.dtype, self.device):
            output = as_output(self.state.network(image))
        loss = self.loss(output, target, self._known(batch))
        self.state.scaler.scale(loss / self.config.train.accumulate).backward()
        return loss.detach()

    def _batches(self, steps: int) -> Iterator[dict[str, torch.Tensor]]:
        settings = self.config.train
        if self.dataset.plan.adaptive and self.state.class_scores:
            self.dataset.plan.adapt(self.state.class_scores)
        options = LoaderOptions(
            batch_size=settings.batch_size,
            start=self.state.step * settings.accumulate,
            stop=steps * settings.accumulate,
            workers=self.config.data.workers,
            timeout=self.config.data.worker_timeout,
            pin_memory=self.device.type == "cuda",
        )
        return patch_batches(self.dataset, options)

    def _target(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, 1, *S) classes as they are, (B, R, *S) masks of the regions, or (B, K, *S) probabilities; -1 is
        ignored in all of them.
        """
        classes = batch["label"].to(self.device, non_blocking=True).long()
        regions = bool(self.labels.regions)
        if "soft" in batch:
            soft = batch["soft"].to(self.device, non_blocking=True)
            return torch.where(classes < 0, -1.0, soft[:, 1:] if regions else soft)
        if not regions:
            return classes
        masks = self._region_table[:, classes[:, 0].clamp(min=0)].movedim(0, 1).long()
        return torch.where(classes < 0, -1, masks)

    def _known(self, batch: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """(B, K): the channels annotated in each sample; none where all are."""
        known = batch.get("annotated")
        return None if known is None or bool(known.all()) else known.to(self.device)

    @cached_property
    def _region_table(self) -> torch.Tensor:
        """(R, K) bool on the device: the classes of each region."""
        return torch.from_numpy(self.labels.region_table).to(self.device)

    def _update(self, batches: Iterator[dict[str, torch.Tensor]], steps: int) -> None:
        """One update of the weights."""
        settings, state = self.config.train, self.state
        began = time.monotonic()
        rate = learning_rate(settings.optimizer.lr, settings.schedule, state.step, steps, state.scores)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        state.network.train()
        state.optimizer.zero_grad(set_to_none=True)
        self.unread += [self._counted_step(next(batches)) for _ in range(settings.accumulate)]
        if settings.gradient_clip is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.network.parameters(), settings.gradient_clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step += 1
        state.update_average(settings.ema)
        if math.isnan(self.last_loss) or len(self.unread) >= self.read_every * settings.accumulate:
            self._read_losses()
        state.seconds += time.monotonic() - began
        self.progress.update(state.step, steps, self.last_loss)

    def _read_losses(self) -> None:
        """Add the losses that were not read yet to the epoch's. Raises: TrainingError if one is not finite."""
        if not self.unread:
            return
        losses, together = torch.stack(self.unread).tolist(), self.config.train.accumulate
        self.unread.clear()
        updates = [sum(losses[i : i + together]) / together for i in range(0, len(losses), together)]
        for step, loss in enumerate(updates, start=self.state.step + 1 - len(updates)):
            if not math.isfinite(loss):
                last = self.run.last
                kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved yet"
                raise TrainingError(
                    f"the loss became {loss} at step {step}; {kept}. Lower train.optimizer.lr, check the "
                    "intensities, or set train.amp=off."
                )
            self.state.loss_sum += loss
            self.last_loss = loss

    def _counted_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.state.drawn.add(batch)
        return self.gradient_step(batch)

    def _close_epoch(self, signals: list[int]) -> bool:
        """Validate, log, keep the best, save; returns whether there was a validation."""
        self._read_losses()
        state, settings = self.state, self.config.train
        epoch = state.epochs_closed + 1
        scores: Scores = {}
        if self.validation and (epoch % settings.validate_every == 0 or epoch == settings.epochs):
            scores = self._timed_score(signals)
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": state.step,
            "loss": state.loss_sum / settings.iterations,
            "lr": max(group["lr"] for group in state.optimizer.param_groups),
            "seconds": round(state.seconds, 3),
            **{f"val_{key}": None if math.isnan(value) else value for key, value in scores.items()},
            **({"val_cases": len(self.validation)} if scores else {}),
            **state.drawn.shares(tuple(self.labels.names)),
        }
        state.epochs_closed, state.loss_sum, state.seconds, state.drawn = epoch, 0.0, 0.0, Drawn()
        is_best = bool(scores) and better(scores[settings.monitor], state.best)
        if scores:
            state.scores.append(scores[settings.monitor])
            state.class_scores = dice_of_classes(scores, self.labels)
        if is_best:
            state.best, state.best_step = scores[settings.monitor], state.step
            save_checkpoint(self.run.best, state.to_checkpoint())
        if self.log is not None:
            self.log.append(entry)
        self.progress.epoch(entry)
        self.save()
        return bool(scores)

    def score(self, signals: list[int]) -> Scores:
        """Validate the network as it stands; a signal among ``signals`` ends it."""

        def check(number: int) -> None:
            self._stop_if_asked(signals)
            if isinstance(self.progress, ValidationProgress):
                self.progress.validating(number, len(self.validation))

        return validate(
            self.state.evaluated,
            self.validation,
            self.labels,
            self.config.inference.model_copy(update={"roi_size": self.config.roi_size}),
            device=self.device,
            dtype=self.dtype,
            slices=self.config.preprocess.slices,
            check=check,
        )

    def _timed_score(self, signals: list[int]) -> Scores:
        """Validate, and log how long it took."""
        began, updates = time.monotonic(), self.state.seconds
        scores = self.score(signals)
        seconds = time.monotonic() - began
        share = f", {seconds / updates:.0%} of the time of the epoch's updates" if updates else ""
        LOGGER.debug(
            "step %d: %d cases validated in %.1f s%s", self.state.step, len(self.validation), seconds, share
        )
        return scores

    def _look_at_cores(self) -> None:
        message = self.cores.check() if self.cores is not None else None
        if message is not None:
            LOGGER.warning(message)

    @property
    def finished_early(self) -> bool:
        """Whether the early stop ended the training."""
        patience = self.config.train.early_stop
        return patience is not None and self.state.stale_validations >= patience

    def _save_is_due(self) -> bool:
        every_steps, every_minutes = self.config.train.save_every_steps, self.config.train.save_every_minutes
        if every_steps is not None and self.state.step % every_steps == 0:
            return True
        return every_minutes is not None and time.monotonic() - self.saved_at >= 60 * every_minutes

    def _stop_if_asked(self, signals: list[int]) -> None:
        if signals:
            self.save()
            raise TrainingStopped(signals[0])


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop instead of dying of them; only a main thread can."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
