"""``dry_run``: estimate the time and the memory of a training."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch

from medseg.config.schema import RunConfig
from medseg.models import parameter_count
from medseg.progress import QuietProgress, plural
from medseg.system.platform import peak_memory
from medseg.system.processes.threads import use_threads
from medseg.training.dataset.preparation import cache_dataset, prepare_dataset
from medseg.training.extensions import ExtensionArguments, Extensions
from medseg.training.loop import TrainingLoop
from medseg.training.loop_setup import build_loop, check_inference_variants, memory_errors, network_needs
from medseg.training.model import build_model
from medseg.training.run_folder.layout import RunFolder
from medseg.training.validation.schedule import ValidationBudget, estimate_validated

_LOGGER = logging.getLogger(__name__)

_CASES = 4
"""Cases of each part that are preprocessed."""
_PREPARED_BEFORE = 0.01
"""Seconds per case below which the cases were in the cache already."""


@dataclass(frozen=True)
class Estimate:
    """The estimate of a training.

    Attributes:
        parameters: number of trainable parameters of the network.
        seconds_per_update: measured.
        seconds_per_validation: measured on one case.
        hours: estimated time of the whole training.
        peak_memory_gb: of the device (CUDA) or the process (CPU).
        loss: of the first update.
        assumed: the assumptions of the estimate, one sentence each.
        preparation_seconds: estimated time to prepare all cases, which the first start also does; 0 if the
            measured cases were prepared before.
    """

    parameters: int
    seconds_per_update: float
    seconds_per_validation: float
    hours: float
    peak_memory_gb: float
    loss: float
    assumed: tuple[str, ...] = ()
    preparation_seconds: float = 0.0


def dry_run(config: RunConfig, run: Path | str, **extensions: Unpack[ExtensionArguments]) -> Estimate:
    """Compute a few updates and validate one case; write only the cache.

    Args:
        config: the settings.
        run: the run folder of the training.
        **extensions: your own code, as in :func:`medseg.training.fit.fit`.

    Raises:
        MedsegError: as :func:`medseg.training.fit.fit`.
    """
    run_folder, own = RunFolder(Path(run)), Extensions.of(extensions)
    check_inference_variants(config)
    run_folder.check_foreign()
    try:
        return _estimate(config, run_folder, own)
    finally:
        run_folder.remove_empty_folders()


def _estimate(config: RunConfig, run_folder: RunFolder, own: Extensions) -> Estimate:
    cache, progress = run_folder.cache(config), QuietProgress()
    dataset = prepare_dataset(config.data, config.preprocess, network_needs(config), cache / "facts")
    for warning in dataset.warnings:
        _LOGGER.warning(warning)
    with use_threads(config.train.threads):
        began = time.monotonic()
        cached = cache_dataset(dataset, cache, progress, limit=_CASES)
        seconds = (time.monotonic() - began) / (len(cached.train) + len(cached.val))
        built = build_model(config, dataset, cached.train, extensions=own)
        loop = build_loop(config, run_folder, dataset, cached, built, progress)
        loop.loader.patches.transforms = own.transforms
        with memory_errors(config):
            estimate = _measure(loop, config, len(dataset.part("val")[0]))
    cases = len(dataset.part("train")[0]) + len(dataset.part("val")[0])
    return replace(estimate, preparation_seconds=seconds * cases if seconds > _PREPARED_BEFORE else 0.0)


def _measure(loop: TrainingLoop, config: RunConfig, validation_cases: int) -> Estimate:
    options = loop.options
    loss, seconds = _time_updates(loop)
    update = seconds * options.accumulate
    validated = estimate_validated(loop.validator.cases, ValidationBudget.of(config), validation_cases)
    validation = _time_validation(loop) * validated
    total = options.epochs * options.iterations * update + options.epochs / options.validate_every * validation
    if options.budget is not None:
        total = 60 * options.budget
    if loop.model.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(loop.model.device)
    else:
        peak = peak_memory() or 0
    return Estimate(
        parameters=parameter_count(loop.state.network),
        seconds_per_update=update,
        seconds_per_validation=validation,
        hours=total / 3600,
        peak_memory_gb=peak / 2**30,
        loss=loss,
        assumed=_assumptions(loop, config, validated, validation_cases),
    )


def _time_updates(loop: TrainingLoop) -> tuple[float, float]:
    """Return the loss of the first update, and the seconds that one batch takes."""
    state, size = loop.state, loop.options.batch_size
    state.network.train()
    losses: list[float] = []
    seconds: list[float] = []
    for i in range(3):  # the first warms up
        began = time.monotonic()
        samples = [loop.loader.patches[i * size + k] for k in range(size)]
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
        losses.append(float(loop.model.gradient_step(batch)))
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        seconds.append(time.monotonic() - began)
    return losses[0], min(seconds[1:])


def _time_validation(loop: TrainingLoop) -> float:
    """Return the seconds that the validation of the first case takes; 0 without cases."""
    began = time.monotonic()
    first = replace(loop.validator, cases=loop.validator.cases[:1])
    for _ in first.validate(loop.state.evaluated):
        return time.monotonic() - began
    return 0.0


def _assumptions(
    loop: TrainingLoop, config: RunConfig, validated: int, validation_cases: int
) -> tuple[str, ...]:
    options, device = loop.options, loop.model.device
    batches = f"{options.accumulate} × " if options.accumulate > 1 else ""
    threads = f", {plural(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    every = "epoch" if options.validate_every == 1 else f"{options.validate_every} epochs"
    length = plural(options.epochs, "epoch")
    if options.budget is not None:
        length = f"{options.budget:g} minutes, epochs"
    first = ("the second stage of the cascade only, without its first stage",) if config.cascade else ()
    return (
        *first,
        f"{length} of {options.iterations} updates, no early stop",
        f"an update: {batches}{options.batch_size} patches of "
        f"{'×'.join(map(str, config.sampling.patch_size))}, the faster of two measured",
        f"patches prepared in turn with the updates; data.workers={config.data.workers} may do it in parallel",
        f"a validation every {every} of {validated} of "
        f"{plural(validation_cases, 'case')}, all as large as the measured one",
        "all cases prepared already",
        f"{device} in its present state{threads}",
        "no other process that computes",
        *(
            ["without the patches of unlabeled images (train.unlabeled)"]
            if options.unlabeled is not None
            else []
        ),
        *(
            ["full patches throughout (sampling.progressive)"]
            if config.sampling.progressive is not None
            else []
        ),
    )
