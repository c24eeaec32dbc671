"""A stand-in for a SAM: it segments the bright region that a prompt touches."""

import numpy as np
import torch
from scipy import ndimage

from medseg.sam.network import Embedding, EncodedPrompts, MaskLogits


class BrightRegions:
    """Segments connected bright regions; a prompt of a mask alone returns the bright part of the mask.

    The predicted intersection over union is that of the region and the prompted box, or 0.95 without a box.
    """

    image_size = mask_size = 64
    preprocessing = "sam2"
    encoder_digest = "0" * 64
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.embedded = 0
        self.prompts: list[EncodedPrompts] = []

    def embed(self, pixels: torch.Tensor) -> Embedding:
        """Return the gray values."""
        self.embedded += 1
        return (pixels.mean(dim=1, keepdim=True),)

    def decode(self, embedding: Embedding, prompts: EncodedPrompts, *, multimask: bool) -> MaskLogits:
        """Return the region of each prompt; of three masks, the middle one is best."""
        self.prompts.append(prompts)
        bright = embedding[0][0, 0].numpy() > 0
        regions = ndimage.label(bright)[0]
        masks, scores = [], []
        for index in range(prompts.count):
            mask, score = self._region(regions, prompts, index)
            masks.append(torch.from_numpy(np.where(mask, 8.0, -8.0).astype(np.float32)))
            scores.append(score)
        logits, iou = torch.stack(masks)[:, None], torch.tensor(scores)[:, None]
        if multimask:
            logits, iou = torch.cat([-logits, logits, -logits], 1), torch.cat([iou / 2, iou, iou / 2], 1)
        return MaskLogits(logits, iou)

    def _region(self, regions, prompts: EncodedPrompts, index: int):
        mask = np.zeros(regions.shape, bool)
        score = 0.95
        if prompts.masks is not None:
            mask |= prompts.masks[index, 0].numpy() > 0
        if prompts.boxes is not None:
            left, top, right, bottom = np.rint(prompts.boxes[index].numpy()).astype(int)
            inside = np.zeros_like(mask)
            inside[top : bottom + 1, left : right + 1] = True
            mask |= inside
            region = np.isin(regions, np.unique(regions[inside])) & (regions > 0)
            score = (region & inside).sum() / max((region | inside).sum(), 1)
        for row in range(0 if prompts.points is None else prompts.points.shape[1]):
            x, y = np.clip(np.rint(prompts.points[index, row].numpy()).astype(int), 0, 63)
            same = regions == regions[y, x]
            mask = mask | same if prompts.labels[index, row] == 1 else mask & ~same
        return mask & (regions > 0), float(score)
