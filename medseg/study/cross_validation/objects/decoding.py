"""Thresholds of decoding objects that are chosen on other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.inference.model.model_file import load_model
from medseg.instances.options import InstanceDecoding
from medseg.study.cross_validation.folder import FoldFolder


def read_decoding(fold: FoldFolder) -> InstanceDecoding:
    """Read the thresholds that the training of a fold chose on its held-out cases."""
    return load_model(fold.run.model)[0].inference.instances


def median_decoding(chosen: Sequence[InstanceDecoding]) -> InstanceDecoding:
    """Return the median of each threshold, and of slope and offset of the calibration.

    Example:
        >>> chosen = [InstanceDecoding(foreground=share) for share in (0.3, 0.4, 0.7)]
        >>> median_decoding(chosen).foreground
        0.4
    """
    values = [one.model_dump() for one in chosen]
    names = InstanceDecoding.model_fields
    middle = {name: np.median([one[name] for one in values], axis=0).tolist() for name in names}
    return InstanceDecoding.model_validate(middle)


def decoding_of_others(
    chosen: Mapping[int, InstanceDecoding], fold: int, default: InstanceDecoding
) -> InstanceDecoding:
    """Return the medians of the thresholds of all folds but one, whose cases then have no influence on them.

    Args:
        chosen: thresholds of each trained fold.
        fold: the fold that is left out.
        default: the thresholds if no other fold is trained.
    """
    others = [one for number, one in chosen.items() if number != fold]
    return median_decoding(others) if others else default
