"""Training samples: augmented patches. Every draw follows from (seed, epoch, position) alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Dataset

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
from medseg.data.loading.sampling.patch_sampler import Draw, PatchSampler, draw_origin
from medseg.data.loading.sampling.prompt_samples import PromptSamples
from medseg.data.loading.sampling.user_transforms import SampleTransform, apply_transforms
from medseg.data.loading.workers import CaseTracker, Sample
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.errors import DataError
from medseg.geometry import Array

GENERATOR = "generator"
"""Key of a sample: state of its random generator before the intensity transforms, if those are left out."""

CLASS_COUNTS = "class_counts"
"""Key of a sample: (K + 1) int64, voxels of each class in the label patch; entry 0 counts ignored voxels."""


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
        sampler: determines the case and the class of each sample.
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
        sampler: PatchSampler,
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
        self.sampler = sampler
        self.length = length
        self.patch_size = sampler.config.patch_size
        self.augmenter = Augmenter(
            augment, len(self.patch_size), rgb=slices is None and len(self.patch_size) == 2
        )

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at an address.

        Raises:
            DataError: if the case cannot be read from the cache.
        """
        epoch, position = divmod(index, self.length)
        draw = self.sampler.draw(epoch, position)
        if self.tracker is not None:
            self.tracker.begin(draw.case)
        with single_threaded():
            sample = self._sample(draw)
            cutmix = self.augmenter.config.cutmix
            if cutmix.probability > 0 and draw.rng.random() < cutmix.probability:
                other = self.sampler.draw(epoch, int(draw.rng.integers(self.length)))
                box = draw_box(self.patch_size, cutmix, draw.rng)
                sample = paste_box(sample, self._sample(other), box)
            if self.transforms:
                sample = apply_transforms(sample, self.transforms, draw.rng)
            spacing = self.cases[draw.case].spacing[-len(self.patch_size) :]
            if self.objects is not None:
                sample = self.objects.add_maps(sample, spacing)
            if self.prompts is not None:
                sample = self.prompts.prepare(sample, draw.class_index, spacing, draw.rng.spawn(1)[0])
            sample[CLASS_COUNTS] = torch.bincount(
                sample["label"].ravel() + 1, minlength=len(self.sampler.names) + 1
            )
        if self.tracker is not None:
            self.tracker.end()
        return sample

    def _sample(self, draw: Draw) -> Sample:
        case = self.cases[draw.case]
        transform = self.augmenter.draw_transform(
            draw.rng, case.spacing[-len(self.patch_size) :], self.patch_size
        )
        size = transform.source_size(self.patch_size)
        soft = None
        with _reading(case):
            origin = draw_origin(case, draw, self._box())
            image = torch.from_numpy(self._cut(case.image, origin, size, self._neighbors))
            codes = self._cut(case.label[None], origin, size)
            if self.masks is not None:
                codes = pack_codes(codes, self._cut(case.masks[None], origin, size))
            elif self.objects is not None:
                codes = pack_objects(codes, self._cut(case.objects[None], origin, size))
            if self.soft:
                soft = torch.from_numpy(self._cut(case.probabilities, origin, size).astype(np.float32))
        codes = torch.from_numpy(codes if codes.dtype in (np.uint8, np.int32) else codes.astype(np.int16))
        if soft is not None:
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
        case = self.cases[index]
        with _reading(case):
            origin = draw_origin(case, Draw(index, None, rng), self._box())
            return torch.from_numpy(self._cut(case.image, origin, self.patch_size, self._neighbors))

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
            return crop(array, origin, self.patch_size, size, self.sampler.config.border)
        near = range(origin[0] - neighbors, origin[0] + neighbors + 1)
        planes = [array[:, min(max(i, 0), array.shape[1] - 1)] for i in near]
        border = self.sampler.config.border
        return np.concatenate([crop(plane, origin[1:], self.patch_size, size, border) for plane in planes])

    def _box(self) -> tuple[int, ...]:
        """Size of the patches along each axis of a case."""
        return self.patch_size if self.slices is None else (1, *self.patch_size)

    def __len__(self) -> int:
        """Number of samples per epoch."""
        return self.length


@contextmanager
def _reading(case: CachedCase) -> Iterator[None]:
    """Convert errors of reading a case: the cache was changed or removed during the training."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(
            f"case {case.id}: cannot be read from the cache ({error})",
            hint="Start the training again with --resume auto, which prepares the case again.",
            case=case.id,
        ) from error


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute with one thread, as worker processes do: sums over several threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
