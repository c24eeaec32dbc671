"""Automatic masks: a SAM prompted with a grid of points, as instances."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.data.scans import Scan, array_dims
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.instances import Instances
from medseg.models.detection.nms import nms
from medseg.sam.network import EncodedPrompts
from medseg.sam.options import AutomaticOptions
from medseg.sam.pictures import Frame
from medseg.sam.session import Sam
from medseg.sam.slicing import Slicing

_PIXELS = 1 << 24
"""Pixels of the masks that are enlarged to the picture at once."""


def automatic_masks(sam: Sam, picture: Path | Array, options: AutomaticOptions | None = None) -> Instances:
    """Segment everything in a picture.

    Masks are proposed at each point of a grid, three for each point, and kept if the network predicts a high
    intersection over union and the mask is stable; duplicates are removed by non-maximum suppression.

    Args:
        sam: the model.
        picture: a file, or an array (H, W) or (C, H, W).
        options: the grid and the thresholds.

    Returns:
        The masks, of class 1, by decreasing score, the predicted intersection over union. They may overlap.

    Raises:
        DataError: the scan is a volume.
    """
    options = options or AutomaticOptions()
    spacing = (1.0,) * array_dims(picture) if isinstance(picture, np.ndarray) else None
    scan = sam.open(picture, spacing).scan
    if scan.kind != "picture":
        raise DataError(f"{scan.path}: automatic masks need a picture, got a volume of shape {scan.grid.shape}")
    masks, scores, boxes = _collect(_proposals(sam, scan, options))
    kept = nms(boxes, scores, options.nms) if len(boxes) else torch.empty(0, dtype=torch.long)
    chosen = [masks[index] for index in kept.tolist()]
    return Instances(
        scan.grid.shape,
        scan.grid.spacing,
        np.array([box for box, _ in chosen], np.int64).reshape(-1, 2, 2),
        tuple(_unpacked(mask, box) for box, mask in chosen),
        np.ones(len(chosen), np.int64),
        np.clip(scores[kept].numpy().astype(np.float64), 0, 1),
    )


def grid_points(side: int, shape: tuple[int, int]) -> Array:
    """Return the centers of side × side equal parts of a picture, (N, 2) rows and columns, row by row."""
    steps = (np.arange(side) + 0.5) / side
    rows, columns = np.meshgrid(steps * shape[0], steps * shape[1], indexing="ij")
    return np.stack([rows.ravel(), columns.ravel()], axis=1)


def stability(logits: torch.Tensor, offset: float) -> torch.Tensor:
    """Return the intersection over union of masks (..., H, W) above ``offset`` and ``-offset``."""
    inner = (logits > offset).sum(dim=(-2, -1))
    outer = (logits > -offset).sum(dim=(-2, -1))
    return inner / outer.clamp(min=1)


@torch.no_grad()
def _proposals(sam: Sam, scan: Scan, options: AutomaticOptions) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield masks (N, H, W) bool and their predicted values (N,) of each batch of points."""
    predictor = sam.predictor(scan, Slicing(scan.grid.shape))
    frame: Frame = predictor.frame
    embedding = predictor.embedding(0)
    points = frame.positions(grid_points(options.points, frame.shape))
    for batch in points.split(options.batch):
        labels = torch.ones(len(batch), 1, dtype=torch.long)
        result = sam.network.decode(embedding, EncodedPrompts(batch[:, None], labels), multimask=True)
        iou = result.iou.flatten().float().cpu()
        logits = result.logits.flatten(0, 1).float().cpu()
        good = iou > options.min_iou
        if not good.any():
            continue
        parts = max(1, _PIXELS // max(frame.shape[0] * frame.shape[1], frame.side**2))
        for part, values in zip(logits[good].split(parts), iou[good].split(parts), strict=True):
            full = frame.to_picture(part[None])[0]
            stable = stability(full, options.stability_offset) > options.min_stability
            yield full[stable] > 0, values[stable]


def _collect(
    proposals: Iterator[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[list[tuple[Array, bytes]], torch.Tensor, torch.Tensor]:
    """Crop masks to their boxes.

    Returns:
        Box and compressed cropped mask, predicted value, and box for suppression (first and last row and
        column) of each.
    """
    masks: list[tuple[Array, bytes]] = []
    scores: list[float] = []
    for found, values in proposals:
        for mask, value in zip(found.numpy(), values.tolist(), strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if not len(rows):
                continue
            box = np.array([[rows[0], rows[-1] + 1], [columns[0], columns[-1] + 1]])
            crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            masks.append((box, zlib.compress(np.packbits(crop).tobytes(), level=1)))
            scores.append(value)
    corners = [[box[0, 0], box[1, 0], box[0, 1] - 1, box[1, 1] - 1] for box, _ in masks]
    boxes = torch.tensor(np.array(corners, np.float32).reshape(-1, 4))
    return masks, torch.tensor(scores), boxes


def _unpacked(mask: bytes, box: Array) -> NDArray[np.bool_]:
    """Return the cropped mask of a box."""
    height, width = (int(stop - start) for start, stop in box)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(mask), np.uint8), count=height * width)
    return bits.reshape(height, width).astype(bool)
