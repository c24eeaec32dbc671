"""Options of a cascade."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from medseg.config.base import Spec
from medseg.data.augmentation.mask_corruption import MaskAugmentConfig
from medseg.data.preprocessing.pipeline import Spacing
from medseg.models import ModelConfig


def _default_name(block: Any) -> Any:
    """Name a network without a name as that of a configuration without one."""
    return {"name": "unet", **block} if isinstance(block, dict) else block


_Voxels = Annotated[int, Field(gt=0)]


class CascadeConfig(Spec):
    """A first stage at low resolution; all other settings are those of the second stage.

    The first stage segments the whole scan at a coarse spacing. The second stage receives the result as one
    further input channel for each label. The segmentations of the training cases come from networks that were
    not trained on them (out of fold).

    Attributes:
        spacing: spacing of the first stage, mm.
        patch_size: voxels along each axis of its patches.
        model: its network; by default as that of the second stage.
        batch_size: patches in a batch; by default as in the second stage.
        epochs: epochs of each of its networks; by default as in the second stage.
        folds: number of networks of the first stage. Each is trained without a part of the training cases, and
            segments that part; new scans get the mean of all networks. With 1, a single network is trained on
            all training cases and also segments them: less time, but its results on them are better than on
            new scans.
        share: share of ``train.budget`` that the first stage may take, with its segmentations of the cases.
        masks: how the segmentations are made less reliable in training.
    """

    spacing: tuple[Spacing, Spacing, Spacing]
    patch_size: tuple[_Voxels, _Voxels, _Voxels]
    model: Annotated[ModelConfig | None, BeforeValidator(_default_name)] = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    folds: int = Field(default=2, ge=1, le=10)
    share: float = Field(default=0.4, gt=0, lt=1)
    masks: MaskAugmentConfig = MaskAugmentConfig()
