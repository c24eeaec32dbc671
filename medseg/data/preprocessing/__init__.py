"""Preprocessing: orientation, resampling and intensity normalization, and the way back to the scan's grid.

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_HOME = {
    "CT": "medseg.data.preprocessing.normalization",
    "ImageNet": "medseg.data.preprocessing.normalization",
    "NormalizeConfig": "medseg.data.preprocessing.normalization",
    "Percentile": "medseg.data.preprocessing.normalization",
    "PreparedImage": "medseg.data.preprocessing.pipeline",
    "PreprocessConfig": "medseg.data.preprocessing.pipeline",
    "Range": "medseg.data.preprocessing.normalization",
    "SliceConfig": "medseg.data.preprocessing.pipeline",
    "ZScore": "medseg.data.preprocessing.normalization",
    "ZScoreNonzero": "medseg.data.preprocessing.normalization",
    "channel_names": "medseg.data.preprocessing.modality",
    "is_ct": "medseg.data.preprocessing.modality",
    "prepare_image": "medseg.data.preprocessing.pipeline",
    "prepare_label_map": "medseg.data.preprocessing.pipeline",
    "prepare_probabilities": "medseg.data.preprocessing.pipeline",
    "resample": "medseg.data.preprocessing.pipeline",
    "restore_orientation": "medseg.data.preprocessing.pipeline",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'medseg.data.preprocessing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
