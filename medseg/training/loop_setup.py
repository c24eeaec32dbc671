"""The training loop of a run, built from its settings, and the checks that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from medseg.config.schema import RunConfig
from medseg.data.augmentation.mask_corruption import MaskChannels
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.sampling.lateral_swap import LateralSwap
from medseg.data.loading.sampling.object_targets import ObjectTargets
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.patch_sampler import PatchSampler
from medseg.data.loading.sampling.prompt_samples import PromptSamples, build_user
from medseg.errors import ConfigError, OutOfMemoryError
from medseg.inference.sliding_window.tta import TrainedAugmentation, check_tta
from medseg.instances.options import InstanceTask
from medseg.models.detection import Detector
from medseg.progress import Progress
from medseg.prompts.options import PromptTask
from medseg.system.allocator import is_out_of_memory
from medseg.training.dataset.preparation import CachedDataset, NetworkNeeds, PreparedDataset
from medseg.training.distributed.ranks import Ranks
from medseg.training.loop import TrainingLoop
from medseg.training.model import TrainingModel, instance_head
from medseg.training.options import TrainConfig
from medseg.training.patch_loader import PatchLoader
from medseg.training.prompting.validation import PromptValidator
from medseg.training.run_folder.layout import RunFolder
from medseg.training.validation.validator import Validator


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
    ranks = model.ranks
    _check_shares(options, ranks)
    _check_monitor(options.monitor, tuple(labels.evaluated))
    # a first label that is not background is drawn like any other
    include_background = config.sampling.include_background or not labels.background
    sampling = config.sampling.model_copy(update={"include_background": include_background})
    if isinstance(config.task, PromptTask):  # every patch has an object; sessions read zeros beyond a scan
        sampling = sampling.model_copy(update={"forced_share": 1.0, "border": "zeros"})
    sides = LateralSwap(labels.mirrored_labels, labels.mirrored_classes) if labels.pairs else None
    sampler = PatchSampler(cached.train, tuple(labels.names), sampling, config.seed)
    epoch_length = options.iterations * options.accumulate * options.batch_size
    loader = PatchLoader(
        PatchDataset(cached.train, sampler, config.augment, epoch_length, slices, sides),
        batch_size=options.batch_size,
        workers=config.data.workers,
        timeout=config.data.worker_timeout,
        pin_memory=model.device.type == "cuda",
        rank=ranks.rank,
        ranks=ranks.size,
    )
    if cached.unlabeled:
        loader = _with_unlabeled(loader, cached.unlabeled, options)
    border = config.inference.border or config.sampling.border
    inference = config.inference.model_copy(update={"roi_size": config.roi_size, "border": border})
    if isinstance(model.state.network, Detector) and not inference.instances.score:
        objects = inference.instances.model_copy(update={"score": 0.5})
        inference = inference.model_copy(update={"instances": objects})
    masks = None if config.cascade is None else MaskChannels.of(labels, config.cascade.masks)
    loader.patches.masks = masks
    count = 0 if masks is None else masks.count
    head = instance_head(config)
    if isinstance(config.task, InstanceTask):
        loader.patches.objects = ObjectTargets(head)
    validator = Validator(cached.val, labels, inference, model.device, model.dtype, slices, count, head)
    if isinstance(config.task, PromptTask):
        validator = _with_prompts(config, config.task, labels, loader, validator)
    return TrainingLoop(options, model, loader, validator, run_folder, progress)


def _with_prompts(
    config: RunConfig, task: PromptTask, labels: LabelSchema, loader: PatchLoader, validator: Validator
) -> PromptValidator:
    """Let the patches have prompts, and return the validation by simulated clicks."""
    instances = config.data.instances is not None and task.objects in ("auto", "instances")
    loader.patches.prompts = PromptSamples(task, labels, build_user(task))
    if instances:
        loader.patches.objects = ObjectTargets(None)
    return PromptValidator(
        validator.cases, labels, validator.inference, validator.device, validator.dtype,
        task=task, instances=instances,
    )  # fmt: skip


def _with_unlabeled(loader: PatchLoader, cases: list[CachedCase], options: TrainConfig) -> PatchLoader:
    """Add patches of unlabeled images to every batch, at random positions, with two draws of intensities."""
    patches = loader.patches
    config = patches.sampler.config.model_copy(update={"forced_share": 0.0, "balance": "uniform"})
    sampler = PatchSampler(cases, patches.sampler.names, config, patches.sampler.seed)
    size = (options.unlabeled.patches if options.unlabeled is not None else None) or options.batch_size
    length = options.iterations * options.accumulate * size
    others = PatchDataset(cases, sampler, patches.augmenter.config, length, patches.slices)
    others.two_views = True
    return replace(loader, unlabeled=others, unlabeled_batch_size=size)


def _check_shares(options: TrainConfig, ranks: Ranks) -> None:
    unlabeled = options.unlabeled.patches if options.unlabeled is not None else None
    for name, size in (("train.batch_size", options.batch_size), ("train.unlabeled.patches", unlabeled)):
        if size is not None and size < ranks.size:
            raise ConfigError(
                f"{name}={size}: fewer than the {ranks.size} processes that share a batch",
                hint=f"Set {name}={ranks.size} or a multiple, or start fewer processes.",
            )


def _check_monitor(monitor: str, names: tuple[str, ...]) -> None:
    score, _, label = monitor.partition(":")
    if label and score in ("dice", "iou") and label not in names:
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
