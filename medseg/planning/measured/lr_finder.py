"""Learning-rate range test: which learning rate to start from (Smith 2017, arXiv:1506.01186)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Unpack

import torch

from medseg.config.schema import RunConfig
from medseg.errors import TrainingError
from medseg.progress import Progress, QuietProgress, stage
from medseg.system.processes.threads import use_threads
from medseg.training.dataset.preparation import cache_dataset, prepare_dataset
from medseg.training.extensions import ExtensionArguments, Extensions
from medseg.training.loop import TrainingLoop
from medseg.training.loop_setup import build_loop, memory_errors, network_needs
from medseg.training.model import build_model
from medseg.training.run_folder.layout import RunFolder

LOWEST, HIGHEST = 1e-6, 1.0
"""Learning rates of the first and the last update."""
_SMOOTHING = 0.9
_DIVERGED = 4.0
"""The test ends where the smoothed loss exceeds this multiple of its minimum."""


@dataclass(frozen=True)
class RangeTest:
    """The result of a learning-rate range test.

    Attributes:
        rates: learning rate of each update.
        losses: smoothed loss after each update.
        suggestion: the rate at which the loss falls fastest.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def find_learning_rate(
    config: RunConfig,
    run: Path | str,
    *,
    updates: int = 100,
    progress: Progress | None = None,
    **extensions: Unpack[ExtensionArguments],
) -> RangeTest:
    """Train for a few updates with a growing learning rate; write only the cache.

    Args:
        config: the settings.
        run: the run folder of the training.
        updates: number of updates.
        progress: receives the updates.
        **extensions: your own code, as in :func:`medseg.training.fit.fit`.

    Raises:
        MedsegError: as :func:`medseg.training.fit.fit`.
    """
    run_folder, own, shown = RunFolder(Path(run)), Extensions.of(extensions), progress or QuietProgress()
    run_folder.check_foreign()
    cache = run_folder.cache(config)
    dataset = prepare_dataset(config.data, config.preprocess, network_needs(config), cache / "facts")
    with use_threads(config.train.threads):
        cached = cache_dataset(dataset, cache, shown)
        model = build_model(config, dataset, cached.train, extensions=own)
        loop = build_loop(config, run_folder, dataset, cached, model, shown)
        loop.loader.patches.transforms = own.transforms
        with memory_errors(config):
            return _grow_rate(loop, updates)


def suggest_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate at which the loss falls fastest against the logarithm of the rate, before its minimum.

    Raises:
        TrainingError: if the loss never falls.

    Example:
        >>> suggest_rate([1e-4, 1e-3, 1e-2, 1e-1], [1.0, 0.95, 0.5, 0.4])
        0.01
    """
    lowest = min(range(len(losses)), key=losses.__getitem__)
    slopes = [losses[i] - losses[i - 1] for i in range(1, lowest + 1)]
    if not slopes or min(slopes) >= 0:
        raise TrainingError(
            "the loss never falls in the range test",
            hint="Check the labels and the intensities of the dataset (medseg data check).",
        )
    return rates[1 + slopes.index(min(slopes))]


def _grow_rate(loop: TrainingLoop, updates: int) -> RangeTest:
    options = loop.options
    growth = (HIGHEST / LOWEST) ** (1 / max(updates - 1, 1))
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    batches = loop.loader.batches(0, updates * options.accumulate)
    with stage(loop.progress, updates, "finding the learning rate", unit="updates"):
        for step in range(updates):
            rate = LOWEST * growth**step
            parts = loop.model.update(islice(batches, options.accumulate), rate)
            loss = float(torch.stack(parts).mean())
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            smooth = average / (1 - _SMOOTHING ** (step + 1))
            loop.progress.advance(f"rate {rate:.1e}, loss {smooth:.4f}")
            if not math.isfinite(smooth) or (losses and smooth > _DIVERGED * min(losses)):
                break
            rates.append(rate)
            losses.append(smooth)
    return RangeTest(rates, losses, suggest_rate(rates, losses))
