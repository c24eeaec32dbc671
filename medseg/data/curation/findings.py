"""Findings about the images of a dataset and about its split."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.curation.duplicates import Duplicates
from medseg.errors import Finding


def duplicate_findings(
    copies: list[list[str]], parts: dict[str, str], duplicates: Duplicates
) -> Iterable[Finding]:
    """Yield groups of cases with the same image.

    They are a problem if ``duplicates`` makes training refuse them, or if they are in different parts.
    """
    hints = {
        "refuse": "keep one of each (--fix DIR does), or set data.duplicates=group",
        "group": "training keeps them in one part of the split; data.duplicates=drop or --fix DIR keep one",
        "drop": "training keeps one of them; --fix DIR does, too",
    }
    for ids in copies:
        leak = len({parts[i] for i in ids}) > 1
        split = " in different parts of the split" if leak else ""
        hint = hints[duplicates]
        if leak and duplicates != "drop":
            hint = "put them into one part; data.duplicates=drop or --fix DIR keep one"
        yield Finding(
            "problem" if duplicates == "refuse" or (leak and duplicates != "drop") else "note",
            "leak" if leak else "duplicate",
            ids[0],
            f"{len(ids)} cases have the same image{split}: {', '.join(ids)}",
            hint,
            tuple(ids),
        )


def leak_findings(cases: list[Case]) -> Iterable[Finding]:
    """Yield patients whose cases the dataset itself puts into several parts of the split."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        if case.patient is not None and case.part is not None:
            parts[case.patient].setdefault(case.part, case.id)
    for patient, by_part in parts.items():
        if len(by_part) > 1:
            shown = ", ".join(f"{case} in {part}" for part, case in sorted(by_part.items()))
            message = f"the patient has cases in several parts of the split: {shown}"
            yield Finding("problem", "leak", patient, message, "put all cases of a patient into one part")


def constant_image_findings(statistics: list[CaseStatistics]) -> Iterable[Finding]:
    """Yield images whose voxels all have the same value."""
    for case in statistics:
        low, high = case.intensities
        if low == high:
            message = f"every voxel of the image is {low:.4g}"
            hint = "check the image: there is nothing to learn from it"
            yield Finding("note", "intensity", case.id, message, hint)


def type_findings(statistics: list[CaseStatistics]) -> Iterable[Finding]:
    """Yield label maps that are stored as floats, and images of differing types."""
    floats = [c for c in statistics if (c.label_dtype or "").startswith("float") and c.label_counts]
    if floats and floats[0].label_dtype != "float":
        message = f"label map stored as {floats[0].label_dtype} but with whole numbers only"
        hint = "no action is needed; --fix DIR writes integers"
        yield Finding("note", "dtype", floats[0].id, message, hint, _group(floats))
    types = Counter(case.dtype for case in statistics)
    if len(types) > 1:
        rare, _ = min(types.items(), key=lambda pair: pair[1])
        of_type = [case for case in statistics if case.dtype == rare]
        message = f"image stored as {rare}; types of all images: {_counted(types)}"
        hint = "no action is needed: values are read with the header's scaling applied"
        yield Finding("note", "dtype", of_type[0].id, message, hint, _group(of_type))


def channel_findings(statistics: list[CaseStatistics]) -> Iterable[Finding]:
    """Yield cases whose image has another kind or number of channels than most."""
    kinds = Counter((c.kind, c.channels if c.kind == "volume" else 0) for c in statistics)
    if len(kinds) < 2:
        return
    usual = kinds.most_common(1)[0][0]
    channels = f" of {usual[1]} channels" if usual[1] else ""
    for case in statistics:
        if (case.kind, case.channels if case.kind == "volume" else 0) != usual:
            message = f"a {case.kind} of {case.channels} channels, most others are {usual[0]}s{channels}"
            hint = "keep the two kinds in two folders, or choose channels with data.modalities"
            yield Finding("problem", "channels", case.id, message, hint)


def intensity_findings(statistics: list[CaseStatistics]) -> Iterable[Finding]:
    """Yield cases whose foreground is brighter or darker than the usual by a factor beyond 100."""
    levels = {c.id: float(np.median(np.abs(c.foreground))) for c in statistics if c.foreground}
    positive = {case: level for case, level in levels.items() if level > 0}
    if len(positive) < 5:
        return
    usual = float(np.median(list(positive.values())))
    far = {case: level for case, level in positive.items() if abs(math.log10(level / usual)) > 2}
    if far:
        shown = ", ".join(f"{case} ({level:.4g})" for case, level in list(far.items())[:10])
        more = f" and {len(far) - 10} more" if len(far) > 10 else ""
        message = (
            "the median intensity of the labeled voxels (absolute values) differs from the dataset's usual "
            f"{usual:.4g} by a factor of more than 100: {shown}{more}"
        )
        hint = "use a normalization per scan (zscore, percentile) rather than ct or range"
        yield Finding("note", "intensity", next(iter(far)), message, hint, tuple(far))


def anisotropy_findings(statistics: list[CaseStatistics]) -> Iterable[Finding]:
    """Yield how many volumes have voxels more than three times as long as wide."""
    coarse = [
        case for case in statistics if case.kind == "volume" and max(case.spacing) > 3 * min(case.spacing)
    ]
    if coarse:
        worst = max(coarse, key=lambda case: max(case.spacing) / min(case.spacing))
        spacing = "×".join(f"{s:.3g}" for s in worst.spacing)
        message = f"voxels more than 3 times as long as wide; the longest: {spacing} mm in {worst.id}"
        hint = "use kernels and strides of 1 along the coarse axis; medseg train DATA chooses them"
        yield Finding("note", "anisotropy", coarse[0].id, message, hint, _group(coarse))


def _group(cases: list[CaseStatistics]) -> tuple[str, ...]:
    return tuple(case.id for case in cases) if len(cases) > 1 else ()


def _counted(types: Counter[str]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in types.most_common())
