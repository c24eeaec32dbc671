"""Random augmentation of training patches.

``options`` has the settings, ``presets`` useful values, and ``pipeline`` the :class:`Augmenter`, which draws
and applies them. ``spatial`` draws flips, affine maps and elastic displacement, which ``resampling`` applies in
one pass; ``intensity``, ``color`` and ``mixing`` hold the other transforms, on top of ``fields`` and
``filters``.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.data.augmentation.options import AugmentConfig
    from medseg.data.augmentation.pipeline import Augmenter
    from medseg.data.augmentation.presets import augmentation_preset
    from medseg.data.augmentation.spatial import SpatialTransform

__all__ = ["AugmentConfig", "Augmenter", "SpatialTransform", "augmentation_preset"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.data.augmentation.options": ("AugmentConfig",),
        "medseg.data.augmentation.pipeline": ("Augmenter",),
        "medseg.data.augmentation.presets": ("augmentation_preset",),
        "medseg.data.augmentation.spatial": ("SpatialTransform",),
    },
)
