"""A network in training: state, loss and gradient steps on one device."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medseg.config.schema import RunConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.sampling.cropping import VIEW
from medseg.data.loading.sampling.object_targets import MAPS, OBJECTS
from medseg.data.loading.sampling.prompt_samples import build_user
from medseg.inference.model.model_file import OBJECT_LABELS, prompt_task, with_maps
from medseg.instances.heads.base import InstanceHead, build_head
from medseg.instances.heads.loss import InstanceLoss
from medseg.instances.options import InstanceTask
from medseg.losses import CustomLossConfig, DeepSupervisionLoss
from medseg.losses.base import share_batch
from medseg.model_output import Output, as_output
from medseg.models import AnyModelConfig, CustomModelConfig
from medseg.models.detection import Detector, detection_targets
from medseg.models.detection.anchors import AnchoredConfig
from medseg.models.detection.targets import batch_targets
from medseg.models.pretrained.loading import (
    WeightsConfig,
    check_weights_exist,
    load_pretrained,
    parameter_groups,
    read_state,
)
from medseg.models.pretrained.weight_registry import lookup_weights
from medseg.prompts.options import PromptTask
from medseg.system.device import (
    autocast,
    channels_last,
    resolve_autocast_dtype,
    to_channels_last,
)
from medseg.task import Task
from medseg.training.dataset.preparation import PreparedDataset
from medseg.training.distributed.ranks import ONE_PROCESS, ProcessRanks, Ranks
from medseg.training.distributed.replicas import Replica, SharedReplica, with_synchronized_norms
from medseg.training.extensions import NO_EXTENSIONS, Extensions
from medseg.training.network_options import (
    cumulative_statistics,
    frozen_norms,
    has_statistics,
    set_network_options,
)
from medseg.training.options import TrainConfig
from medseg.training.prompting.rounds import PromptRounds, with_prompts
from medseg.training.run_folder.checkpoint import seed_everything
from medseg.training.run_folder.state import TrainState
from medseg.training.unlabeled import UNLABELED_PREFIX, consistency

_LOGGER = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]

_MEASURED = 200
"""Training cases whose objects are measured for the anchors."""


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
        ranks: the processes of the training.
        rounds: earlier prompts of the samples of a network that answers prompts; None for other networks.
        replica: the network as this process has it; if None, alone and whole.
    """

    state: TrainState
    loss: nn.Module
    labels: LabelSchema
    options: TrainConfig
    device: torch.device
    dtype: torch.dtype | None
    frozen_norms: list[nn.Module] = field(default_factory=list)
    consistency_weight: float = 0.0
    ranks: Ranks = ONE_PROCESS
    rounds: PromptRounds | None = None
    replica: Replica = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        self.replica = self.replica or Replica(self.state.network)

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
        last = self.options.accumulate - 1
        losses = [self.gradient_step(batch, final=i == last) for i, batch in enumerate(batches)]
        if clip is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.network.parameters(), clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return losses

    def gradient_step(self, batch: Batch, *, final: bool = True) -> torch.Tensor:
        """Add the gradient of one batch; return its loss, which the device may still be computing.

        Args:
            batch: this process's samples of the batch.
            final: whether the update follows.
        """
        target, annotated, image = self._target(batch), self._annotated(batch), self._input(batch)
        unlabeled = UNLABELED_PREFIX + "image" in batch

        def compute(network: nn.Module) -> torch.Tensor:
            if isinstance(network, Detector):
                return self._detection_loss(network, batch)
            return self.loss(self._forward(network, image), target, annotated)

        loss = self.replica.compute(compute, final=final and not unlabeled)
        self._add_gradient(loss)
        return loss.detach() + self._consistency_step(batch, final=final) if unlabeled else loss.detach()

    def synchronize(self) -> None:
        """Let the processes agree on what they do not train together: the running statistics of norms."""
        self.replica.synchronize(self.state.network)
        if self.state.averaged is not None:
            self.replica.synchronize(self.state.averaged)

    def evaluated(self) -> nn.Module:
        """Return the whole network that is validated and saved."""
        return self.replica.evaluated(self.state.evaluated)

    def to_checkpoint(self) -> dict[str, Any]:
        """Return the state as plain types and whole tensors."""
        return self.replica.whole(self.state.to_checkpoint())

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.state.restore(self.replica.own_part(checkpoint, self.state.optimizer))

    def update_norms(self, batches: Iterable[Batch]) -> None:
        """Compute the running statistics of the averaged network from batches, as the means over them."""
        network = self.state.averaged
        assert network is not None
        frozen = {name for name, one in self.state.network.named_modules() if one in self.frozen_norms}
        norms = [one for name, one in network.named_modules() if has_statistics(one) and name not in frozen]
        if norms:
            with cumulative_statistics(network.eval(), norms), torch.no_grad():
                for batch in batches:
                    self._forward(network, self._input(batch))

    def _consistency_step(self, batch: Batch, *, final: bool) -> torch.Tensor:
        """Add the gradient of the unlabeled images of a batch; return their weighted loss."""
        teacher, weight = self.state.averaged, self.consistency_weight
        assert teacher is not None
        inside = batch[UNLABELED_PREFIX + "label"].to(self.device, non_blocking=True) >= 0
        with torch.no_grad():
            taught = self._forward(teacher.eval(), batch[UNLABELED_PREFIX + VIEW]).logits
        sigmoid, reduction = bool(self.labels.regions), self.ranks.reduction

        def compute(network: nn.Module) -> torch.Tensor:
            logits = self._forward(network, batch[UNLABELED_PREFIX + "image"]).logits
            return weight * consistency(logits, taught, inside, sigmoid=sigmoid, reduction=reduction)

        loss = self.replica.compute(compute, final=final)
        self._add_gradient(loss)
        return loss.detach()

    def _input(self, batch: Batch) -> torch.Tensor:
        """Return the input of the network: the images, with the prompts of a network that answers them."""
        if self.rounds is None:
            return batch["image"]
        network = self.state.network
        prompts = self.rounds.play(network, lambda images: self._forward(network, images).logits, batch)
        return with_prompts(batch["image"], prompts)

    def _forward(self, network: nn.Module, image: torch.Tensor) -> Output:
        """Run a network on images (B, C, *P)."""
        with autocast(self.dtype, self.device):
            return as_output(network(self._image(image)))

    def _detection_loss(self, network: Detector, batch: Batch) -> torch.Tensor:
        """Return the sum of the losses of a detector."""
        targets = [target.to(self.device) for target in batch_targets(batch[OBJECTS], batch["label"])]
        with autocast(self.dtype, self.device):
            losses = network(self._image(batch["image"]), targets)
        return torch.stack([loss.float() for loss in losses.values()]).sum()

    def _image(self, image: torch.Tensor) -> torch.Tensor:
        """Bring images (B, C, *P) to the device."""
        image = image.to(self.device, non_blocking=True)
        return image.to(memory_format=channels_last(image.ndim - 2)) if self.options.channels_last else image

    def _add_gradient(self, loss: torch.Tensor) -> None:
        self.state.scaler.scale(loss / self.options.accumulate).backward()

    def _target(self, batch: Batch) -> torch.Tensor:
        """Return classes (B, 1, *S), masks of regions (B, R, *S) or probabilities (B, K, *S); -1 is ignored.

        If objects are separated, classes (B, 1, *S) with the maps (B, G, *S) behind them.
        """
        classes = batch["label"].to(self.device, non_blocking=True).long()
        if MAPS in batch:
            return torch.cat([classes.float(), batch[MAPS].to(self.device, non_blocking=True)], dim=1)
        regions = bool(self.labels.regions)
        if "soft" in batch:
            soft = batch["soft"].to(self.device, non_blocking=True)
            return torch.where(classes < 0, -1.0, soft[:, 1:] if regions else soft)
        if not regions:
            return classes
        masks = self._region_table[:, classes[:, 0].clamp(min=0)].movedim(0, 1).long()
        return torch.where(classes < 0, -1, masks)

    def _annotated(self, batch: Batch) -> torch.Tensor | None:
        """Return (B, K) bool: the channels annotated in each sample; None if all are.

        Several processes compute the same loss even if all channels are annotated in the samples of one.
        """
        annotated = batch.get("annotated")
        if annotated is None or (self.ranks.size == 1 and bool(annotated.all())):
            return None
        return annotated.to(self.device)

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
    ranks: Ranks = ONE_PROCESS,
) -> TrainingModel:
    """Build and seed the network, its optimizer and its loss.

    Args:
        config: settings of the model, the loss, the weights and the optimizer.
        dataset: gives labels and channels.
        training: the training cases, whose classes the loss may balance.
        extensions: may replace the network and the loss.
        pretrained: whether to load the weights that ``config.weights`` names.
        ranks: the processes that train the network.
    """
    options = config.train
    device = ranks.resolve_device(options.device)
    prompts = config.task if isinstance(config.task, PromptTask) else None
    classes = dataset.task(config.spatial_dims, masks=config.cascade is not None)
    classes = classes if prompts is None else prompt_task(classes)
    head = instance_head(config)
    task = with_maps(classes, head)
    seed_everything(config.seed)
    own = extensions.build_network(task)
    network: nn.Module = (planned_model(config, training).build(task) if own is None else own).to(device)
    if pretrained:
        _load_pretrained(config.weights, network)
    if options.channels_last:
        network = to_channels_last(network, config.spatial_dims)
    network = _synchronize_norms(network, options, ranks)
    averaged = copy.deepcopy(network).requires_grad_(False) if options.ema or options.swa is not None else None
    replica = _build_replica(network, averaged, config, ranks, task.in_channels)
    dtype = resolve_autocast_dtype(options.amp, device)
    state = TrainState(
        network,
        options.optimizer.build(parameter_groups(network, config.weights)),
        torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        averaged,
    )
    loss = extensions.build_loss(classes)
    if loss is None:
        counts = _channel_counts(training, dataset.labels, classes) if prompts is None else None
        loss = config.loss.build(classes, counts)
    if head is not None and isinstance(config.task, InstanceTask):
        shared = None if ranks.size == 1 else ranks.reduction
        loss = InstanceLoss(loss, head, config.task.weight, shared)
    loss = DeepSupervisionLoss(loss, aux_weight=options.aux_weight, weights=options.deep_weights)
    share_batch(loss, ranks.reduction)
    set_network_options(network, options, device)
    return TrainingModel(
        state, loss.to(device), dataset.labels if prompts is None else OBJECT_LABELS, options, device, dtype,
        frozen_norms(network, config.weights.freeze), ranks=ranks, replica=replica,
        rounds=None if prompts is None else PromptRounds(build_user(prompts)),
    )  # fmt: skip


def _synchronize_norms(network: nn.Module, options: TrainConfig, ranks: Ranks) -> nn.Module:
    """Let batch norms compute their statistics over all processes, if there are several, and GPUs."""
    if not isinstance(ranks, ProcessRanks) or not options.distributed.sync_batchnorm:
        return network
    if ranks.device.type == "cuda":
        return with_synchronized_norms(network, ranks.data)
    if any(map(has_statistics, network.modules())):
        _LOGGER.warning(
            "batch norms on CPUs have the statistics of each process's samples, not of the whole batch"
        )
    return network


def _build_replica(
    network: nn.Module, averaged: nn.Module | None, config: RunConfig, ranks: Ranks, channels: int
) -> Replica:
    """Return the network as this process has it; FSDP divides the weights of it and of its average in place."""
    if not isinstance(ranks, ProcessRanks):
        return Replica(network)
    options = config.train
    if options.distributed.strategy == "fsdp":
        from medseg.training.distributed.sharding import ShardedReplica  # FSDP takes a second to import

        patch = torch.zeros(1, channels, *config.sampling.patch_size)
        return ShardedReplica(network, averaged, ranks, patch)
    own = isinstance(config.model, CustomModelConfig) or isinstance(config.loss, CustomLossConfig)
    weights = options.deep_weights
    skipped = weights == "halving_skip_lowest" or (not isinstance(weights, str) and 0 in weights)
    varying = own or skipped or options.unlabeled is not None
    all_used = not varying and getattr(network, "uses_all_weights", True)
    return SharedReplica(network, ranks, options.distributed.compression, all_used=all_used)


def planned_model(config: RunConfig, training: Sequence[CachedCase]) -> AnyModelConfig:
    """Return the settings of the network; anchors and number of detections follow from the training cases."""
    if not isinstance(config.model, AnchoredConfig):
        return config.model
    sides = [np.zeros((0, config.spatial_dims))]
    for case in training[:_MEASURED]:
        boxes = detection_targets(np.asarray(case.objects)[None]).boxes.numpy()
        sides.append(boxes[:, config.spatial_dims :] - boxes[:, : config.spatial_dims])
    model = config.model.with_detections(max(map(len, sides)))
    if model.anchors.shapes == "auto":
        model = model.planned(np.concatenate(sides).astype(np.float64))
        _LOGGER.info("anchors of each level, in voxels: %s", model.anchors.shapes)
    return model


def instance_head(config: RunConfig) -> InstanceHead | None:
    """Return the dense head of a run; None if it tells no objects apart."""
    return build_head(config.task, config.spatial_dims) if isinstance(config.task, InstanceTask) else None


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
