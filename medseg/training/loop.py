"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg.data.loading.sampling.class_shares import SamplingStats
from medseg.errors import TrainingError, TrainingStopped
from medseg.geometry import Array
from medseg.progress import Progress, stage
from medseg.system.device import cudnn_benchmark
from medseg.system.processes.core_usage import CoreMonitor
from medseg.system.processes.signals import collect_stop_signals
from medseg.training.distributed.ranks import Ranks
from medseg.training.model import Batch, TrainingModel
from medseg.training.options import TrainConfig
from medseg.training.pacing.fixed_epochs import EpochPace
from medseg.training.pacing.pace import Pace
from medseg.training.patch_loader import PatchLoader
from medseg.training.run_folder.checkpoint import save_checkpoint
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import RunLog, describe_epoch
from medseg.training.run_folder.report import RunReport
from medseg.training.run_folder.state import TrainState
from medseg.training.run_folder.validation_pictures import ValidationPictures
from medseg.training.tracking.callbacks import Callback, EpochInfo, UpdateInfo, notify
from medseg.training.validation.validator import (
    Scores,
    ValidatedCase,
    Validator,
    case_scores,
    click_scores,
    dice_of_classes,
    instance_score,
    is_better,
    mean_scores,
)

_LOGGER = logging.getLogger(__name__)

_WAITING = 0.05
"""Share of the time of the updates that is spent waiting for patches above which the log says so."""
_READ_EVERY = 16
"""Updates between two readings of the losses of a GPU, which otherwise computes ahead of the CPU."""


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
        pace: decides when the training ends and its learning rate; by default ``train.epochs`` does.
        callbacks: follow the training, in rank 0.
        read_every: updates between two readings of the losses, for which the CPU waits for the device; 0
            chooses by the device.
        last_network: the whole network with the weights after the training; None before.
    """

    options: TrainConfig
    model: TrainingModel
    loader: PatchLoader
    validator: Validator
    run_folder: RunFolder
    progress: Progress
    pace: Pace = field(init=False)
    report: RunReport = field(init=False)
    pictures: ValidationPictures = field(init=False)
    callbacks: Sequence[Callback] = ()
    read_every: int = 0
    last_network: nn.Module | None = None
    _unread: list[torch.Tensor] = field(init=False, default_factory=list)
    _last_loss: float = field(init=False, default=math.nan)
    _saved_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.pace, self.report = EpochPace(self.options), RunReport(self.run_folder)
        self.pictures = ValidationPictures(self.model.labels)
        self.read_every = self.read_every or (1 if self.model.device.type == "cpu" else _READ_EVERY)

    @property
    def ranks(self) -> Ranks:
        """The processes of the training."""
        return self.model.ranks

    @property
    def state(self) -> TrainState:
        """The state of the training."""
        return self.model.state

    @property
    def stopped_early(self) -> bool:
        """Whether ``early_stop`` or a callback ended the training."""
        patience = self.options.early_stop
        return self.state.stop_requested or (patience is not None and self.state.stale_validations >= patience)

    def run(self, log: RunLog | None) -> None:
        """Train to the end, or to the early stop.

        Args:
            log: receives an entry per epoch; None in processes other than rank 0.

        Raises:
            TrainingStopped: on SIGTERM or SIGINT, after saving.
            TrainingError: if the loss is not finite.
        """
        state, pace = self.state, self.pace
        pace.begin(state.step)
        updates = stage(self.progress, pace.total, "training", unit="updates", completed=state.step)
        with collect_stop_signals() as signals, cudnn_benchmark(self.model.device), updates:
            self._saved_at = time.monotonic()
            cores = CoreMonitor() if self.model.device.type == "cpu" else None
            batches = self._batches()
            while True:
                finished = pace.is_finished(state.step)
                closing = self._epoch_updates == self.options.iterations or (
                    finished and self._epoch_updates > 0
                )
                if closing:
                    validated = self._close_epoch(signals, log, last=finished)
                    if not pace.is_finished(state.step) and self._patches_change(validated):
                        batches = self._batches()  # patches prepared ahead have the old size and balance
                    finished = pace.is_finished(state.step)
                if finished or self.stopped_early:
                    return
                self._update(batches)
                stop, save = self.ranks.agree(
                    [next(iter(signals), 0), self.ranks.is_main and self._save_is_due()]
                )
                self._stop_if_asked(stop)
                message = cores.check() if cores is not None else None
                if message is not None:
                    _LOGGER.warning(message)
                if save:
                    self.save()

    def save(self) -> None:
        """Write ``last.pt``.

        Raises:
            TrainingError: if a loss was not finite; the file then stays as it is.
        """
        self._read_losses()
        self.pace.note_time()
        self._write_checkpoint(self.run_folder.last)
        self._saved_at = time.monotonic()

    def _write_checkpoint(self, path: Path) -> None:
        """Write the state of all processes, in rank 0."""
        self.model.synchronize()
        drawn = SamplingStats.merged(self.ranks.gather(self.state.drawn))
        checkpoint = self.model.to_checkpoint()
        if self.ranks.is_main:
            save_checkpoint(path, {**checkpoint, "drawn": drawn.to_checkpoint()})

    @property
    def _epoch_updates(self) -> int:
        """Number of updates in the current epoch; negative after an incomplete last one."""
        return self.state.step - self.state.epochs_closed * self.options.iterations

    def _batches(self) -> Iterator[Batch]:
        sampler, accumulate = self.loader.patches.sampler, self.options.accumulate
        if sampler.adaptive and self.state.class_scores:
            sampler.adapt(self.state.class_scores)
        self.loader.set_patch_size(self._patch_size())
        self.loader.patches.augmenter.set_position(self._position_of_epoch())
        return self.loader.batches(self.state.step * accumulate, self.pace.last_batch)

    def _patch_size(self) -> tuple[int, ...]:
        """Size of the patches in the current epoch: it depends on the position at the start of the epoch."""
        config = self.loader.patches.sampler.config
        if config.progressive is None:
            return config.patch_size
        return config.progressive.size_at(self._position_of_epoch(), config.patch_size)

    def _position_of_epoch(self) -> float:
        """Position in the training at the start of the current epoch, from 0 to 1."""
        return self.pace.position(self.state.epochs_closed * self.options.iterations)

    def _patches_change(self, validated: bool) -> bool:
        """Return whether the epoch that begins has patches of another size, augmentation or balance."""
        before, now = (math.prod(size) for size in (self.loader.patches.patch_size, self._patch_size()))
        if now != before:
            self.pace.after_growth(self.state.step, now / before)
        changed = self.loader.patches.augmenter.set_position(self._position_of_epoch())
        return now != before or changed or (validated and self.loader.patches.sampler.adaptive)

    def _learning_rate(self) -> float:
        """Learning rate of the next update."""
        swa, step = self.options.swa, self.state.step
        if swa is not None and swa.rate is not None and self.pace.position(step) >= swa.start:
            return swa.rate * self.options.optimizer.lr
        return self.pace.learning_rate(step, self.state.scores)

    def _average(self) -> None:
        """Update the average of the weights, if there is one."""
        swa, step = self.options.swa, self.state.step
        if swa is None:
            self.state.update_average(self.options.ema)
        elif self.pace.position(step) < swa.start:
            self.state.averages = 0  # an extension stretched the schedule: the average begins again
        elif step % (swa.every or self.options.iterations) == 0:
            self.state.add_to_average()

    def _update_norms(self) -> None:
        """Compute the running statistics of the average, if there is one of several weights (SWA)."""
        swa = self.options.swa
        if swa is not None and self.state.averages:
            first = replace(self.loader, workers=0, unlabeled=None).batches(0, swa.norm_batches)
            self.model.update_norms(first)

    def _update(self, batches: Iterator[Batch]) -> None:
        """Update the weights once."""
        options, state = self.options, self.state
        began, waited = time.monotonic(), state.waited
        self.ranks.seed_update(self.loader.patches.sampler.seed, state.step)
        if options.unlabeled is not None:
            self.model.consistency_weight = options.unlabeled.weight_at(self.pace.position(state.step))
        rate = self._learning_rate()
        self._unread += self.model.update(self._next_batches(batches), rate)
        state.step += 1
        self._average()
        if math.isnan(self._last_loss) or len(self._unread) >= self.read_every * options.accumulate:
            self._read_losses()
        seconds = time.monotonic() - began
        state.seconds += seconds
        self.progress.advance(f"loss {self._last_loss:.4f}")
        patches = options.batch_size * options.accumulate
        update = UpdateInfo(state.step, self._last_loss, rate, seconds, state.waited - waited, patches)
        notify(self.callbacks, "on_update", update)
        total = self.pace.total
        self.pace.after_update(state.step)
        if self.pace.total != total:
            self.progress.resize(self.pace.total)

    def _next_batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches of one update, and count what they contain."""
        for _ in range(self.options.accumulate):
            began = time.monotonic()
            batch = next(batches)
            self.state.waited += time.monotonic() - began
            self.state.drawn.add(batch)
            yield batch

    def _read_losses(self) -> None:
        """Add the losses that were not read yet to the sum of the epoch.

        Raises:
            TrainingError: if one is not finite.
        """
        if not self._unread:
            return
        # the processes' means are the same already, unless a loss cannot be computed over the whole batch
        means = self.ranks.reduction.mean(torch.stack(self._unread))
        losses, together = means.tolist(), self.options.accumulate
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

    def _close_epoch(self, signals: list[int], log: RunLog | None, *, last: bool) -> bool:
        """Validate, log, keep the best checkpoint, save; return whether there was a validation."""
        self._read_losses()
        state, options = self.state, self.options
        epoch = state.epochs_closed + 1
        scores: Scores = {}
        wanted = bool(self.validator.cases) and self.pace.wants_validation(epoch, last=last)
        if wanted or last:
            self._update_norms()
        self.model.synchronize()
        if wanted:
            scores = self._validate(signals)
        elif last and self.validator.cases:
            _LOGGER.warning("there is no time to validate the last weights (train.budget)")
        entry = self._log_entry(epoch, scores)
        state.begin_epoch(epoch)
        is_best = bool(scores) and is_better(scores[options.monitor], state.best)
        if scores:
            state.scores.append(scores[options.monitor])
            state.class_scores = dice_of_classes(scores, self.model.labels)
        if is_best:
            state.best, state.best_step = scores[options.monitor], state.step
        if wanted:
            self.pace.after_validation(state.step)
        if is_best:
            self._write_checkpoint(self.run_folder.best)
        pictures = self.pictures.take()
        if log is not None:
            log.append(entry, pictures)
        _LOGGER.info(describe_epoch(entry))
        if last and entry["waiting"] > _WAITING:
            _LOGGER.info(
                "%.0f%% of the time of the last epoch's updates was spent waiting for patches; more "
                "data.workers or less augmentation would shorten it", 100 * entry["waiting"],
            )  # fmt: skip
        self._call_back(entry, scores, is_best, pictures)
        if state.stop_requested and not (wanted or last):
            self._update_norms()
        self.save()
        ended = last or self.stopped_early or self.pace.is_finished(state.step)
        if self.ranks.is_main and (scores or ended):
            self.report.total = self.pace.total
            self.report.write(running=not ended)
        self.pace.after_epoch()
        return bool(scores)

    def _call_back(
        self, entry: dict[str, Any], scores: Scores, is_best: bool, pictures: dict[str, Array]
    ) -> None:
        info = EpochInfo(
            epoch=entry["epoch"],
            step=self.state.step,
            loss=entry["loss"],
            scores=scores,
            is_best=is_best,
            network=self.model.evaluated(),
            run=self.run_folder.root,
            score=scores.get(self.options.monitor),
            log=entry,
            pictures=pictures,
        )
        notify(self.callbacks, "on_epoch_end", info)
        self.state.stop_requested |= self.ranks.broadcast(info.stop_requested)

    def _log_entry(self, epoch: int, scores: Scores) -> dict[str, Any]:
        state = self.state
        return {
            "epoch": epoch,
            "step": state.step,
            "loss": state.loss_sum / self._epoch_updates,
            "lr": max(group["lr"] for group in state.optimizer.param_groups),
            "seconds": round(state.seconds, 3),
            "waiting": round(state.waited / max(state.seconds, 1e-9), 4),
            **{f"val_{key}": None if math.isnan(value) else value for key, value in scores.items()},
            **({"val_cases": len(self.validator.cases)} if scores else {}),
            **SamplingStats.merged(self.ranks.gather(state.drawn)).shares(tuple(self.model.labels.names)),
        }

    def _validate(self, signals: list[int]) -> Scores:
        """Validate the current network; a received signal ends it. No scores if the time is over.

        Each process validates its share of the cases.
        """
        began, cases = time.monotonic(), len(self.validator.cases)
        own: list[ValidatedCase] = []
        network, share = self.model.evaluated(), self.ranks.share(self.validator.cases)
        with stage(self.progress, len(share), "validating"):
            counted = replace(self.validator, cases=share).validate(network, self.pictures)
            while len(own) < len(share) and not signals and not (own and self.pace.is_overdue()):
                own.append(next(counted))
                self.progress.advance()
        stop, abandoned = self.ranks.agree([next(iter(signals), 0), len(own) < len(share)])
        if abandoned:
            self._stop_if_asked(stop)
            _LOGGER.warning("the time is over: the validation is abandoned (train.budget)")
            return {}
        validated = self.ranks.gather_shares(own)
        seconds, updates = time.monotonic() - began, self.state.seconds
        share = f", {seconds / updates:.0%} of the time of the updates of the epoch" if updates else ""
        _LOGGER.debug("step %d: %d cases validated in %.1f s%s", self.state.step, cases, seconds, share)
        names, counts = tuple(self.model.labels.evaluated), [one.counts for one in validated]
        self.report.scores = case_scores([case.id for case in self.validator.cases], counts, names)
        return {**instance_score(validated), **click_scores(validated), **mean_scores(counts, names)}

    def _save_is_due(self) -> bool:
        every_steps, every_minutes = self.options.save_every_steps, self.options.save_every_minutes
        if every_steps is not None and self.state.step % every_steps == 0:
            return True
        return every_minutes is not None and time.monotonic() - self._saved_at >= 60 * every_minutes

    def _stop_if_asked(self, signal: int) -> None:
        """Save and stop if any process received a signal, on which they agreed; 0 for none."""
        if signal:
            self.save()
            raise TrainingStopped(signal, self.run_folder.resume_command)
