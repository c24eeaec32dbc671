"""How a run begins or goes on: what is recorded of it, and what is logged where it is not as it was."""

from __future__ import annotations

import logging

import torch

from medseg.files import write_json
from medseg.optim.optimizers import learning_rate
from medseg.training.dataset import Continued, Dataset
from medseg.training.loop import Trainer
from medseg.training.progress import LOGGER
from medseg.training.run_folder.case_record import read_fitted, read_record
from medseg.training.run_folder.layout import RunFolder
from medseg.training.validation_schedule import choose_validation


def read_continued(run: RunFolder, accept_new_cases: bool) -> Continued | None:
    """What is recorded of a run that has trained already; none where there is no checkpoint to go on from."""
    record = read_record(run.cases, accept_changes=accept_new_cases) if run.last.exists() else None
    return None if record is None else Continued(record, read_fitted(run.dataset))


def begin(trainer: Trainer, dataset: Dataset, earlier_epochs: int | None) -> None:
    """Record what the run trains with, choose its validation cases, and log what is not as it was."""
    state, run, config = trainer.state, trainer.run, trainer.config
    threads = torch.get_num_threads()
    before = run.recorded_threads()
    if state.step and trainer.device.type == "cpu" and before not in (None, threads):
        LOGGER.warning(
            "continued with %d threads, begun with %d: results differ in the last digits", threads, before
        )
    if state.step and earlier_epochs is not None and earlier_epochs < config.train.epochs:
        LOGGER.warning(_describe_extension(trainer, earlier_epochs))
    for line in dataset.changes:
        LOGGER.warning("the dataset changed before step %d: %s", state.step + 1, line)
    kept = f"cases-until-step-{state.step}.json" if dataset.changes else None
    run.write_cases(dataset.record(), keep_earlier_as=kept)
    write_json(run.dataset, dataset.fitted().model_dump(mode="json"))
    run.write_environment(trainer.device, threads)
    coverage = choose_validation(trainer.validation, config, state.validated)
    trainer.validation, state.validated = coverage.cases, [case.id for case in coverage.cases]
    LOGGER.log(logging.INFO if len(coverage.cases) < coverage.of else logging.DEBUG, coverage.describe())


def _describe_extension(trainer: Trainer, earlier_epochs: int) -> str:
    settings, state = trainer.config.train, trainer.state
    old, new = (
        learning_rate(
            settings.optimizer.lr, settings.schedule, state.step, epochs * settings.iterations, state.scores
        )
        for epochs in (earlier_epochs, settings.epochs)
    )
    if trainer.finished_early:
        stop = f"train.early_stop={settings.early_stop}"
        return f"train.epochs is {settings.epochs}, but {stop} ended this run already"
    return (
        f"train.epochs is {settings.epochs}, the run was started for {earlier_epochs}: the schedule of the "
        f"learning rate is that of {settings.epochs} epochs from step {state.step + 1} on (a rate of "
        f"{new:.3g}, not {old:.3g}); the result is not that of a run of {settings.epochs} epochs from the start"
    )
