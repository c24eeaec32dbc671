"""``fit``: train a network from settings to a model file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

from medseg.config.schema import RunConfig
from medseg.data.loading.lateral_swap import LateralSwap
from medseg.data.loading.sampling import PatchDataset, PatchPlan
from medseg.data.loading.workers import report_worker_crash
from medseg.errors import ConfigError, OutOfMemoryError
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.shift.fingerprint import TrainingFingerprint
from medseg.inference.shift.training_cases import measure_training_cases
from medseg.inference.sliding_window.tta import TrainedAugmentation, check_tta
from medseg.progress import ConsoleProgress, Progress, duration
from medseg.system.allocator import is_out_of_memory
from medseg.system.locks import lock_folder
from medseg.system.threads import use_threads
from medseg.training.dataset import CachedDataset, NetworkNeeds, PreparedDataset, cache_dataset, prepare_dataset
from medseg.training.extensions import ExtensionArguments, Extensions
from medseg.training.loop import PatchLoader, TrainingLoop
from medseg.training.model import TrainingModel, build_model, pretrained_file
from medseg.training.pacing.time_budget import TimeBudget
from medseg.training.pacing.timed_pace import TimedPace
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import RunLog, write_messages
from medseg.training.run_folder.resume import (
    describe_resumption,
    read_resumed_run,
    record_extensions,
    record_start,
)
from medseg.training.validation import Validator
from medseg.training.validation_schedule import ValidationBudget, select_validation_cases

_LOGGER = logging.getLogger(__name__)

Resume = Literal["never", "auto"]

_LOCK_ADVICE = "Wait for it or stop it, or choose another --run folder."


@dataclass(frozen=True)
class RunResult:
    """The result of a training.

    Attributes:
        run: the run folder.
        model: the model file.
        best: the best validation score (``train.monitor``); None without validation.
        epochs: number of epochs trained; fewer than ``train.epochs`` after an early stop.

    Example:
        >>> result = RunResult(Path("run"), Path("run/model.safetensors"), best=0.91, epochs=50)
        >>> result.best
        0.91
    """

    run: Path
    model: Path
    best: float | None
    epochs: int


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

    One process at a time trains in a run folder.

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
        ConfigError: if settings contradict each other or the data, or another process uses the run folder.
        DataError: if cases are missing, faulty or changed.
        TrainingError: if the loss is not finite or the run folder is damaged.
        OutOfMemoryError: if the memory of the device or the machine is too small.
        TrainingStopped: on SIGTERM or SIGINT, after saving.

    Example:
        >>> fit(load_config("config.yaml"), "runs/liver", progress=QuietProgress())  # doctest: +SKIP
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return fit(
                config, run, resume=resume, accept_new_cases=accept_new_cases, progress=shown, budget=budget,
                **extensions,
            )  # fmt: skip
    run_folder = RunFolder(Path(run))
    config, budget = _set_budget(config, budget)
    own = Extensions.of(extensions)
    config = own.record_in(config)
    pretrained_file(config.weights)
    if not run_folder.last.exists():
        check_inference_variants(config)
    run_folder.check(config, resume=resume == "auto")
    with _on_error(run_folder.remove_if_empty), lock_folder(run_folder.root, _LOCK_ADVICE):
        resumed = read_resumed_run(run_folder, accept_new_cases=accept_new_cases) if resume == "auto" else None
        with _on_error(run_folder.remove_empty_folders):
            dataset = prepare_dataset(
                config.data, config.preprocess, network_needs(config), run_folder.cache(config) / "facts",
                resumed=resumed, progress=progress,
            )  # fmt: skip
        earlier_epochs = run_folder.planned_epochs()
        new = run_folder.start(config, resume=resume == "auto")
        _LOGGER.info(dataset.summary)
        with use_threads(config.train.threads), write_messages(run_folder.messages):
            for warning in dataset.warnings:
                _LOGGER.warning(warning)
            with _abandon_on_error(run_folder, new):
                loop = _build(config, run_folder, dataset, own, progress)
            record_start(loop, dataset, earlier_epochs)
            record_extensions(run_folder, own.names(), new=new)
            # measured before the training: a time budget then knows how long it takes
            fingerprint = measure_training_cases(
                dataset.part("train")[1], loop.loader.patches.cases, dataset.labels
            )
            _select_validation_cases(loop, ValidationBudget.of(config), loop.state.validated)
            if budget is not None:
                _follow_budget(loop, budget, ValidationBudget.of(config))
            if loop.state.step:
                _LOGGER.info(describe_resumption(loop))
            _run(loop, config)
            result = _write_model(loop, config, dataset, fingerprint)
            for callback in own.callbacks:
                callback.on_train_end(result)
            return result


def network_needs(config: RunConfig) -> NetworkNeeds:
    """Return what the network of a run asks of its dataset."""
    return NetworkNeeds(config.spatial_dims, config.sampling.patch_size, config.activation)


def check_inference_variants(config: RunConfig) -> None:
    """Check that the network is trained for the mirrors and scales of the inference.

    Raises:
        ConfigError: for those that the augmentation does not contain.
    """
    advice = "Add them to augment.flip.axes and augment.affine.scale, or leave them out of inference."
    check_tta(config.inference, TrainedAugmentation.of(config.augment), "the network", advice)


def build_loop(
    config: RunConfig,
    run_folder: RunFolder,
    dataset: PreparedDataset,
    cached: CachedDataset,
    model: TrainingModel,
    progress: Progress,
) -> TrainingLoop:
    """Build the training loop: each component receives its own options."""
    labels, options, slices = dataset.labels, config.train, dataset.preprocess.slices
    _check_monitor(options.monitor, tuple(labels.evaluated))
    # a first label that is not background is drawn like any other
    include_background = config.sampling.include_background or not labels.background
    sampling = config.sampling.model_copy(update={"include_background": include_background})
    sides = LateralSwap(labels.mirrored_labels, labels.mirrored_classes) if labels.pairs else None
    plan = PatchPlan(cached.train, tuple(labels.names), sampling, config.seed)
    epoch_length = options.iterations * options.accumulate * options.batch_size
    loader = PatchLoader(
        PatchDataset(cached.train, plan, config.augment, epoch_length, slices, sides),
        batch_size=options.batch_size,
        workers=config.data.workers,
        timeout=config.data.worker_timeout,
        pin_memory=model.device.type == "cuda",
    )
    inference = config.inference.model_copy(update={"roi_size": config.roi_size})
    validator = Validator(cached.val, labels, inference, model.device, model.dtype, slices)
    return TrainingLoop(options, model, loader, validator, run_folder, progress)


def _build(
    config: RunConfig,
    run_folder: RunFolder,
    dataset: PreparedDataset,
    extensions: Extensions,
    progress: Progress,
) -> TrainingLoop:
    """Preprocess the cases, build the loop, and restore its state from the last checkpoint, if there is one."""
    cached = cache_dataset(dataset, run_folder.cache(config), progress)
    resumed = run_folder.last.exists()
    model = build_model(config, dataset, cached.train, extensions=extensions, pretrained=not resumed)
    loop = build_loop(config, run_folder, dataset, cached, model, progress)
    loop.loader.patches.transforms = extensions.transforms
    loop.callbacks = extensions.callbacks
    if resumed:
        loop.state.restore(load_checkpoint(run_folder.last))
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
    """Empty the folder of a new run that cannot be built."""
    try:
        yield
    except BaseException:  # also when interrupted
        if new:
            run_folder.abandon()
        raise


def _select_validation_cases(loop: TrainingLoop, budget: ValidationBudget, earlier: list[str]) -> float:
    """Select the validation cases; return the share of the time of the updates that they take."""
    selection = select_validation_cases(loop.validator.cases, budget, earlier)
    loop.validator = replace(loop.validator, cases=selection.cases)
    loop.state.validated = [case.id for case in selection.cases]
    level = logging.INFO if len(selection.cases) < selection.available else logging.DEBUG
    _LOGGER.log(level, selection.describe())
    return selection.share


def _set_budget(config: RunConfig, budget: TimeBudget | None) -> tuple[RunConfig, TimeBudget | None]:
    """Return the settings with the budget in them, and the budget, which may come from either."""
    if budget is None:
        minutes = config.train.budget
        return config, None if minutes is None else TimeBudget.of(minutes)
    train = config.train.model_copy(update={"budget": budget.minutes})
    return config.model_copy(update={"train": train}), budget


def _follow_budget(loop: TrainingLoop, budget: TimeBudget, validation: ValidationBudget) -> None:
    """Let the time decide the number of updates."""
    options, state = loop.options, loop.state
    interval = options.validate_every * options.iterations

    def select_validation(updates: int) -> float:
        """Select fewer cases if there is less time than between two validations; return their duration."""
        beside_validation = updates / (1 + (options.validate_share or 0))
        fewer, earlier = max(min(beside_validation, interval), 1), state.validated
        work = replace(validation, updates=validation.updates * fewer / interval)
        return fewer * _select_validation_cases(loop, work, [] if fewer < interval else earlier)

    budget.follow(loop.run_folder.clock, state.pace.used)
    loop.pace = TimedPace(budget, options, state.pace, select_validation)
    _LOGGER.info("time budget: %s, of which %s are used", duration(budget.seconds), duration(budget.used()))


def _run(loop: TrainingLoop, config: RunConfig) -> None:
    """Train from the current state to the end."""
    folder = loop.run_folder
    log = RunLog(folder.log, folder.tensorboard, loop.state.epochs_closed * config.train.iterations)
    try:
        with memory_errors(config), report_worker_crash():
            loop.run(log)
    finally:
        log.close()


def _check_monitor(monitor: str, names: tuple[str, ...]) -> None:
    label = monitor.partition(":")[2]
    if label and label not in names:
        raise ConfigError(f"train.monitor: unknown label {label!r}; expected one of {', '.join(names)}")


@contextmanager
def memory_errors(config: RunConfig) -> Iterator[None]:
    """Turn the various errors for a lack of memory into an OutOfMemoryError with a hint."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory with train.batch_size={config.train.batch_size} and sampling.patch_size="
            f"{list(config.sampling.patch_size)}; the last good checkpoint is kept",
            hint="Halve train.batch_size (and double train.accumulate), or make sampling.patch_size smaller.",
        ) from error


def _write_model(
    loop: TrainingLoop, config: RunConfig, dataset: PreparedDataset, fingerprint: TrainingFingerprint
) -> RunResult:
    """Write the model file from the best checkpoint, or from the last state without validation."""
    state, run_folder = loop.state, loop.run_folder
    if run_folder.best.exists():
        best = load_checkpoint(run_folder.best)
        weights = best["averaged"] or best["network"]
    else:
        weights = state.evaluated.state_dict()
    header = ModelHeader(
        spatial_dims=config.spatial_dims,
        channels=dataset.channels,
        labels=dataset.labels,
        preprocess=dataset.preprocess,
        inference=loop.validator.inference,
        model=config.model,
        label_reader=dataset.label_reader,
        augmentation=TrainedAugmentation.of(config.augment),
        fingerprint=fingerprint,
        training=_summarize(loop, config, dataset),
    )
    save_model(run_folder.model, header, weights)
    return RunResult(run_folder.root, run_folder.model, state.best, state.epochs_closed)


def _summarize(loop: TrainingLoop, config: RunConfig, dataset: PreparedDataset) -> dict[str, Any]:
    """Summarize the training for the model file, without paths and identities."""
    parts = list(dataset.split.values())
    return {
        "seed": config.seed,
        "cases": {part: parts.count(part) for part in ("train", "val", "test")},
        "validated_cases": len(loop.validator.cases),
        "steps": loop.state.step,
        "best_step": loop.state.best_step,
        "monitor": config.train.monitor,
        "score": loop.state.best,
    }
