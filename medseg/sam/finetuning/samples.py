"""Objects of labeled slices, and the prompts that a training draws from them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.curation.splits import AutoSplit
from medseg.data.io import read_image
from medseg.data.labels.label_plan import LabelPlan, plan_labels
from medseg.data.layouts import find_dataset
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.instances.label_maps import split_components
from medseg.sam.finetuning.options import FinetuneOptions
from medseg.sam.network import Embedding
from medseg.sam.pictures import Frame
from medseg.sam.session import Sam
from medseg.sam.slice_predictor import SlicePredictor, deepest_point
from medseg.sam.slicing import PlanePrompts, Slicing

Mask = NDArray[np.bool_]

IGNORED = 2**16 - 1
"""Number of pixels that the dataset ignores."""


@dataclass(frozen=True, eq=False)
class LabeledSlice:
    """A slice with labels.

    Attributes:
        case: its case.
        index: the slice.
        key: of its embedding.
        frame: its place in the network's input.
        packed: (H, W) numbers of the objects, 0 for none, and ``IGNORED``; compressed, because a dataset has
            many slices.
        count: number of objects.
    """

    case: Case
    index: int
    key: str
    frame: Frame
    packed: bytes
    count: int

    def mask(self, number: int) -> Mask:
        """Return the mask (H, W) of an object; numbers begin with 1."""
        return self._labels() == number

    def ignored(self) -> Mask:
        """Return the pixels (H, W) that the dataset ignores; they count neither in the loss nor in Dice."""
        return self._labels() == IGNORED

    def _labels(self) -> NDArray[np.uint16]:
        return np.frombuffer(zlib.decompress(self.packed), np.uint16).reshape(self.frame.shape)


class LabeledSlices:
    """The labeled slices of a dataset.

    Args:
        data: dataset folder or manifest.
        sam: the model; it shows and embeds the slices.
        options: which slices and objects are used.

    Attributes:
        train, val: ids of the cases of each part.

    Raises:
        DataError: the dataset has no labels or only one case.
    """

    def __init__(self, data: Path, sam: Sam, options: FinetuneOptions) -> None:
        cases = [case for case in find_dataset(data).labeled().checked().cases if case.label_files]
        self._plan: LabelPlan = plan_labels(cases, folder=data)
        self._sam = sam
        self._options = options
        split = AutoSplit(val=options.val, test=0, seed=options.seed).assign(cases)
        self._cases = {case.id: case for case in cases}
        self.train, self.val = (
            sorted(name for name, part in split.items() if part == wanted) for wanted in ("train", "val")
        )
        if not self.train or not self.val:
            raise DataError(
                f"{data}: {len(self.train)} cases to train and {len(self.val)} to validate on, expected at "
                "least one each",
                hint="Label at least two cases.",
                path=data,
            )

    def of_case(self, name: str) -> Iterator[LabeledSlice]:
        """Yield the labeled slices of a case, and compute their embeddings."""
        case = self._cases[name]
        scan = read_image(case)
        found = self._plan.reader.read(case, scan)
        assert found is not None
        predictor = self._predictor(scan)
        slicing = predictor.colors.slicing
        values = found.values if found.objects is None else found.objects
        schema = self._plan.schema
        ignored = np.zeros(values.shape, bool)
        if schema is not None and schema.ignore_value is not None:
            ignored = found.values == schema.ignore_value
        values = np.where(np.isin(values, self._background()) | ignored, 0, values)
        labeled = [i for i in range(len(slicing)) if slicing.view(values, i).any()]
        step = max(1, len(labeled) / self._options.slices)
        for place in range(min(len(labeled), self._options.slices)):
            index = labeled[int(place * step)]
            labels, count = _number_objects(slicing.view(values, index), self._options)
            if count:
                predictor.embedding(index)
                labels[slicing.view(ignored, index)] = IGNORED
                packed = zlib.compress(labels.tobytes(), level=1)
                yield LabeledSlice(case, index, predictor.key(index), predictor.frame, packed, count)

    def embedding(self, labeled: LabeledSlice) -> Embedding:
        """Return the embedding of a slice; it is computed anew if the store no longer has it."""
        return self._sam.store.get(
            labeled.key, lambda: self._predictor(read_image(labeled.case)).compute(labeled.index)
        )

    def _predictor(self, scan: Scan) -> SlicePredictor:
        picture = len(scan.grid.shape) == 2
        axis = self._sam.options.axis
        slicing = Slicing(scan.grid.shape) if picture else Slicing.of_volume(scan.grid, axis)
        return self._sam.predictor(scan, slicing)

    def _background(self) -> list[int]:
        """Return the values that are no objects."""
        schema = self._plan.schema
        if schema is None:
            return [0]
        return [*next(iter(schema.names.values()))] if schema.background else []


def draw_prompts(mask: Mask, kind: str, rng: np.random.Generator, jitter: float = 0.0) -> PlanePrompts:
    """Draw a prompt for an object.

    Args:
        mask: (H, W), not empty.
        kind: ``box`` or ``point``.
        rng: source of randomness.
        jitter: standard deviation of a box's sides, as a share of its size; with 0 the point is the one
            farthest from the border of the object, else any of its pixels.
    """
    if kind == "point":
        pixels = np.argwhere(mask) if jitter else deepest_point(mask)[None]
        place = pixels[rng.integers(len(pixels))][None].astype(np.float64)
        return PlanePrompts(place, np.ones(1, bool))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([rows[0], columns[0], rows[-1], columns[-1]], np.float64)
    size = np.tile(box[2:] - box[:2] + 1, 2)
    moved = box + rng.normal(0, 1, 4) * size * jitter
    limits = np.tile(np.array(mask.shape) - 1, 2)
    moved = np.clip(moved, 0, limits)
    return PlanePrompts(np.empty((0, 2)), np.empty(0, bool), box=np.sort(moved.reshape(2, 2), axis=0).ravel())


def _number_objects(values: NDArray[np.integer], options: FinetuneOptions) -> tuple[NDArray[np.uint16], int]:
    """Return the objects of a slice, numbered from 1, and their number."""
    if options.objects == "components":
        values = split_components(values)[0]
    numbers, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    kept = (numbers != 0) & (counts >= options.min_pixels)
    table = np.where(kept, np.cumsum(kept), 0).astype(np.uint16)
    return table[inverse].reshape(values.shape), int(kept.sum())
