"""``SlicePredictor``: masks of single slices from prompts, and the mask of one slice from its neighbor's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from medseg.sam.embeddings import EmbeddingStore, embedding_key
from medseg.sam.network import Embedding, EncodedPrompts, MaskNetwork
from medseg.sam.options import PropagationOptions
from medseg.sam.pictures import Frame, prepare
from medseg.sam.slicing import PlanePrompts, SliceColors


@dataclass(frozen=True)
class SliceMask:
    """A mask of one slice.

    Attributes:
        mask: (H, W).
        logits: (1, M, M) of the network, which refine the next prompt; None for a mask that was given.
        iou: intersection over union that the network predicts.
    """

    mask: NDArray[np.bool_]
    logits: torch.Tensor | None = None
    iou: float = 1.0


class SlicePredictor:
    """Segments slices of one scan.

    Args:
        network: embeds slices and decodes prompts.
        colors: the slices.
        store: keeps embeddings.
    """

    def __init__(self, network: MaskNetwork, colors: SliceColors, store: EmbeddingStore) -> None:
        self.network = network
        self.colors = colors
        self.store = store
        self.frame = Frame(colors.slicing.plane, network.image_size, network.mask_size, network.preprocessing)

    @torch.no_grad()
    def predict(self, index: int, prompts: PlanePrompts, previous: SliceMask | None = None) -> SliceMask:
        """Segment one slice.

        One point on the object is ambiguous: of the three masks, the one with the highest predicted value is
        taken. Other prompts give one mask, as in the official code.

        Args:
            index: the slice.
            prompts: all prompts on it.
            previous: mask that the prompts refine.
        """
        single = len(prompts.points) == 1 and prompts.box is None and prompts.area is None and previous is None
        result = self.network.decode(
            self.embedding(index), encode_prompts(prompts, self.frame, previous), multimask=single
        ).best()
        logits = result.logits[0].float().cpu()
        mask = self.frame.to_picture(logits[None])[0, 0].numpy() > 0
        if prompts.excluded is not None:
            mask &= ~prompts.excluded
        return SliceMask(mask, logits, float(result.iou[0, 0]))

    def embedding(self, index: int) -> Embedding:
        """Return the embedding of a slice, from the store or computed."""
        return self.store.get(self.key(index), lambda: self.compute(index))

    def key(self, index: int) -> str:
        """Return the key of a slice's embedding."""
        return embedding_key(self.colors[index], self.network.encoder_digest, self.network.preprocessing)

    def compute(self, index: int) -> Embedding:
        """Compute the embedding of a slice."""
        return self.network.embed(prepare(self.colors[index], self.frame))


def encode_prompts(prompts: PlanePrompts, frame: Frame, previous: SliceMask | None = None) -> EncodedPrompts:
    """Convert the prompts on a slice, and the mask that they refine, to the network's frame."""
    points = labels = boxes = None
    if len(prompts.points):
        points = frame.positions(prompts.points)[None]
        labels = torch.from_numpy(prompts.positive.astype(np.int64))[None]
    if prompts.box is not None:
        boxes = frame.positions(prompts.box.reshape(2, 2)).reshape(1, 4)
    return EncodedPrompts(points, labels, boxes, _mask_prompt(prompts, frame, previous))


def propagate(
    predictor: SlicePredictor, start: SliceMask, indices: Iterable[int], options: PropagationOptions
) -> Iterator[tuple[int, SliceMask]]:
    """Segment the slices next to a segmented one, each prompted by its neighbor's mask.

    It stops at the first empty mask, and where the predicted intersection over union or the overlap with the
    neighbor's mask falls (``options``).

    Args:
        predictor: segments slices.
        start: mask of the slice before the first.
        indices: the slices, in order.
        options: prompts and thresholds.

    Yields:
        Slice and its mask.
    """
    previous = start
    least = max(options.min_iou, start.iou - options.max_drop) if start.logits is not None else options.min_iou
    for index in indices:
        if not previous.mask.any():
            return
        prompts = prompts_of_mask(previous.mask, options)
        found = predictor.predict(index, prompts, previous if options.mask else None)
        if not found.mask.any() or found.iou < least or _iou(found.mask, previous.mask) < options.min_overlap:
            return
        yield index, found
        previous = found


def prompts_of_mask(mask: NDArray[np.bool_], options: PropagationOptions) -> PlanePrompts:
    """Return the prompts that a mask (H, W), which is not empty, gives to the next slice."""
    prompts = PlanePrompts.none()
    if options.by != "points":
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = np.array([rows[0], columns[0], rows[-1], columns[-1]], np.float64)
        prompts = replace(prompts, box=box)
    if options.by != "box":
        points = deepest_point(mask)[None].astype(np.float64)
        prompts = replace(prompts, points=points, positive=np.ones(1, bool))
    return prompts


def deepest_point(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the position of a mask (H, W) that is farthest from what lies outside."""
    padded: Any = distance_transform_edt(np.pad(mask, 1))
    depth = padded[1:-1, 1:-1]
    return np.array(np.unravel_index(int(np.argmax(depth)), mask.shape), np.int64)


def _mask_prompt(prompts: PlanePrompts, frame: Frame, previous: SliceMask | None) -> torch.Tensor | None:
    """Return the mask prompt (1, 1, M, M): the previous logits, and what lassos add and leave out."""
    logits = None if previous is None else previous.logits
    if previous is not None and logits is None:
        logits = frame.mask_prompt(previous.mask)
    if prompts.area is not None:
        drawn = frame.mask_prompt(prompts.area)
        logits = drawn if logits is None else torch.maximum(logits, drawn)
    if prompts.excluded is not None and logits is not None:
        logits = torch.minimum(logits, -frame.mask_prompt(prompts.excluded))
    return None if logits is None else logits[None]


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(first & second)) / max(float(np.count_nonzero(first | second)), 1.0)
