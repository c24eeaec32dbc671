"""``fit``: one training from settings to a model file."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from medseg.config.schema import RunConfig
from medseg.data.cases import Part
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache import CachedCase, CacheSettings, cache_cases
from medseg.data.loading.sampling import LateralPairs, PatchDataset, PatchPlan, SamplingConfig
from medseg.data.loading.workers import report_worker_crash
from medseg.errors import ConfigError, DataError, OutOfMemoryError
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.sliding_window.tta import TrainedAugmentation, check_tta
from medseg.losses import DeepSupervisionLoss
from medseg.models import InjectedConfig, parameter_count
from medseg.models.pretrained.loading import WeightsConfig, parameter_groups, place, read_state, refuse_missing
from medseg.models.pretrained.weight_registry import known
from medseg.system.allocator import is_out_of_memory
from medseg.system.device import channels_last, resolve_autocast_dtype, resolve_device
from medseg.system.locks import lock_folder
from medseg.system.platform import peak_memory
from medseg.task import Task
from medseg.training.dataset import Dataset, check_patch_size, survey
from medseg.training.loop import Trainer
from medseg.training.progress import ConsoleProgress, Count, Progress, QuietProgress, log_to
from medseg.training.run_folder.checkpoint import load_checkpoint, seed_everything
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import RunLog
from medseg.training.run_folder.resume import begin, read_continued
from medseg.training.run_folder.state import TrainState
from medseg.training.threads import use_threads
from medseg.training.validation_schedule import validated_of

Resume = Literal["never", "auto"]

_LOCK_ADVICE = "Wait for it or stop it, or choose another --run folder."


@dataclass(frozen=True)
class RunResult:
    """What a training gave.

    Attributes:
        run: the run folder.
        model: the model file.
        best: the best validation score (``train.monitor``), if there was a validation.
        epochs: epochs trained, fewer than asked for after an early stop.
    """

    run: Path
    model: Path
    best: float | None
    epochs: int


@dataclass(frozen=True)
class Estimate:
    """What a dry run found.

    Attributes:
        parameters: trainable numbers of the network.
        seconds_per_update, seconds_per_validation: measured on one of each.
        hours: of the whole training, estimated.
        peak_memory_gb: of the device (CUDA) or the process (CPU).
        loss: of the first update.
        assumed: what the estimate supposes, one sentence each.
    """

    parameters: int
    seconds_per_update: float
    seconds_per_validation: float
    hours: float
    peak_memory_gb: float
    loss: float
    assumed: tuple[str, ...] = ()


def fit(
    config: RunConfig,
    run: Path | str,
    *,
    model: nn.Module | None = None,
    resume: Resume = "never",
    accept_new_cases: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Train as ``config`` says, into the folder ``run``.

    ``model`` is a research network of your own in place of ``config.model``: it takes (B, C, *S) and
    returns what :func:`medseg.model_output.as_output` adapts; pass it to :class:`Predictor` too.
    ``resume="auto"`` continues a run from its last checkpoint, exactly, or starts it; a run may be continued
    with more ``train.epochs``, which stretches its schedule. If the dataset changed since, it is refused
    with what differs; ``accept_new_cases`` goes on: every case keeps its part of the split, new ones train.
    One process at a time trains in a run folder; another gets a ConfigError that names the first.

    Where the training stands is printed on standard error: a bar on a terminal, else a line an epoch and one
    every 30 seconds. ``progress=QuietProgress()`` prints nothing.

    Raises: ConfigError, DataError, TrainingError, OutOfMemoryError; TrainingStopped on a signal.

    Example:
        >>> fit(load_config("config.yaml"), "runs/quiet", progress=QuietProgress())  # doctest: +SKIP
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return fit(
                config, run, model=model, resume=resume, accept_new_cases=accept_new_cases, progress=shown
            )
    run_folder = RunFolder(Path(run))
    if model is not None:
        config = config.model_copy(update={"model": InjectedConfig(class_name=type(model).__name__)})
    _weights_file(config.weights)
    if not run_folder.last.exists():
        _check_variants(config)
    run_folder.check(config, resume=resume == "auto")
    with lock_folder(run_folder.root, _LOCK_ADVICE):
        return _fit(config, run_folder, model, resume, accept_new_cases, progress)


def _fit(
    config: RunConfig,
    run_folder: RunFolder,
    model: nn.Module | None,
    resume: Resume,
    accept_new_cases: bool,
    progress: Progress,
) -> RunResult:
    """Train in a folder that no other process trains in."""
    continued = read_continued(run_folder, accept_new_cases) if resume == "auto" else None
    dataset = survey(config, run_folder.cache(config) / "facts", progress.found, continued)
    earlier = run_folder.planned_epochs()
    new = run_folder.start(config, resume=resume == "auto")
    progress.found(dataset.layout)
    with use_threads(config.train.threads), log_to(run_folder.messages):
        try:
            trainer = _assemble(config, run_folder, dataset, model, progress)
        except BaseException:
            if new:
                run_folder.abandon()
            raise
        if run_folder.last.exists():
            trainer.state.restore(load_checkpoint(run_folder.last))
        begin(trainer, dataset, earlier)
        return _train(trainer, dataset)


def _train(trainer: Trainer, dataset: Dataset) -> RunResult:
    """Train from where the state stands, and write the model file."""
    run, config = trainer.run, trainer.config
    trainer.log = RunLog(run.log, run.tensorboard, trainer.state.epochs_closed * config.train.iterations)
    try:
        with _memory_errors(config), report_worker_crash():
            trainer.train()
    finally:
        trainer.log.close()
    return _finish(trainer, dataset)


def dry_run(config: RunConfig, run: Path | str, *, model: nn.Module | None = None) -> Estimate:
    """One update and one validation case of everything; estimates time and memory, writes only the cache.

    Raises: as :func:`fit`.
    """
    folder = RunFolder(Path(run))
    _check_variants(config)
    folder.check_foreign()
    dataset = survey(config, folder.cache(config) / "facts")
    with use_threads(config.train.threads):
        trainer = _assemble(config, folder, dataset, model, QuietProgress(), most=4)
        with _memory_errors(config):
            return _measure(trainer, len(dataset.part("val")[0]))


@contextmanager
def _memory_errors(config: RunConfig) -> Iterator[None]:
    """Turn the many forms of "out of memory" into one error with a way out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory with train.batch_size={config.train.batch_size} and sampling.patch_size="
            f"{list(config.sampling.patch_size)}. Halve train.batch_size (and double train.accumulate), or "
            "make sampling.patch_size smaller. The last good checkpoint is kept."
        ) from error


def _assemble(
    config: RunConfig,
    run: RunFolder,
    dataset: Dataset,
    model: nn.Module | None,
    progress: Progress,
    *,
    most: int | None = None,
) -> Trainer:
    """Everything a training needs, built and seeded."""
    device = resolve_device(config.train.device)
    labels = dataset.labels
    training, validation = (_cached(config, run, dataset, part, progress, most) for part in ("train", "val"))
    _check_monitor(config, tuple(labels.evaluated))
    check_patch_size(config.sampling.patch_size, [case.shape for case in training])
    task = dataset.task(config.spatial_dims)
    seed_everything(config.seed)
    network = (model if model is not None else config.model.build(task)).to(device)
    if not run.last.exists():
        _start_from(config.weights, network, progress)
    if config.train.channels_last:
        network = network.to(memory_format=channels_last(config.spatial_dims))  # pyright: ignore[reportCallIssue]
    dtype = resolve_autocast_dtype(config.train.amp, device)
    state = TrainState(
        network,
        config.train.optimizer.build(parameter_groups(network, config.weights)),
        torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        copy.deepcopy(network).requires_grad_(False) if config.train.ema else None,
    )
    counts = np.sum([case.counts[1:] for case in training], axis=0)
    loss = DeepSupervisionLoss(
        config.loss.build(task, _class_counts(counts, dataset, task)),
        aux_weight=config.train.aux_weight,
    )
    plan = PatchPlan(training, tuple(labels.names), _sampling(config, labels), config.seed)
    length = config.train.iterations * config.train.accumulate * config.train.batch_size
    return Trainer(
        config=config,
        run=run,
        state=state,
        loss=loss.to(device),
        dataset=PatchDataset(training, plan, config.augment, length, dataset.preprocess.slices, _sides(labels)),
        validation=validation,
        labels=labels,
        device=device,
        dtype=dtype,
        progress=progress,
    )


def _check_variants(config: RunConfig) -> None:
    """Raises: ConfigError for mirrors and scales of the inference that the augmentation does not hold."""
    advice = "Add them to augment.flip.axes and augment.affine.scale, or leave them out of inference."
    check_tta(config.inference, TrainedAugmentation.of(config.augment), "the network", advice)


def _sides(labels: LabelSchema) -> LateralPairs | None:
    return LateralPairs(labels.mirrored_labels, labels.mirrored_classes) if labels.pairs else None


def _weights_file(weights: WeightsConfig) -> Path | None:
    """The file of published weights that the settings name. Raises: ModelFileError if it is not there."""
    file = known(weights.known).path() if weights.known is not None else weights.file
    if file is not None:
        refuse_missing(file)
    return file


def _start_from(weights: WeightsConfig, network: nn.Module, progress: Progress) -> None:
    """Load the published weights that the settings name."""
    file, keys = _weights_file(weights), weights.keys
    if weights.known is not None and keys == "auto":
        keys = known(weights.known).keys
    if file is not None:
        placement = place(network, read_state(file), keys=keys, spread=weights.spread)
        progress.found(placement.describe())


def _cached(
    config: RunConfig, run: RunFolder, dataset: Dataset, part: Part, progress: Progress, most: int | None
) -> list[CachedCase]:
    cases, facts = dataset.part(part)
    if part == "train" and not cases:
        raise DataError("the split leaves no case to train on")
    settings = CacheSettings(dataset.labels, dataset.preprocess, dataset.channels, dataset.label_reader)
    count = Count(progress.found, f"preparing the cases of {part}", len(cases[:most]))

    def prepared(case: str) -> None:
        progress.prepared(case)
        count(case)

    return cache_cases(cases[:most], facts[:most], settings, run.cache(config), prepared)


def _sampling(config: RunConfig, labels: LabelSchema) -> SamplingConfig:
    """Where the first label is no background, it is drawn as any other."""
    whole = config.sampling.include_background or not labels.background
    return config.sampling.model_copy(update={"include_background": whole})


def _class_counts(counts: Sequence[int], dataset: Dataset, task: Task) -> list[int]:
    """Voxels of each channel of the logits: of the classes, or of the regions."""
    if task.activation == "softmax":
        return [int(n) for n in counts]
    return [int(n) for n in dataset.labels.region_table.astype(np.int64) @ np.asarray(counts)]


def _check_monitor(config: RunConfig, names: tuple[str, ...]) -> None:
    label = config.train.monitor.partition(":")[2]
    if label and label not in names:
        raise ConfigError(f"train.monitor: there is no label {label!r}; known: {', '.join(names)}")


def _finish(trainer: Trainer, dataset: Dataset) -> RunResult:
    """Write the model file from the best checkpoint, or from the last where nothing was validated."""
    state, run, config = trainer.state, trainer.run, trainer.config
    if run.best.exists():
        best = load_checkpoint(run.best)
        weights = best["averaged"] or best["network"]
    else:
        weights = state.evaluated.state_dict()
    header = ModelHeader(
        spatial_dims=config.spatial_dims,
        channels=dataset.channels,
        labels=dataset.labels,
        preprocess=dataset.preprocess,
        inference=config.inference.model_copy(update={"roi_size": config.roi_size}),
        model=config.model,
        label_reader=dataset.label_reader,
        augmentation=TrainedAugmentation.of(config.augment),
        training=_summary(trainer, dataset),
    )
    save_model(run.model, header, weights)
    return RunResult(run.root, run.model, state.best, state.epochs_closed)


def _summary(trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    parts = list(dataset.split.values())
    return {
        "seed": trainer.config.seed,
        "cases": {part: parts.count(part) for part in ("train", "val", "test")},
        "validated_cases": len(trainer.validation),
        "steps": trainer.state.step,
        "best_step": trainer.state.best_step,
        "monitor": trainer.config.train.monitor,
        "score": trainer.state.best,
    }


def _measure(trainer: Trainer, validation_cases: int) -> Estimate:
    settings, state = trainer.config.train, trainer.state
    state.network.train()
    seconds: list[float] = []
    loss = 0.0
    for i in range(3):  # the first warms up
        began = time.monotonic()
        first = i * settings.batch_size
        samples = [trainer.dataset[first + k] for k in range(settings.batch_size)]
        batch = {key: torch.stack([s[key] for s in samples]) for key in ("image", "label")}
        found = float(trainer.gradient_step(batch))
        loss = loss or found
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        seconds.append(time.monotonic() - began)
    update = min(seconds[1:]) * settings.accumulate
    validated = validated_of(trainer.validation, trainer.config, validation_cases)
    trainer.validation = trainer.validation[:1]
    began = time.monotonic()
    if trainer.validation:
        trainer.score([])
    validation = (time.monotonic() - began) * validated
    epochs = settings.epochs
    total = epochs * settings.iterations * update + epochs / settings.validate_every * validation
    if trainer.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(trainer.device) / 2**30
    else:
        peak = (peak_memory() or 0) / 2**30
    assumed = _assumed(trainer, validated, validation_cases)
    return Estimate(parameter_count(state.network), update, validation, total / 3600, peak, loss, assumed)


def _assumed(trainer: Trainer, validated: int, validation_cases: int) -> tuple[str, ...]:
    settings, data = trainer.config.train, trainer.config.data
    batches = f"{settings.accumulate} × " if settings.accumulate > 1 else ""
    lines = [
        f"{settings.epochs} epochs of {settings.iterations} updates, no early stop",
        f"an update: {batches}{settings.batch_size} patches of "
        f"{'×'.join(map(str, trainer.config.sampling.patch_size))}, the faster of two measured",
        f"patches prepared in turn with the updates; data.workers={data.workers} may do it at the same time",
        f"a validation every {settings.validate_every} epochs of {validated} of {validation_cases} cases, "
        "all as large as the one measured",
        "all cases prepared already: the first start takes longer",
        f"{trainer.device} as it is now"
        + (f", {torch.get_num_threads()} threads" if trainer.device.type == "cpu" else ""),
        "no other process beside it",
    ]
    return tuple(lines)
