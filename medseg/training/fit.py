"""``fit``: train a network from settings to a model file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Unpack, get_args

from medseg.config.schema import RunConfig, check_run_config
from medseg.data.loading.sampling.class_shares import SamplingStats
from medseg.data.loading.workers import report_worker_crash
from medseg.errors import ConfigError
from medseg.inference.shift.fingerprint import TrainingFingerprint
from medseg.inference.shift.training_cases import measure_training_cases
from medseg.progress import ConsoleProgress, Progress
from medseg.system.locks import lock_folder
from medseg.system.processes.threads import use_threads
from medseg.training.cascade.first_stage import FirstStage, FirstStageTraining
from medseg.training.dataset.preparation import PreparedDataset, cache_dataset, prepare_dataset
from medseg.training.device_augmentation import DeviceAugmentation
from medseg.training.distributed.launch import join_ranks
from medseg.training.distributed.ranks import ONE_PROCESS, Ranks
from medseg.training.extensions import ExtensionArguments, Extensions
from medseg.training.loop import TrainingLoop
from medseg.training.loop_setup import build_loop, check_inference_variants, memory_errors, network_needs
from medseg.training.model import build_model, pretrained_file
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.budget_setup import choose_validation_cases, follow_budget
from medseg.training.pacing.replayed_pace import ClockDecisions, ReplayedPace
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import RunLog, write_messages
from medseg.training.run_folder.result import RunResult, write_model
from medseg.training.run_folder.resume import (
    describe_resumption,
    describe_start,
    read_resumed_run,
    record_extensions,
    record_start,
)
from medseg.training.tracking.callbacks import notify, report_errors
from medseg.training.tracking.live_view import live_view
from medseg.training.tracking.setup import check_services, service_callbacks
from medseg.training.unlabeled import UnlabeledRecord, cache_unlabeled
from medseg.training.validation.schedule import ValidationBudget

_LOGGER = logging.getLogger(__name__)

Resume = Literal["never", "auto"]

_LOCK_ADVICE = "Wait for it or stop it, or choose another --run folder."


def fit(
    config: RunConfig,
    run: Path | str,
    *,
    resume: Resume = "never",
    accept_new_cases: bool = False,
    progress: Progress | None = None,
    budget: TimeBudget | None = None,
    **extensions: Unpack[ExtensionArguments],
) -> RunResult:
    """Train a network.

    One process at a time trains in a run folder, or several that ``torchrun`` started together
    (:mod:`medseg.training.distributed`): each calls this function with the same arguments, rank 0 writes the
    run folder, and all return the same result.

    Args:
        config: the settings.
        run: the run folder.
        resume: ``auto`` continues a run exactly from its last checkpoint, or starts it. ``train.epochs`` may
            then be larger than before, which stretches the schedule of the learning rate.
        accept_new_cases: resume although the dataset changed: every case keeps its part of the split, new ones
            train. Otherwise a changed dataset is an error that lists the changes.
        progress: receives the progress. By default it is shown on standard error: a bar on a terminal, else one
            line per epoch and one at least every 30 seconds. :class:`QuietProgress` shows nothing.
        budget: the time that the training may take, including what passed since the budget began; by default
            that of ``config.train.budget``, which then begins with this call.
        **extensions: your own code: ``model``, ``loss``, ``transforms`` and ``callbacks``, as described in
            :class:`medseg.training.extensions.Extensions`. Pass a ``model`` to :class:`Predictor` as well.

    Raises:
        ConfigError: if an argument or a setting is wrong, or another process uses the run folder.
        DataError: if cases are missing, faulty or changed.
        TrainingError: if the loss is not finite or the run folder is damaged.
        OutOfMemoryError: if the memory of the device or the machine is too small.
        TrainingStopped: on SIGTERM or SIGINT, after saving.

    Example:
        >>> fit(load_config("config.yaml"), "runs/liver", progress=QuietProgress())  # doctest: +SKIP
    """
    _check_arguments(config, resume)
    if progress is None:
        with ConsoleProgress() as shown:
            return fit(
                config, run, resume=resume, accept_new_cases=accept_new_cases, progress=shown, budget=budget,
                **extensions,
            )  # fmt: skip
    run_folder, continued = RunFolder(Path(run)), resume == "auto"
    config, budget = _set_budget(config, budget)
    own = Extensions.of(extensions)
    config = own.record_in(config)
    pretrained_file(config.weights)
    check_services(config.train.tracking)
    with join_ranks(config.train.distributed, config.train.device) as ranks:
        if not run_folder.last.exists():
            check_inference_variants(config)
        ranks.on_main(lambda: run_folder.check(config, resume=continued))
        with _on_error(run_folder.remove_if_empty), _lock(run_folder, ranks):
            resumed = read_resumed_run(run_folder, accept_new_cases=accept_new_cases) if continued else None
            with _on_error(run_folder.remove_empty_folders):
                dataset = prepare_dataset(
                    config.data, config.preprocess, network_needs(config), run_folder.cache(config) / "facts",
                    resumed=resumed, progress=ranks.progress(progress), ranks=ranks,
                )  # fmt: skip
            earlier = ranks.on_main(run_folder.planned_epochs)
            new = ranks.on_main(lambda: run_folder.start(config, resume=continued))
            setup = _Setup(
                config, run_folder, dataset, own, ranks.progress(progress), earlier, accept_new_cases, ranks
            )
            return _train(setup, budget, new=new)


def _check_arguments(config: object, resume: object) -> None:
    check_run_config(config)
    if resume not in get_args(Resume):
        raise ConfigError(f"resume is {resume!r}, expected {' or '.join(get_args(Resume))}")


@dataclass(frozen=True)
class _Setup:
    """What a training is built from.

    Attributes:
        config: the settings.
        run_folder: the run folder.
        dataset: the checked dataset.
        extensions: the user's own code.
        progress: receives the progress.
        earlier_epochs: number of epochs that a resumed run was last started for; None for a new run.
        accept_new_cases: whether a resumed run continues with a changed dataset.
        ranks: the processes that train.
    """

    config: RunConfig
    run_folder: RunFolder
    dataset: PreparedDataset
    extensions: Extensions
    progress: Progress
    earlier_epochs: int | None = None
    accept_new_cases: bool = False
    ranks: Ranks = ONE_PROCESS


def _train(setup: _Setup, budget: TimeBudget | None, *, new: bool) -> RunResult:
    """Build the training in its run folder, run it to the end, and write the model file."""
    config, folder, dataset, ranks = setup.config, setup.run_folder, setup.dataset, setup.ranks
    _LOGGER.info(dataset.summary)
    messages = write_messages(folder.messages) if ranks.is_main else nullcontext()
    with use_threads(ranks.threads(config.train.threads)), messages:
        for warning in dataset.warnings:
            _LOGGER.warning(warning)
        if ranks.is_main:  # a run stopped in its first stage needs them
            record_extensions(folder, setup.extensions.names(), new=new)
        with _abandon_on_error(folder, new and ranks.is_main):
            first_stage = _train_first_stage(setup, budget)
            loop = _build(setup, first_stage)
        fingerprint = ranks.on_main(partial(_record, setup, loop))
        validation = ValidationBudget.of(config)
        decisions = ClockDecisions.read(folder.replay)
        replayed = list(decisions.validated_cases) if decisions is not None else []
        choose_validation_cases(loop, validation, replayed or loop.state.validated)
        if decisions is not None:
            loop.state.pace = decisions.record()
            loop.pace = ReplayedPace(loop.options, decisions)
        elif budget is not None:
            follow_budget(loop, budget, validation)
        if loop.state.step:
            _LOGGER.info(describe_resumption(loop))
        models = () if first_stage is None else first_stage.models
        with live_view(setup.progress) as views, report_errors(loop.callbacks):
            loop.callbacks = (*loop.callbacks, *views)
            notify(loop.callbacks, "on_train_start", describe_start(loop, config, dataset))
            _run(loop, config)
            loop.last_network = loop.model.evaluated()
            result = ranks.on_main(lambda: write_model(loop, config, dataset, fingerprint, models))
        notify(loop.callbacks, "on_train_end", result)
        return result


def _record(setup: _Setup, loop: TrainingLoop) -> TrainingFingerprint:
    """Record what the run trains with; measure the training cases.

    They are measured before the training: a time budget then knows how long it takes.
    """
    dataset = setup.dataset
    record_start(loop, dataset, setup.earlier_epochs)
    return measure_training_cases(dataset.part("train")[1], loop.loader.patches.cases, dataset.labels)


def _lock(run_folder: RunFolder, ranks: Ranks) -> AbstractContextManager[None]:
    """Lock the run folder for the processes that train in it: rank 0 does."""
    return lock_folder(run_folder.root, _LOCK_ADVICE) if ranks.is_main else nullcontext()


def _train_first_stage(setup: _Setup, budget: TimeBudget | None) -> FirstStage | None:
    """Train the first stage of a cascade, or continue with it; None without a cascade."""
    if setup.config.cascade is None:
        return None
    fit_network = partial(fit, accept_new_cases=setup.accept_new_cases)
    training = FirstStageTraining(
        setup.config, setup.run_folder, setup.dataset, fit_network, setup.progress, setup.ranks
    )
    return training.run(setup.extensions, budget)


def _build(setup: _Setup, first_stage: FirstStage | None) -> TrainingLoop:
    """Preprocess the cases, build the loop, and restore its state from the last checkpoint, if there is one."""
    config, run_folder, dataset, own = setup.config, setup.run_folder, setup.dataset, setup.extensions
    cache = run_folder.cache(config)
    cached = cache_dataset(dataset, cache, setup.progress, ranks=setup.ranks)
    if first_stage is not None:
        cached = first_stage.add_to(cached)
    resumed = run_folder.last.exists()
    if config.train.unlabeled is not None:
        record = UnlabeledRecord(
            run_folder.unlabeled, resumed, setup.accept_new_cases, written=setup.ranks.is_main
        )
        others = cache_unlabeled(config.train.unlabeled.path, dataset, cache, setup.progress, record)
        cached = replace(cached, unlabeled=others)
    model = build_model(
        config, dataset, cached.train, extensions=own, pretrained=not resumed, ranks=setup.ranks
    )
    loop = build_loop(config, run_folder, dataset, cached, model, setup.progress)
    loop.loader.patches.transforms = own.transforms
    if setup.ranks.is_main:
        loop.callbacks = (*own.callbacks, *service_callbacks(config.train.tracking, run_folder))
    if config.train.augment_on == "device":
        augmentation = DeviceAugmentation.of(loop.loader.patches, model.device)
        loop.loader = replace(loop.loader, augmentation=augmentation)
    if resumed:
        model.restore(load_checkpoint(run_folder.last))
        if not setup.ranks.is_main:  # the sums of all processes continue in rank 0
            model.state.drawn = SamplingStats()
    return loop


@contextmanager
def _on_error(clean_up: Callable[[], None]) -> Iterator[None]:
    """Call a function if the block raises, also when it is interrupted."""
    try:
        yield
    except BaseException:
        clean_up()
        raise


@contextmanager
def _abandon_on_error(run_folder: RunFolder, new: bool) -> Iterator[None]:
    """Empty the folder of a new run that cannot be built, unless a part of a cascade is trained."""
    try:
        yield
    except BaseException:  # also when interrupted
        if new and not any(run_folder.first_stage.glob("*/checkpoints/*.pt")):
            run_folder.abandon()
        raise


def _set_budget(config: RunConfig, budget: TimeBudget | None) -> tuple[RunConfig, TimeBudget | None]:
    """Return the settings with the budget in them, and the budget, which may come from either."""
    if budget is None:
        minutes = config.train.budget
        return config, None if minutes is None else TimeBudget.of(minutes)
    train = config.train.model_copy(update={"budget": budget.minutes})
    return config.model_copy(update={"train": train}), budget


def _run(loop: TrainingLoop, config: RunConfig) -> None:
    """Train from the current state to the end."""
    folder = loop.run_folder
    log = None
    if loop.ranks.is_main:
        log = RunLog(folder.log, folder.tensorboard, loop.state.epochs_closed * config.train.iterations)
    try:
        with memory_errors(config), report_worker_crash(), loop.ranks.named_errors():
            loop.run(log)
    finally:
        if log is not None:
            log.close()
