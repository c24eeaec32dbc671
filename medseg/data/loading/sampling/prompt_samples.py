"""Training samples of a network that answers prompts: one object, and the first prompt for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medseg.data.augmentation.mask_corruption import MaskAugmentConfig, corrupt_masks
from medseg.data.augmentation.mask_corruption import MaskMorphologyConfig as Morphology
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.generator_state import pack_generator
from medseg.data.loading.sampling.intensity_regions import draw_region
from medseg.data.loading.sampling.object_targets import OBJECTS
from medseg.data.loading.workers import Sample
from medseg.geometry import Array
from medseg.prompts.encoding import draw_prompts, empty_channels, set_mask
from medseg.prompts.frame import Frame
from medseg.prompts.options import PromptTask
from medseg.prompts.prompts import Prompt, Scribble
from medseg.prompts.users import MixedUser, ScribbleUser, User, user_by_name

PROMPTS = "prompts"
"""Key of a sample: (7, *P) uint8, the channels of the prompts (:mod:`medseg.prompts.encoding`)."""
ROUNDS = "rounds"
"""Key of a sample: () int64, number of earlier prompts that correct what the network predicts."""
USER_STATE = "user_state"
"""Key of a sample: (40,) uint8, state of the random generator of the user who makes them."""

_PAIRS = 0.4
"""Share of the first scribbles that come with one on the background."""
_COARSE = 0.4
"""Share of the samples with a mask that have no prompt."""
_FAULTS = MaskAugmentConfig(morphology=Morphology(probability=0.8))


def build_user(task: PromptTask) -> User:
    """Build the simulated user of a training, who makes each prompt as one of ``task.users``."""
    return MixedUser(tuple(user_by_name(name) for name in task.users), tuple(task.users.values()))


@dataclass(frozen=True)
class PromptSamples:
    """Turns samples with labels into samples with one object and a prompt.

    Attributes:
        task: what is an object, and how users behave.
        labels: of the dataset.
            user: makes the prompts.
    """

    task: PromptTask
    labels: LabelSchema
    user: User

    def prepare(
        self, sample: Sample, wanted: int | None, spacing: tuple[float, ...], rng: np.random.Generator
    ) -> Sample:
        """Return a sample with the object as its label: 1, with 0 for all else and -1 for ignored voxels.

        Args:
            sample: with the ``label`` of all classes and, if they have numbers, ``objects``.
            wanted: class that is preferred.
            spacing: distance between the voxels, mm.
            rng: source of all random numbers.
        """
        classes = sample["label"][0].numpy()
        objects = sample[OBJECTS][0].numpy() if OBJECTS in sample else None
        if self.task.regions and rng.random() < self.task.regions:
            reference = draw_region(sample["image"].numpy(), classes >= 0, rng)
        else:
            reference = self.choose(classes, objects, wanted, rng)
        channels = empty_channels(classes.shape)
        rounds = 0
        if reference.any():
            prompts = self._first(reference, classes >= 0, channels, spacing, rng)
            draw_prompts(channels, prompts, Frame.of_array(classes.shape))
            rounds = self._draw_rounds(rng) if prompts else 0
        target = np.where(classes < 0, -1, reference).astype(np.int16)
        kept = {name: value for name, value in sample.items() if name not in ("soft", "annotated", OBJECTS)}
        return {
            **kept,
            "label": torch.from_numpy(target)[None],
            PROMPTS: torch.from_numpy(channels),
            ROUNDS: torch.tensor(rounds),
            USER_STATE: pack_generator(rng),
        }

    def _draw_rounds(self, rng: np.random.Generator) -> int:
        """Draw the number of earlier prompts."""
        if not self.task.interactions or rng.random() < self.task.first_only:
            return 0
        weights = 1 / np.arange(1, self.task.interactions + 1)
        return 1 + int(rng.choice(len(weights), p=weights / weights.sum()))

    def choose(
        self, classes: Array, objects: Array | None, wanted: int | None, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Choose the object (*P) of a patch; empty if the patch contains none.

        Args:
            classes: (*P), -1 for ignored voxels.
            objects: (*P) numbers of instances; None if objects are classes.
            wanted: class that is preferred.
            rng: source of all random numbers.
        """
        if objects is not None:
            numbers = np.unique(objects[objects > 0])
            return objects == (rng.choice(numbers) if numbers.size else -1)
        mask = self._choose_class(classes, wanted, rng)
        if self.task.objects == "components" and mask.any():
            parts = components(mask)
            return parts == rng.choice(parts[mask])
        return mask

    def _choose_class(self, classes: Array, wanted: int | None, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Choose a class, or a region that contains it, that is present."""
        first = self.labels.first_evaluated
        present = np.unique(classes)
        present = present[present >= first]
        if not present.size:
            return np.zeros(classes.shape, bool)
        index = wanted if wanted is not None and wanted in present else int(rng.choice(present))
        if not self.labels.regions:
            return classes == index
        table = self.labels.region_table
        holding = np.flatnonzero(table[:, index])
        members = table[rng.choice(holding)] if holding.size else np.arange(table.shape[1]) == index
        return members[np.maximum(classes, 0)] & (classes >= 0)

    def _first(
        self,
        reference: NDArray[np.bool_],
        known: NDArray[np.bool_],
        channels: Array,
        spacing: tuple[float, ...],
        rng: np.random.Generator,
    ) -> list[Prompt]:
        """Make the first prompt, or a pair of scribbles on the object and on the background.

        Sometimes the channels get a mask: a faulty one, which the prompt corrects, or a coarse one without a
        prompt, as in windows that refine the result of a zoomed out window. Ignored voxels, which are not
        ``known``, never belong to it.
        """
        if rng.random() < self.task.start_mask:
            if rng.random() < _COARSE:
                set_mask(channels, coarse_mask(reference, int(rng.integers(2, 5))) & known)
                return []
            faulty = (corrupt_masks(reference.astype(np.uint8), _FAULTS, spacing, rng) > 0) & known
            prompt = self.user.next(reference, faulty, rng)
            if prompt is not None:
                set_mask(channels, faulty)
                return [prompt]
        prompt = self.user.first(reference, rng)
        if isinstance(prompt, Scribble) and rng.random() < _PAIRS and not _fills_slices(reference):
            return [prompt, ScribbleUser().background(reference, rng)]
        return [prompt]


def _fills_slices(reference: NDArray[np.bool_]) -> bool:
    """Return whether an object fills a slice of the patch, so that its background cannot be scribbled on."""
    if reference.ndim == 2:
        return bool(reference.all())
    planes = [tuple(i for i in range(3) if i != axis) for axis in range(3)]
    return any(bool(reference.all(axis=plane).any()) for plane in planes)


def components(mask: NDArray[np.bool_]) -> Array:
    """Number the connected parts of a mask (*S), which touch by faces, edges or corners, from 1."""
    parts, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))  # pyright: ignore[reportGeneralTypeIssues]
    return parts


def coarse_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return a mask (*P) with voxels that are ``factor`` times larger.

    Example:
        >>> coarse_mask(np.array([[False, True, True, True]]), 2).tolist()
        [[True, True, True, True]]
    """
    centers = [np.minimum(np.arange(n) // factor * factor + factor // 2, n - 1) for n in mask.shape]
    return mask[np.ix_(*centers)]
