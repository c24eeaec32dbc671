"""The segmentation task: the properties that every architecture is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["softmax", "sigmoid"]

IGNORE_INDEX = -1
"""Label of voxels that are excluded from losses and metrics."""


@dataclass(frozen=True)
class Task:
    """Dimensions and classes of a segmentation problem.

    Attributes:
        spatial_dims: 2 for pictures, 3 for volumes.
        in_channels: channels of the image, C in (B, C, *S).
        num_classes: channels of the logits, K in (B, K, *S): with ``softmax`` the classes, background
            included; with ``sigmoid`` the regions, which may overlap.
        activation: how logits become probabilities.
        background: whether class 0 is background (softmax only).

    Example:
        >>> Task(spatial_dims=3, in_channels=1, num_classes=2).activation
        'softmax'
    """

    spatial_dims: Literal[2, 3]
    in_channels: int
    num_classes: int
    activation: Activation = "softmax"
    background: bool = True
