"""Sampling of training patches: every random draw of a sample follows from (seed, epoch, position) alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from medseg.class_weights import class_weights_from_counts
from medseg.data.augmentation.mask_corruption import MaskChannels, pack_codes, unpack_codes
from medseg.data.augmentation.mixing import draw_box
from medseg.data.augmentation.options import AugmentConfig
from medseg.data.augmentation.pipeline import Augmenter
from medseg.data.labels.objects.numbering import pack_objects, unpack_objects
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.generator_state import pack_generator
from medseg.data.loading.sampling.cropping import VIEW, Voxels, crop, paste_box
from medseg.data.loading.sampling.lateral_swap import LateralSwap
from medseg.data.loading.sampling.object_targets import OBJECTS, ObjectTargets
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.prompt_samples import PromptSamples
from medseg.data.loading.sampling.user_transforms import SampleTransform, apply_transforms
from medseg.data.loading.workers import CaseTracker, Sample
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array

GENERATOR = "generator"
"""Key of a sample: state of its random generator before the intensity transforms, if those are left out."""

CLASS_COUNTS = "class_counts"
"""Key of a sample: (K + 1) int64, voxels of each class in the label patch; entry 0 counts ignored voxels."""

ADAPTIVE_FLOOR = 0.1
"""Weight of a class with a Dice of 1; a class with a Dice of 0 has weight 1."""


@dataclass(frozen=True)
class Draw:
    """The origin of one sample.

    Attributes:
        case: index of the case.
        class_index: class that the patch contains; None for a random position.
        rng: random generator of the sample.
    """

    case: int
    class_index: int | None
    rng: np.random.Generator


class PatchPlan:
    """Determines the case and the class of each sample.

    Positions that are forced to a class are spread evenly over an epoch. Each draws its class by the balance
    and then one of the cases that contain it, so that cases with rare classes are used more often. The other
    positions iterate over all cases, in a new order each time.

    Args:
        cases: the training cases.
        names: names of the classes.
        config: patch size and balance.
        seed: seed of all draws.

    Raises:
        DataError: if there are no cases.
    """

    def __init__(self, cases: list[CachedCase], names: tuple[str, ...], config: SamplingConfig, seed: int):
        if not cases:
            raise DataError("there are no cases to draw patches from")
        self.seed = seed
        self.config = config
        self.count = len(cases)
        self.class_probabilities = class_probabilities(cases, names, config)
        self.names = names
        self.forced_share = config.forced_share if self.class_probabilities.any() else 0.0
        self.cases_with_class = [
            np.array([i for i, case in enumerate(cases) if case.counts[k + 1]]) for k in range(len(names))
        ]

    @property
    def adaptive(self) -> bool:
        """Whether the class probabilities follow the validation."""
        return self.config.balance == "adaptive"

    def adapt(self, dice: Mapping[str, float]) -> None:
        """Set the class probabilities from a validation: the weight of a class is 1 - Dice, at least 0.1.

        Args:
            dice: Dice of each class; a missing or nan value (no case contains the class) counts as 0.
        """
        scores = [dice.get(name, math.nan) for name in self.names]
        weights = np.array([1.0 if math.isnan(d) else max(1 - d, ADAPTIVE_FLOOR) for d in scores])
        weights = weights * (self.class_probabilities > 0)
        if weights.any():
            self.class_probabilities = weights / weights.sum()

    def draw(self, epoch: int, position: int) -> Draw:
        """Draw the sample at a position of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, position])
        before, after = (int((position + i) * self.forced_share + 1e-9) for i in (0, 1))
        if after > before:
            drawn = int(rng.choice(len(self.class_probabilities), p=self.class_probabilities))
            return Draw(int(rng.choice(self.cases_with_class[drawn])), drawn, rng)
        round_, index = divmod(position - before, self.count)
        order = np.random.default_rng([self.seed, epoch, round_, 1]).permutation(self.count)
        return Draw(int(order[index]), None, rng)


def class_probabilities(cases: list[CachedCase], names: tuple[str, ...], config: SamplingConfig) -> Array:
    """Compute how often each class is drawn.

    Args:
        cases: the training cases.
        names: names of the K classes.
        config: the balance.

    Returns:
        (K,) float64; 0 for classes that no case contains.

    Raises:
        ConfigError: if ``balance`` contains an unknown name, a negative weight or no positive weight.
    """
    counts = np.sum([case.counts[1:] for case in cases], axis=0)
    if not counts.any():
        return np.zeros(len(names))
    if isinstance(config.balance, dict):
        unknown = sorted(set(config.balance) - set(names))
        drawn = list(names if config.include_background else names[1:])
        positive = any(config.balance.get(name, 0.0) > 0 for name in drawn)
        if unknown or min(config.balance.values(), default=0.0) < 0 or not positive:
            raise ConfigError(
                f"sampling.balance: expected weights ≥ 0 for {list(names)}, above 0 for one of {drawn}; got "
                f"{config.balance}"
            )
        weights = np.array([config.balance.get(name, 0.0) for name in names])
    elif config.balance in ("uniform", "adaptive"):
        weights = np.ones(len(names))
    else:
        weights = np.array(class_weights_from_counts(counts.tolist(), config.balance))
    weights = np.where(counts > 0, weights, 0.0)
    if not config.include_background:
        weights[0] = 0.0
    total = weights.sum()
    return weights / total if total > 0 else weights


class PatchDataset(Dataset[Sample]):
    """Patches of cached cases, indexed by ``epoch * length + position``.

    A sample is a dict with

    - ``image`` (C, *P) float32,
    - ``label`` (1, *P) int16, the class of each voxel, -1 if ignored,
    - ``class_counts`` (K + 1) int64, voxels of each class in the label patch,
    - ``soft`` (K, *P) float32, if the cases have probabilities,
    - ``objects`` (1, *P) int32 and ``maps`` (G, *P) float32, if objects are separated,
    - ``prompts`` and what else :class:`PromptSamples` adds, with a label of one object, if there are prompts,
    - ``annotated`` (K,) bool, if some cases are only partially annotated,
    - ``view`` (C, *P) float32, if ``two_views``: the image with other random intensities.

    Args:
        cases: the training cases.
        plan: determines the case and the class of each sample.
        augment: augmentation.
        length: samples per epoch.
        slices: if given, the patches are 2D and cut from volumes whose first axis runs through the slices.
        lateral_pairs: left and right labels, exchanged in mirror images.

    Attributes:
        patch_size: size of the patches; those of a training that grows them change between epochs.
        transforms: transforms of the user's own, applied after the augmentation.
        two_views: whether intensities are drawn twice for each patch.
        masks: masks of an earlier segmentation, which the image has as further channels; None without.
        objects: makes the targets of objects; None if they are not separated.
        prompts: makes samples of one object and a prompt; None if the network answers no prompts.
        defer_intensity: leave out the intensity transforms; the sample then has the state of its random
            generator (:data:`GENERATOR`), from which they can be applied later.
    """

    def __init__(
        self,
        cases: list[CachedCase],
        plan: PatchPlan,
        augment: AugmentConfig,
        length: int,
        slices: SliceConfig | None = None,
        lateral_pairs: LateralSwap | None = None,
    ) -> None:
        self.slices = slices
        self.lateral_pairs = lateral_pairs
        self.tracker: CaseTracker | None = None
        self.transforms: tuple[SampleTransform, ...] = ()
        self.two_views = False
        self.masks: MaskChannels | None = None
        self.objects: ObjectTargets | None = None
        self.prompts: PromptSamples | None = None
        self.defer_intensity = False
        self.partial = any(case.annotated for case in cases)
        self.soft = any(case.has_probabilities for case in cases)
        self.cases = cases
        self.plan = plan
        self.length = length
        self.patch_size = plan.config.patch_size
        self.augmenter = Augmenter(
            augment, len(self.patch_size), rgb=slices is None and len(self.patch_size) == 2
        )

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at an address.

        Raises:
            DataError: if the case cannot be read from the cache.
        """
        epoch, position = divmod(index, self.length)
        draw = self.plan.draw(epoch, position)
        if self.tracker is not None:
            self.tracker.begin(draw.case)
        with single_threaded():
            sample = self._prepare(draw)
            cutmix = self.augmenter.config.cutmix
            if cutmix.probability > 0 and draw.rng.random() < cutmix.probability:
                other = self.plan.draw(epoch, int(draw.rng.integers(self.length)))
                box = draw_box(self.patch_size, cutmix, draw.rng)
                sample = paste_box(sample, self._prepare(other), box)
            if self.transforms:
                sample = apply_transforms(sample, self.transforms, draw.rng)
            spacing = self.cases[draw.case].spacing[-len(self.patch_size) :]
            if self.objects is not None:
                sample = self.objects.add_maps(sample, spacing)
            if self.prompts is not None:
                sample = self.prompts.prepare(sample, draw.class_index, spacing, draw.rng.spawn(1)[0])
            sample[CLASS_COUNTS] = torch.bincount(
                sample["label"].ravel() + 1, minlength=len(self.plan.names) + 1
            )
        if self.tracker is not None:
            self.tracker.end()
        return sample

    def _prepare(self, draw: Draw) -> Sample:
        try:
            return self._sample(draw)
        except (OSError, ValueError) as error:  # the cache was changed or removed during the training
            case = self.cases[draw.case].id
            raise DataError(
                f"case {case}: cannot be read from the cache ({error})",
                hint="Start the training again with --resume auto, which prepares the case again.",
                case=case,
            ) from error

    def _sample(self, draw: Draw) -> Sample:
        case = self.cases[draw.case]
        transform = self.augmenter.draw_transform(
            draw.rng, case.spacing[-len(self.patch_size) :], self.patch_size
        )
        origin = self._origin(case, draw)
        size = transform.source_size(self.patch_size)
        image = torch.from_numpy(self._cut(case.image, origin, size, self._neighbors))
        codes = self._cut(case.label[None], origin, size)
        if self.masks is not None:
            codes = pack_codes(codes, self._cut(case.masks[None], origin, size))
        elif self.objects is not None:
            codes = pack_objects(codes, self._cut(case.objects[None], origin, size))
        codes = torch.from_numpy(codes if codes.dtype in (np.uint8, np.int32) else codes.astype(np.int16))
        soft = None
        if self.soft:
            soft = torch.from_numpy(self._cut(case.probabilities, origin, size).astype(np.float32))
            image = torch.cat([image, soft])  # transformed like the image, by linear interpolation
        image, codes = self.augmenter.apply_spatial(image, codes, transform, self.patch_size)
        mask_codes, objects = None, None
        if self.masks is not None:
            label_codes, mask_codes = unpack_codes(codes.numpy())
            codes = torch.from_numpy(label_codes)
        elif self.objects is not None:
            label_codes, objects = unpack_objects(codes.numpy())
            codes = torch.from_numpy(label_codes)
        sample = {"label": codes.to(torch.int16).contiguous() - 1}
        if objects is not None:
            sample[OBJECTS] = torch.from_numpy(objects).contiguous()
        if soft is not None:
            sample["soft"] = image[-len(soft) :].contiguous()
            image = image[: -len(soft)]
        if self.partial:
            sample["annotated"] = torch.tensor(case.annotated or (True,) * self._annotated_channels)
        if self.lateral_pairs is not None and transform.is_mirror:
            sample = self.lateral_pairs.swap(sample)
        views = self._draw_intensities(image, sample["label"][0] > 0, draw.rng)
        if self.masks is not None and mask_codes is not None:
            mask_codes = self.masks.mirror(mask_codes) if transform.is_mirror else mask_codes
            own = draw.rng.spawn(1)[0]  # does not change the draws of the rest
            views["image"] = self.masks.add_to(views["image"], mask_codes[0], case.spacing, own)
        return {**views, **sample}

    def _draw_intensities(
        self, image: torch.Tensor, foreground: torch.Tensor, rng: np.random.Generator
    ) -> Sample:
        """Apply the intensity transforms to an image, or prepare that they are applied later."""
        if self.defer_intensity:
            return {"image": image, GENERATOR: pack_generator(rng)}
        style = self._style_patch(rng) if self.augmenter.draws_style(rng) else None
        views = {"image": self.augmenter.apply_intensity(image, rng, style, foreground)}
        if self.two_views:
            views[VIEW] = self.augmenter.apply_intensity(image, rng, None, foreground)
        return views

    def _style_patch(self, rng: np.random.Generator) -> torch.Tensor:
        """Draw a patch (C, *P) of any case, whose intensities are mixed into a sample."""
        index = int(rng.integers(len(self.cases)))
        origin = self._origin(self.cases[index], Draw(index, None, rng))
        return torch.from_numpy(self._cut(self.cases[index].image, origin, self.patch_size, self._neighbors))

    @property
    def _neighbors(self) -> int:
        """Number of adjacent slices on either side that are added as channels."""
        return self.slices.neighbors if self.slices is not None else 0

    @property
    def _annotated_channels(self) -> int:
        """Number of channels of the logits, from the partially annotated cases."""
        return max(len(case.annotated) for case in self.cases)

    def _cut(self, array: Voxels, origin: tuple[int, ...], size: tuple[int, ...], neighbors: int = 0) -> Array:
        """Crop (C, *R) around a patch; from a volume of slices, the slice and its neighbors as channels."""
        if self.slices is None:
            return crop(array, origin, self.patch_size, size, self.plan.config.border)
        near = range(origin[0] - neighbors, origin[0] + neighbors + 1)
        planes = [array[:, min(max(i, 0), array.shape[1] - 1)] for i in near]
        border = self.plan.config.border
        return np.concatenate([crop(plane, origin[1:], self.patch_size, size, border) for plane in planes])

    def __len__(self) -> int:
        """Number of samples per epoch."""
        return self.length

    def _origin(self, case: CachedCase, draw: Draw) -> tuple[int, ...]:
        """Draw the first voxel of the patch; its central half contains the drawn voxel, if there is one."""
        voxel = None if draw.class_index is None else case.draw_voxel(draw.class_index, draw.rng)
        origin: list[int] = []
        box = self.patch_size if self.slices is None else (1, *self.patch_size)
        for axis, (size, patch) in enumerate(zip(case.shape, box, strict=True)):
            if size <= patch:
                origin.append(-((patch - size) // 2))
                continue
            low, high = 0, size - patch
            if voxel is not None:
                margin = patch // 4
                low = min(max(voxel[axis] - (patch - 1 - margin), 0), high)
                high = max(min(voxel[axis] - margin, high), low)
            origin.append(int(draw.rng.integers(low, high + 1)))
        return tuple(origin)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute with one thread, as worker processes do: sums over several threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
