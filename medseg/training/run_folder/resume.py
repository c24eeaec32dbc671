"""Start and resumption of a run: what is recorded, and what is logged if something changed."""

from __future__ import annotations

import logging
from typing import Any

import torch

from medseg.config.schema import RunConfig
from medseg.data.cases import PARTS
from medseg.files import write_json
from medseg.optim import learning_rate
from medseg.progress import plural
from medseg.training.dataset.preparation import PreparedDataset, ResumedRun
from medseg.training.loop import TrainingLoop
from medseg.training.run_folder.case_record import read_fitted, read_record
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import read_log
from medseg.training.tracking.callbacks import TrainStart

_LOGGER = logging.getLogger(__name__)


def read_resumed_run(run: RunFolder, *, accept_new_cases: bool) -> ResumedRun | None:
    """Read the records of a run that was trained before; return None without a checkpoint to resume from."""
    started = run.last.exists() or run.first_stage.is_dir()
    record = read_record(run.cases, accept_changes=accept_new_cases) if started else None
    return None if record is None else ResumedRun(record, read_fitted(run.dataset))


def record_start(loop: TrainingLoop, dataset: PreparedDataset, earlier_epochs: int | None) -> None:
    """Record what the run trains with, and log what changed since it was started.

    Args:
        loop: with the state of the run restored.
        dataset: the dataset.
        earlier_epochs: number of epochs that the run was last started for; None for a new run.
    """
    state, run = loop.state, loop.run_folder
    threads = torch.get_num_threads()
    before = run.recorded_threads()
    if state.step and loop.model.device.type == "cpu" and before not in (None, threads):
        _LOGGER.warning(
            "resumed with %d threads, started with %d: results differ in the last digits", threads, before
        )
    if state.step and earlier_epochs is not None and earlier_epochs < loop.options.epochs:
        _LOGGER.warning(_describe_extension(loop, earlier_epochs))
    for line in dataset.changes:
        _LOGGER.warning("the dataset changed before step %d: %s", state.step + 1, line)
    kept = f"cases-until-step-{state.step}.json" if dataset.changes else None
    record_dataset(run, dataset, keep_earlier_as=kept)
    run.write_environment(loop.model.device, threads, loop.ranks.size)


def describe_start(loop: TrainingLoop, config: RunConfig, dataset: PreparedDataset) -> TrainStart:
    """Describe what is trained, for callbacks."""
    run, step, parts = loop.run_folder, loop.state.step, list(dataset.split.values())
    return TrainStart(
        config=config,
        run=run.root,
        step=step,
        labels=tuple(dataset.labels.evaluated),
        cases={part: parts.count(part) for part in PARTS},
        history=[entry for entry in read_log(run.log) if entry["step"] <= step],
        environment=run.environment(),
    )


def record_dataset(run: RunFolder, dataset: PreparedDataset, *, keep_earlier_as: str | None = None) -> None:
    """Record the cases of a run and what is fitted to them; keep an earlier record under another name."""
    run.write_cases(dataset.case_entries(), keep_earlier_as=keep_earlier_as)
    write_json(run.dataset, dataset.fitted().model_dump(mode="json"))


def describe_resumption(loop: TrainingLoop) -> str:
    """Describe where a run continues, or that it is finished."""
    options, step = loop.options, loop.state.step
    updates = f"{step} of {loop.pace.total}" if options.budget is None else str(step)
    if loop.stopped_early:
        return f"already finished: it ended early after update {updates}"
    if not loop.pace.is_finished(step):
        return f"continuing at update {updates}"
    extension = "; train.epochs=… extends it" if options.budget is None else ""
    return f"already finished at update {updates}{extension}"


def record_extensions(run: RunFolder, names: dict[str, Any], *, new: bool) -> None:
    """Record the names of the user's own network, loss, transforms and callbacks; log what changed."""
    if new:
        if names:
            write_json(run.extensions, names)
        return
    before = run.extension_names()
    if before.get("transforms") != names.get("transforms"):
        _LOGGER.warning(
            "resumed with the transforms %s, started with %s: the result differs from an uninterrupted run",
            names.get("transforms", []), before.get("transforms", []),
        )  # fmt: skip


def _describe_extension(loop: TrainingLoop, earlier_epochs: int) -> str:
    options, state = loop.options, loop.state
    old, new = (
        learning_rate(
            options.optimizer.lr, options.schedule, state.step, epochs * options.iterations, state.scores
        )
        for epochs in (earlier_epochs, options.epochs)
    )
    if loop.stopped_early:
        stop = "a callback" if state.stop_requested else f"train.early_stop={options.early_stop}"
        return f"train.epochs is {options.epochs}, but {stop} already ended this run"
    return (
        f"train.epochs is {options.epochs}, the run was started for {earlier_epochs}: the schedule of the "
        f"learning rate is that of {plural(options.epochs, 'epoch')} from step {state.step + 1} on (a rate of "
        f"{new:.3g}, not {old:.3g}); the result differs from that of a new run"
    )
