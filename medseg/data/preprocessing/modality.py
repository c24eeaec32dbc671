"""What the channels of a dataset's images are: declared by the dataset or its files, else by their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medseg.data.curation.case_statistics import CaseStatistics

_UNNAMED = re.compile(r"((channel|image|img|input|modality|unknown)?[ _-]?\d*)", re.IGNORECASE)
"""Names that say nothing of a channel: ``channel_0``, ``image``, ``0``."""
_CT = re.compile(r"ct|ct[ _-]?(scan|image)|computed[ _-]tomography|hounsfield.*|hu", re.IGNORECASE)
_LOWEST_HU = -500.0
"""A volume that is darker somewhere holds air in Hounsfield units: other scanners' values begin about 0."""


def channel_names(facts: Sequence[CaseStatistics]) -> list[str]:
    """What the channels are called: as declared, ``CT`` where it is CT, else ``channel_0``, ``channel_1``…"""
    channels = facts[0].channels
    declared = _declared(facts)
    if declared is not None and len(declared) == channels:
        plain = {name: "CT" for name in declared if _CT.fullmatch(name)}
        return [plain.get(name, name) or f"channel_{i}" for i, name in enumerate(declared)]
    if is_ct(facts):
        return ["CT"]
    return [f"channel_{i}" for i in range(channels)]


def is_ct(facts: Sequence[CaseStatistics]) -> bool:
    """Whether the images are computed tomography, in Hounsfield units.

    Every case that declares its channel declares CT; where none does, the lowest value of the median volume is
    below -500, as that of air is.
    """
    if any(fact.kind != "volume" or fact.channels != 1 for fact in facts):
        return False
    names = [fact.channel_names[0] for fact in facts if _named(fact)]
    if names:
        return all(_CT.fullmatch(name) for name in names)
    return float(np.median([fact.intensities[0] for fact in facts])) < _LOWEST_HU


def _declared(facts: Sequence[CaseStatistics]) -> tuple[str, ...] | None:
    """The names that the cases share; none where they have none, or several."""
    names = Counter(fact.channel_names for fact in facts if _named(fact))
    return next(iter(names)) if len(names) == 1 else None


def _named(fact: CaseStatistics) -> bool:
    return any(not _UNNAMED.fullmatch(name) for name in fact.channel_names)
