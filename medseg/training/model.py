"""A network in training: state, loss and gradient steps on one device."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medseg.config.schema import RunConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache import CachedCase
from medseg.data.loading.cropping import VIEW
from medseg.losses import DeepSupervisionLoss
from medseg.model_output import Output, as_output
from medseg.models.pretrained.loading import (
    WeightsConfig,
    check_weights_exist,
    load_pretrained,
    parameter_groups,
    read_state,
)
from medseg.models.pretrained.weight_registry import lookup_weights
from medseg.system.device import (
    autocast,
    channels_last,
    resolve_autocast_dtype,
    resolve_device,
    to_channels_last,
)
from medseg.task import Task
from medseg.training.dataset import PreparedDataset
from medseg.training.extensions import NO_EXTENSIONS, Extensions
from medseg.training.network_options import (
    checkpoint_stages,
    compile_network,
    cumulative_statistics,
    frozen_norms,
    has_statistics,
)
from medseg.training.options import TrainConfig
from medseg.training.run_folder.checkpoint import seed_everything
from medseg.training.run_folder.state import TrainState
from medseg.training.unlabeled import UNLABELED_PREFIX, consistency

_LOGGER = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


@dataclass
class TrainingModel:
    """The network of a training, with its loss.

    Attributes:
        state: network, optimizer and counters.
        loss: maps an ``Output``, a target and the annotated channels to a scalar.
        labels: of the dataset.
        options: of the training loop.
        device: the device that computes.
        dtype: of mixed precision; None for float32.
        frozen_norms: batch norms whose running statistics stay as they are.
        consistency_weight: weight of the loss of unlabeled images in the next update.
    """

    state: TrainState
    loss: nn.Module
    labels: LabelSchema
    options: TrainConfig
    device: torch.device
    dtype: torch.dtype | None
    frozen_norms: list[nn.Module] = field(default_factory=list)
    consistency_weight: float = 0.0

    def update(self, batches: Iterable[Batch], rate: float) -> list[torch.Tensor]:
        """Update the weights once from the gradients of some batches.

        Args:
            batches: ``train.accumulate`` batches.
            rate: learning rate.

        Returns:
            The loss of each batch, which the device may still be computing.
        """
        state, clip = self.state, self.options.gradient_clip
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        state.network.train()
        for norm in self.frozen_norms:
            norm.eval()
        state.optimizer.zero_grad(set_to_none=True)
        losses = [self.gradient_step(batch) for batch in batches]
        if clip is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.network.parameters(), clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return losses

    def gradient_step(self, batch: Batch) -> torch.Tensor:
        """Add the gradient of one batch; return its loss, which the device may still be computing."""
        target = self._target(batch)
        output = self._forward(self.state.network, batch["image"])
        loss = self.loss(output, target, self._annotated(batch))
        self._add_gradient(loss)
        if UNLABELED_PREFIX + "image" in batch:
            return loss.detach() + self._consistency_step(batch)
        return loss.detach()

    def update_norms(self, batches: Iterable[Batch]) -> None:
        """Compute the running statistics of the averaged network from batches, as the means over them."""
        network = self.state.averaged
        assert network is not None
        frozen = {name for name, one in self.state.network.named_modules() if one in self.frozen_norms}
        norms = [one for name, one in network.named_modules() if has_statistics(one) and name not in frozen]
        if norms:
            with cumulative_statistics(network.eval(), norms), torch.no_grad():
                for batch in batches:
                    self._forward(network, batch["image"])

    def _consistency_step(self, batch: Batch) -> torch.Tensor:
        """Add the gradient of the unlabeled images of a batch; return their weighted loss."""
        teacher, weight = self.state.averaged, self.consistency_weight
        assert teacher is not None
        inside = batch[UNLABELED_PREFIX + "label"].to(self.device, non_blocking=True) >= 0
        with torch.no_grad():
            taught = self._forward(teacher.eval(), batch[UNLABELED_PREFIX + VIEW]).logits
        logits = self._forward(self.state.network, batch[UNLABELED_PREFIX + "image"]).logits
        loss = weight * consistency(logits, taught, inside, sigmoid=bool(self.labels.regions))
        self._add_gradient(loss)
        return loss.detach()

    def _forward(self, network: nn.Module, image: torch.Tensor) -> Output:
        """Run a network on images (B, C, *P)."""
        image = image.to(self.device, non_blocking=True)
        if self.options.channels_last:
            image = image.to(memory_format=channels_last(image.ndim - 2))
        with autocast(self.dtype, self.device):
            return as_output(network(image))

    def _add_gradient(self, loss: torch.Tensor) -> None:
        self.state.scaler.scale(loss / self.options.accumulate).backward()

    def _target(self, batch: Batch) -> torch.Tensor:
        """Return classes (B, 1, *S), masks of regions (B, R, *S) or probabilities (B, K, *S); -1 is ignored."""
        classes = batch["label"].to(self.device, non_blocking=True).long()
        regions = bool(self.labels.regions)
        if "soft" in batch:
            soft = batch["soft"].to(self.device, non_blocking=True)
            return torch.where(classes < 0, -1.0, soft[:, 1:] if regions else soft)
        if not regions:
            return classes
        masks = self._region_table[:, classes[:, 0].clamp(min=0)].movedim(0, 1).long()
        return torch.where(classes < 0, -1, masks)

    def _annotated(self, batch: Batch) -> torch.Tensor | None:
        """Return (B, K) bool: the channels annotated in each sample; None if all are."""
        annotated = batch.get("annotated")
        return None if annotated is None or bool(annotated.all()) else annotated.to(self.device)

    @cached_property
    def _region_table(self) -> torch.Tensor:
        """(R, K) bool on the device: the classes of each region."""
        return torch.from_numpy(self.labels.region_table).to(self.device)


def build_model(
    config: RunConfig,
    dataset: PreparedDataset,
    training: Sequence[CachedCase],
    *,
    extensions: Extensions = NO_EXTENSIONS,
    pretrained: bool = True,
) -> TrainingModel:
    """Build and seed the network, its optimizer and its loss.

    Args:
        config: settings of the model, the loss, the weights and the optimizer.
        dataset: gives labels and channels.
        training: the training cases, whose classes the loss may balance.
        extensions: may replace the network and the loss.
        pretrained: whether to load the weights that ``config.weights`` names.
    """
    options = config.train
    device = resolve_device(options.device)
    task = dataset.task(config.spatial_dims, masks=config.cascade is not None)
    seed_everything(config.seed)
    own = extensions.build_network(task)
    network: nn.Module = (config.model.build(task) if own is None else own).to(device)
    if pretrained:
        _load_pretrained(config.weights, network)
    if options.channels_last:
        network = to_channels_last(network, config.spatial_dims)
    dtype = resolve_autocast_dtype(options.amp, device)
    state = TrainState(
        network,
        options.optimizer.build(parameter_groups(network, config.weights)),
        torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        copy.deepcopy(network).requires_grad_(False) if options.ema or options.swa is not None else None,
    )
    loss = extensions.build_loss(task)
    if loss is None:
        loss = config.loss.build(task, _channel_counts(training, dataset.labels, task))
    loss = DeepSupervisionLoss(loss, aux_weight=options.aux_weight, weights=options.deep_weights)
    _set_network_options(network, options, device)
    frozen = frozen_norms(network, config.weights.freeze)
    return TrainingModel(state, loss.to(device), dataset.labels, options, device, dtype, frozen)


def _set_network_options(network: nn.Module, options: TrainConfig, device: torch.device) -> None:
    """Set how the network computes; its moving average, which only predicts, stays as it is."""
    if options.gradient_checkpointing:
        _LOGGER.info("gradient checkpointing: %d stages are computed again", checkpoint_stages(network))
    if options.compile:
        compile_network(network, device)


def pretrained_file(weights: WeightsConfig) -> Path | None:
    """Return the file of the pretrained weights that the settings name; None without.

    Raises:
        ModelFileError: if it does not exist.
    """
    file = lookup_weights(weights.published).path() if weights.published is not None else weights.file
    if file is not None:
        check_weights_exist(file)
    return file


def _load_pretrained(weights: WeightsConfig, network: nn.Module) -> None:
    file, keys = pretrained_file(weights), weights.keys
    if weights.published is not None and keys == "auto":
        keys = lookup_weights(weights.published).keys
    if file is not None:
        report = load_pretrained(network, read_state(file), keys=keys, spread=weights.spread)
        _LOGGER.info(report.describe())


def _channel_counts(training: Sequence[CachedCase], labels: LabelSchema, task: Task) -> list[int]:
    """Count the voxels of each channel of the logits: of the classes, or of the regions."""
    counts = np.sum([case.counts[1:] for case in training], axis=0)
    if task.activation == "softmax":
        return [int(n) for n in counts]
    return [int(n) for n in labels.region_table.astype(np.int64) @ np.asarray(counts)]
