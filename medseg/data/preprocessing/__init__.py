"""Preprocessing: orientation, resampling and intensity normalization, and the way back to the scan's grid.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.data.preprocessing.modality import channel_names, is_ct
    from medseg.data.preprocessing.normalization import (
        CT,
        ImageNet,
        NormalizeConfig,
        Percentile,
        Range,
        ZScore,
        ZScoreNonzero,
    )
    from medseg.data.preprocessing.pipeline import (
        PreparedImage,
        PreprocessConfig,
        SliceConfig,
        prepare_image,
        prepare_label_map,
        prepare_probabilities,
        resample,
        restore_orientation,
    )

__all__ = [
    "CT",
    "ImageNet",
    "NormalizeConfig",
    "Percentile",
    "PreparedImage",
    "PreprocessConfig",
    "Range",
    "SliceConfig",
    "ZScore",
    "ZScoreNonzero",
    "channel_names",
    "is_ct",
    "prepare_image",
    "prepare_label_map",
    "prepare_probabilities",
    "resample",
    "restore_orientation",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.data.preprocessing.modality": ("channel_names", "is_ct"),
        "medseg.data.preprocessing.normalization": (
            "CT",
            "ImageNet",
            "NormalizeConfig",
            "Percentile",
            "Range",
            "ZScore",
            "ZScoreNonzero",
        ),
        "medseg.data.preprocessing.pipeline": (
            "PreparedImage",
            "PreprocessConfig",
            "SliceConfig",
            "prepare_image",
            "prepare_label_map",
            "prepare_probabilities",
            "resample",
            "restore_orientation",
        ),
    },
)
