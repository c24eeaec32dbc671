"""Settings of the training of a mask decoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medseg.config.base import Spec


class FinetuneOptions(Spec):
    """Settings of the training of a mask decoder.

    Attributes:
        epochs: passes over the training objects.
        lr: learning rate of AdamW, which falls to 0 along a cosine.
        weight_decay: of AdamW.
        batch: objects in an update.
        prompts: ``box``, ``point``, or ``mixed``, in turn with a probability of one half each.
        jitter: standard deviation of the displacement of a box's sides, as a share of its size.
        objects: ``components``: each connected region of a label in a slice is an object; ``values``: all
            voxels of a label in a slice are one.
        min_pixels: smaller objects are left out.
        slices: largest number of labeled slices of a volume, evenly spaced.
        per_slice: largest number of objects of a slice in an epoch.
        val: share of the cases that validate, unless the dataset declares parts.
        seed: of split, order and prompts.
    """

    epochs: int = Field(default=20, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    batch: int = Field(default=4, ge=1)
    prompts: Literal["box", "point", "mixed"] = "mixed"
    jitter: float = Field(default=0.05, ge=0)
    objects: Literal["components", "values"] = "components"
    min_pixels: int = Field(default=16, ge=1)
    slices: int = Field(default=32, ge=1)
    per_slice: int = Field(default=8, ge=1)
    val: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0
