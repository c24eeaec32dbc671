"""What a network is asked to do: the few facts that every architecture is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["softmax", "sigmoid"]

IGNORE_INDEX = -1  # the label of a voxel that counts nowhere: in no loss and in no metric


@dataclass(frozen=True)
class Task:
    """The shape of a segmentation problem.

    Attributes:
        spatial_dims: 2 for pictures, 3 for volumes.
        in_channels: channels of the image, C in (B, C, *S).
        num_classes: channels of the logits, K in (B, K, *S). With ``softmax`` these are the classes,
            background included; with ``sigmoid`` the regions, which may overlap.
        activation: how logits become probabilities.
        background: whether class 0 is background rather than something to be found (softmax).
    """

    spatial_dims: Literal[2, 3]
    in_channels: int
    num_classes: int
    activation: Activation = "softmax"
    background: bool = True
