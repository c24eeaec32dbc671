"""Names of the channels of a dataset's images, as declared by the dataset or its files, or by their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medseg.data.curation.case_statistics import CaseStatistics

_GENERIC = re.compile(r"((channel|image|img|input|modality|unknown)?[ _-]?\d*)", re.IGNORECASE)
"""Names without information: ``channel_0``, ``image``, ``0``."""
_CT = re.compile(r"ct|ct[ _-]?(scan|image)|computed[ _-]tomography|hounsfield.*|hu", re.IGNORECASE)
_MR = re.compile(
    r"mri?|mri?[ _-].*|t[12]([ _*-].*|w.*|c.*|gd.*)?|flair|pd[w]?|dwi|adc|swi|magnetic.*", re.IGNORECASE
)
_OTHERS = re.compile(r"pt|pet|us|mg|cr|dx|xa|nm|opt|sm", re.IGNORECASE)
LOWEST_HU = -500.0
"""A volume with lower values contains air in Hounsfield units; other modalities start at about 0."""


def channel_names(cases: Sequence[CaseStatistics]) -> list[str]:
    """Determine the names of the channels.

    The declared names if the cases agree on them (``CT`` for any name of CT), ``CT`` if the values are
    Hounsfield units, otherwise ``channel_0``, ``channel_1``, ….
    """
    channels = cases[0].channels
    declared = _declared(cases)
    if declared is not None and len(declared) == channels:
        plain = {name: "CT" for name in declared if _CT.fullmatch(name)}
        return [plain.get(name, name) or f"channel_{i}" for i, name in enumerate(declared)]
    if is_ct(cases):
        return ["CT"]
    return [f"channel_{i}" for i in range(channels)]


def standard_modality(name: str | None) -> str | None:
    """Return the modality that the name of a channel declares, in DICOM's terms; None if it declares none.

    Example:
        >>> standard_modality("T1w"), standard_modality("ct_scan"), standard_modality("channel_0")
        ('MR', 'CT', None)
    """
    if name is None:
        return None
    if _CT.fullmatch(name):
        return "CT"
    if _MR.fullmatch(name):
        return "MR"
    if _OTHERS.fullmatch(name):
        return {"PET": "PT"}.get(name.upper(), name.upper())
    return None


def training_modality(cases: Sequence[CaseStatistics]) -> str | None:
    """Determine the modality of a dataset, in DICOM's terms; None if it is not known or the cases differ."""
    if is_ct(cases):
        return "CT"
    declared = {standard_modality(name) for case in cases for name in case.channel_names}
    return declared.pop() if len(declared) == 1 else None


def is_ct(cases: Sequence[CaseStatistics]) -> bool:
    """Whether the images are computed tomography in Hounsfield units.

    True if all cases that declare the name of their channel declare CT. If no case does, true if the median
    over the cases of the lowest value is below -500, as in air.
    """
    if any(case.kind != "volume" or case.channels != 1 for case in cases):
        return False
    names = [case.channel_names[0] for case in cases if _has_names(case)]
    if names:
        return all(_CT.fullmatch(name) for name in names)
    return float(np.median([case.intensities[0] for case in cases])) < LOWEST_HU


def _declared(cases: Sequence[CaseStatistics]) -> tuple[str, ...] | None:
    """The channel names that all cases with names share; None if there are none or they differ."""
    names = Counter(case.channel_names for case in cases if _has_names(case))
    return next(iter(names)) if len(names) == 1 else None


def _has_names(case: CaseStatistics) -> bool:
    return any(not _GENERIC.fullmatch(name) for name in case.channel_names)
