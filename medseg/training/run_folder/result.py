"""The result of a training: the model file, and what ``fit`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.config.schema import RunConfig
from medseg.inference.model.cascade import join_stages
from medseg.inference.model.model_file import OBJECT_LABELS, LoadedModel, ModelHeader, save_model
from medseg.inference.shift.fingerprint import TrainingFingerprint
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.instances.options import InstanceTask
from medseg.models import AnyModelConfig
from medseg.models.detection import Detector
from medseg.prompts.options import PromptTask
from medseg.training.dataset.preparation import PreparedDataset
from medseg.training.loop import TrainingLoop
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.validation.instance_tuning import tune_instances


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


def write_model(
    loop: TrainingLoop,
    config: RunConfig,
    dataset: PreparedDataset,
    fingerprint: TrainingFingerprint,
    first_stages: Sequence[LoadedModel] = (),
) -> RunResult:
    """Write the model file from the best checkpoint, or from the last state (``train.checkpoint``).

    Without validation, it is the last state.

    Args:
        loop: the training.
        config: its settings.
        dataset: its dataset.
        fingerprint: of the training cases.
        first_stages: of a cascade, the networks of the first stage, which become part of the file.
    """
    state, run_folder = loop.state, loop.run_folder
    if config.train.checkpoint == "best" and run_folder.best.exists():
        best = load_checkpoint(run_folder.best)
        weights = best["averaged"] or best["network"]
    else:
        weights = (loop.last_network or state.evaluated).state_dict()
    inference, instances = loop.validator.inference, None
    if isinstance(config.task, InstanceTask):
        instances = config.task
        inference = tune_instances(loop, instances, weights)
    prompts = config.task if isinstance(config.task, PromptTask) else None
    header = ModelHeader(
        spatial_dims=config.spatial_dims,
        channels=dataset.channels,
        labels=dataset.labels if prompts is None else OBJECT_LABELS,
        instances=instances,
        prompts=prompts,
        preprocess=dataset.preprocess,
        inference=inference,
        model=_trained_model(loop, config),
        label_reader=dataset.label_reader,
        augmentation=TrainedAugmentation.of(config.augment),
        fingerprint=fingerprint,
        training=_summarize(loop, config, dataset),
        first_stages=tuple(model.header for model in first_stages),
    )
    save_model(run_folder.model, header, join_stages(weights, first_stages))
    return RunResult(run_folder.root, run_folder.model, state.best, state.epochs_closed)


def _trained_model(loop: TrainingLoop, config: RunConfig) -> AnyModelConfig:
    """Return the settings of the network, with the anchors that were planned from the training cases."""
    network = loop.state.network
    return network.config if isinstance(network, Detector) else config.model


def _summarize(loop: TrainingLoop, config: RunConfig, dataset: PreparedDataset) -> dict[str, Any]:
    """Summarize the training for the model file, without paths and identities."""
    parts, state = list(dataset.split.values()), loop.state
    best = config.train.checkpoint == "best"
    return {
        "seed": config.seed,
        "cases": {part: parts.count(part) for part in ("train", "val", "test")},
        "validated_cases": len(loop.validator.cases),
        "steps": state.step,
        "best_step": state.best_step if best else state.step,
        "monitor": config.train.monitor,
        "score": state.best if best or not state.scores else state.scores[-1],
    }
