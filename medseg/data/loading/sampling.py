"""Which patch comes next: every draw of a sample follows from (seed, epoch, position) alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from monai.data.dataloader import DataLoader
from pydantic import Field
from torch.utils.data import Dataset, Sampler

from medseg.class_weights import class_weights_from_counts
from medseg.config.base import Spec
from medseg.data.loading.augmentation import AugmentConfig, Augmenter
from medseg.data.loading.cache import CachedCase
from medseg.data.loading.compact_storage import CompactImage
from medseg.data.loading.workers import CaseTracker, supervise_batches
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array

Voxels = Array | CompactImage
Balance = Literal["uniform", "inverse", "sqrt", "effective", "adaptive"]

CLASS_COUNTS = "drawn"
"""Of a sample: (K + 1) int64 voxels of each class in its label patch; entry 0 is what is ignored."""

ADAPTIVE_FLOOR = 0.1
"""Weight of a class that is found perfectly, where one that is never found has 1."""


class SamplingConfig(Spec):
    """How patches are drawn.

    Attributes:
        patch_size: voxels along each axis of the preprocessed grid.
        forced_share: share of the patches that hold a drawn class; the others lie anywhere.
        balance: how often each class is drawn for those: ``uniform``, or by the inverse, the inverse square
            root or the effective number of its voxels, or a weight for each name. ``adaptive`` begins uniform
            and follows the validation: a class of Dice d weighs 1 - d, at least 0.1.
        include_background: whether the background is among the classes drawn.
    """

    patch_size: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=2, max_length=3)
    forced_share: float = Field(default=1 / 3, ge=0, le=1)
    balance: Balance | dict[str, float] = "uniform"
    include_background: bool = False


@dataclass(frozen=True)
class Draw:
    """Where one sample comes from: the case, the class it was drawn for (or none), and the random source."""

    case: int
    cls: int | None
    rng: np.random.Generator


class PatchPlan:
    """Decides case and class of each sample.

    In an epoch, positions forced to a class are spread evenly; each draws its class from the balance and
    then one of the cases that hold it, so cases with rare classes are seen more often. The other positions
    go through all cases in a new order each time round.
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
        self.holders = [
            np.array([i for i, case in enumerate(cases) if case.counts[k + 1]]) for k in range(len(names))
        ]

    @property
    def adaptive(self) -> bool:
        """Whether the classes drawn follow the validation."""
        return self.config.balance == "adaptive"

    def adapt(self, dice: Mapping[str, float]) -> None:
        """Draw classes by what the last validation found of them: weight 1 - Dice, at least a tenth.

        A class without a score (nobody holds it) counts as never found.
        """
        scores = [dice.get(name, math.nan) for name in self.names]
        weights = np.array([1.0 if math.isnan(d) else max(1 - d, ADAPTIVE_FLOOR) for d in scores])
        weights = weights * (self.class_probabilities > 0)
        if weights.any():
            self.class_probabilities = weights / weights.sum()

    def draw(self, epoch: int, position: int) -> Draw:
        """The draw of one position of one epoch."""
        rng = np.random.default_rng([self.seed, epoch, position])
        before, after = (int((position + i) * self.forced_share + 1e-9) for i in (0, 1))
        if after > before:
            cls = int(rng.choice(len(self.class_probabilities), p=self.class_probabilities))
            return Draw(int(rng.choice(self.holders[cls])), cls, rng)
        turn, place = divmod(position - before, self.count)
        order = np.random.default_rng([self.seed, epoch, turn, 1]).permutation(self.count)
        return Draw(int(order[place]), None, rng)


def class_probabilities(cases: list[CachedCase], names: tuple[str, ...], config: SamplingConfig) -> Array:
    """(K,) float64: how often each class is drawn; 0 for classes no case holds.

    Raises: ConfigError if ``balance`` names a label that does not exist or gives no positive weight.
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


@dataclass(frozen=True)
class LateralPairs:
    """Labels that are exchanged in a patch that has become a mirror image.

    Attributes:
        labels: for each label the one it becomes.
        channels: the same for each channel of the logits.
    """

    labels: tuple[int, ...]
    channels: tuple[int, ...]

    def exchanged(self, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A sample with its labels, soft labels and the channels known exchanged."""
        changed = dict(sample)
        table = torch.tensor((*self.labels, -1), dtype=sample["label"].dtype)
        changed["label"] = table[sample["label"].long()]  # -1, the last, stays -1
        for key in ("soft", "known"):
            if key in sample:
                changed[key] = sample[key][list(self.channels)]
        return changed


class PatchDataset(Dataset[dict[str, torch.Tensor]]):
    """Patches of cached cases, addressed by ``epoch * length + position``.

    A sample is ``image`` (C, *P) float32, ``label`` (1, *P) int16 classes, -1 ignored, and ``drawn`` (K + 1),
    the voxels of each class in it; ``soft`` (K, *P)
    float32 where the cases have probabilities; ``known`` (K) bool where some are annotated in part. With
    ``slices`` the patches are 2D, cut from volumes whose first axis goes through the slices.
    """

    def __init__(
        self,
        cases: list[CachedCase],
        plan: PatchPlan,
        augment: AugmentConfig,
        length: int,
        slices: SliceConfig | None = None,
        sides: LateralPairs | None = None,
    ) -> None:
        self.slices = slices
        self.sides = sides
        self.watch: CaseTracker | None = None
        self.partial = any(case.known for case in cases)
        self.soft = any(case.soft for case in cases)
        self.cases = cases
        self.plan = plan
        self.length = length
        self.patch_size = plan.config.patch_size
        self.augmenter = Augmenter(augment, len(self.patch_size))

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """The sample at one address."""
        draw = self.plan.draw(*divmod(index, self.length))
        if self.watch is not None:
            self.watch.begin(draw.case)
        with single_threaded():
            sample = self._prepare(draw)
        if self.watch is not None:
            self.watch.end()
        return sample

    def _prepare(self, draw: Draw) -> dict[str, torch.Tensor]:
        try:
            return self._sample(draw)
        except (OSError, ValueError) as error:  # a cache that was changed or taken away under way
            raise DataError(
                f"case {self.cases[draw.case].id}: cannot be read from the cache ({error}). Start the training "
                "again (--resume auto): the case is then prepared anew."
            ) from error

    def _sample(self, draw: Draw) -> dict[str, torch.Tensor]:
        case = self.cases[draw.case]
        motion = self.augmenter.draw_transform(draw.rng, case.spacing[-len(self.patch_size) :])
        origin = self._origin(case, draw)
        reach = motion.reach(self.patch_size)
        neighbors = self.slices.neighbors if self.slices is not None else 0
        image = torch.from_numpy(self._cut(case.image, origin, reach, neighbors))
        codes = torch.from_numpy(self._cut(case.label[None], origin, reach).astype(np.int16))
        soft = None
        if self.soft:
            soft = torch.from_numpy(self._cut(case.probabilities, origin, reach).astype(np.float32))
            image = torch.cat([image, soft])  # moved as the image is, by linear interpolation
        image, codes = self.augmenter.move(image, codes, motion, self.patch_size)
        sample = {"label": codes.contiguous() - 1}
        if soft is not None:
            sample["soft"] = image[-len(soft) :].contiguous()
            image = image[: -len(soft)]
        if self.partial:
            sample["known"] = torch.tensor(case.known or (True,) * self.channels_known)
        if self.sides is not None and motion.mirrors:
            sample = self.sides.exchanged(sample)
        sample[CLASS_COUNTS] = torch.bincount(sample["label"].ravel() + 1, minlength=len(self.plan.names) + 1)
        return {"image": self.augmenter.change(image, draw.rng), **sample}

    @property
    def channels_known(self) -> int:
        """Channels of the logits, as the cases annotated in part tell."""
        return max(len(case.known) for case in self.cases)

    def _cut(self, array: Voxels, origin: tuple[int, ...], reach: tuple[int, ...], neighbors: int = 0) -> Array:
        """Cut (C, *R) about a patch; of a volume of slices, the slice and its neighbors as channels."""
        if self.slices is None:
            return crop(array, origin, self.patch_size, reach)
        near = range(origin[0] - neighbors, origin[0] + neighbors + 1)
        planes = [array[:, min(max(i, 0), array.shape[1] - 1)] for i in near]
        return np.concatenate([crop(plane, origin[1:], self.patch_size, reach) for plane in planes])

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self.length

    def _origin(self, case: CachedCase, draw: Draw) -> tuple[int, ...]:
        """The first voxel of the patch: it holds the drawn voxel in its middle half, or lies anywhere."""
        voxel = None if draw.cls is None else case.draw_voxel(draw.cls, draw.rng)
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
    """Compute as a worker process does: sums over several threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def crop(array: Voxels, origin: tuple[int, ...], patch: tuple[int, ...], reach: tuple[int, ...]) -> Array:
    """Cut (C, *R) out of (C, *S): a region of size ``reach`` about the center of the patch at ``origin``.

    What lies outside the array is 0.
    """
    starts = [o + p // 2 - r // 2 for o, p, r in zip(origin, patch, reach, strict=True)]
    inside = tuple(
        slice(max(s, 0), max(min(s + r, n), 0)) for s, r, n in zip(starts, reach, array.shape[1:], strict=True)
    )
    piece = np.array(array[(slice(None), *inside)])
    if piece.shape[1:] == tuple(reach):
        return piece
    out = np.zeros((len(array), *reach), dtype=array.dtype)
    place = tuple(
        slice(i.start - s, i.start - s + n) for i, s, n in zip(inside, starts, piece.shape[1:], strict=True)
    )
    out[(slice(None), *place)] = piece
    return out


class AddressSampler(Sampler[list[int]]):
    """Batches of sample addresses from global batch ``start`` up to ``stop``."""

    def __init__(self, batch_size: int, start: int, stop: int) -> None:
        self.batch_size, self.start, self.stop = batch_size, start, stop

    def __iter__(self) -> Iterator[list[int]]:
        """Each batch's addresses, in order."""
        for batch in range(self.start, self.stop):
            yield list(range(batch * self.batch_size, (batch + 1) * self.batch_size))

    def __len__(self) -> int:
        """Batches left."""
        return self.stop - self.start


def patch_batches(
    dataset: PatchDataset,
    *,
    batch_size: int,
    start: int,
    stop: int,
    workers: int,
    timeout: float = 600.0,
    pin_memory: bool = False,
) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of :func:`patch_loader`; a worker that fails is reported with the case it held.

    Raises: DataError and TrainingError as :func:`medseg.data.loading.workers.supervise_batches`.
    """
    dataset.watch = CaseTracker(workers)
    loader = patch_loader(
        dataset, batch_size=batch_size, start=start, stop=stop, workers=workers, timeout=timeout,
        pin_memory=pin_memory,
    )  # fmt: skip
    return supervise_batches(iter(loader), dataset.watch, [case.id for case in dataset.cases], timeout=timeout)


def patch_loader(
    dataset: PatchDataset,
    *,
    batch_size: int,
    start: int,
    stop: int,
    workers: int,
    timeout: float = 0.0,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches ``start`` to ``stop`` (counted over the whole training) of a patch dataset.

    The global random state is neither read nor moved, so a training resumed at ``start`` sees the same.
    """
    options: dict[str, Any] = {"prefetch_factor": 4, "timeout": timeout} if workers else {}
    return DataLoader(
        dataset,
        batch_sampler=AddressSampler(batch_size, start, stop),
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
