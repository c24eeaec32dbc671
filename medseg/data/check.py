"""What is wrong with a folder of cases, case by case, with the way out of each finding."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.data.cases import Case, list_parts, match
from medseg.data.facts import CaseFacts, measure
from medseg.data.labels import Labels
from medseg.data.readers import stem_of
from medseg.errors import DataError, GeometryError

Severity = Literal["problem", "note"]


@dataclass(frozen=True)
class Finding:
    """One finding: ``problem``s keep a dataset from being trained on, ``note``s are good to know.

    Attributes:
        case: the case, or the file's name where there is none.
        kind: partner, unreadable, grid, values, duplicate, leak, intensity, anisotropy.
        message: what was found.
        way_out: what to do about it.
    """

    case: str
    severity: Severity
    kind: str
    message: str
    way_out: str


@dataclass(frozen=True)
class Report:
    """All findings of a dataset and the facts of the cases that can be read."""

    findings: list[Finding]
    facts: list[CaseFacts]

    @property
    def problems(self) -> list[Finding]:
        """The findings that keep the dataset from being trained on."""
        return [f for f in self.findings if f.severity == "problem"]


def check_dataset(root: Path, *, labels: Labels | None = None, label_suffix: str | None = None) -> Report:
    """Look at every case of a folder with ``images/`` and ``labels/``; nothing is written or changed.

    Raises: DataError if there are no such folders.
    """
    findings: list[Finding] = []
    facts: list[CaseFacts] = []
    parts: dict[str, str] = {}
    for part, images, label_files in list_parts(root):
        matches, orphans = match(images, label_files, label_suffix=label_suffix)
        findings += _partner_findings(matches, orphans)
        for image, found in matches.items():
            case = Case(stem_of(image), image, found[0] if len(found) == 1 else None, part)
            result = _measure(case)
            if isinstance(result, Finding):
                findings.append(result)
            else:
                facts.append(result)
                parts[result.id] = part or ""
    findings += _duplicates(facts, parts)
    findings += _value_findings(facts, labels)
    findings += _intensities(facts)
    findings += _anisotropy(facts)
    order = {"problem": 0, "note": 1}
    return Report(sorted(findings, key=lambda f: (order[f.severity], f.case, f.kind)), facts)


def _partner_findings(matches: dict[Path, list[Path]], orphans: list[Path]) -> Iterable[Finding]:
    for image, found in matches.items():
        if not found:
            yield Finding(
                stem_of(image), "problem", "partner", f"image {image.name} has no label map",
                "add labels/ of the same name (a suffix such as _mask is fine), or take the image away",
            )  # fmt: skip
        elif len(found) > 1:
            names = ", ".join(p.name for p in found)
            yield Finding(
                stem_of(image), "problem", "partner",
                f"image {image.name} has {len(found)} label maps: {names}",
                "choose one with data.label_suffix",
            )  # fmt: skip
    for orphan in orphans:
        yield Finding(
            stem_of(orphan), "problem", "partner", f"label map {orphan.name} has no image",
            "add the image of the same name, or take the label map away",
        )  # fmt: skip


def _measure(case: Case) -> CaseFacts | Finding:
    try:
        return measure(case)
    except GeometryError as error:
        return Finding(case.id, "problem", "grid", str(error), "resample the label map onto its image")
    except DataError as error:
        return Finding(case.id, "problem", "unreadable", str(error), "replace the file or take the case away")


def _duplicates(facts: list[CaseFacts], parts: dict[str, str]) -> Iterable[Finding]:
    """Byte-identical images; a leak if they stand in different parts."""
    same: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        same[fact.image_sha256].append(fact.id)
    for ids in same.values():
        if len(ids) > 1:
            leak = len({parts[i] for i in ids}) > 1
            where = "in different parts of the split" if leak else "in the dataset"
            yield Finding(
                ids[0], "problem", "leak" if leak else "duplicate",
                f"the same image, byte for byte, stands {len(ids)} times {where}: {', '.join(ids)}",
                "keep one of them: a copy in training and test makes scores too good",
            )  # fmt: skip


def _value_findings(facts: list[CaseFacts], labels: Labels | None) -> Iterable[Finding]:
    if labels is None:
        yield from _rare_values(facts)
        return
    known = {v for group in labels.names.values() for v in group} | {labels.ignore_value}
    for fact in facts:
        unnamed = sorted(set(fact.label_counts) - known)
        if unnamed and not labels.collapse_instances:
            shown = ", ".join(f"{v} ({fact.label_counts[v]} voxels)" for v in unnamed[:10])
            yield Finding(
                fact.id, "problem", "values", f"label values nobody named: {shown}",
                "name them under data.labels, or set data.ignore_value",
            )  # fmt: skip


def _rare_values(facts: list[CaseFacts]) -> Iterable[Finding]:
    """Without names: a value that one case in many has is worth a look (instance ids are not)."""
    holders = Counter(v for fact in facts for v in fact.label_counts)
    if len(facts) < 10 or len(holders) > 64:
        return
    for fact in facts:
        alone = [v for v in fact.label_counts if holders[v] == 1]
        if alone:
            yield Finding(
                fact.id, "note", "values", f"no other of the {len(facts)} cases has the label values {alone}",
                "if they are mistakes, correct them; else name them under data.labels",
            )  # fmt: skip


def _intensities(facts: list[CaseFacts]) -> Iterable[Finding]:
    """Cases whose foreground is brighter or darker than the others' by a factor beyond 100."""
    levels = {f.id: float(np.median(np.abs(f.foreground))) for f in facts if f.foreground}
    positive = {case: level for case, level in levels.items() if level > 0}
    if len(positive) < 5:
        return
    usual = float(np.median(list(positive.values())))
    far = {case: level for case, level in positive.items() if abs(math.log10(level / usual)) > 2}
    if far:
        shown = ", ".join(f"{case} ({level:.4g})" for case, level in list(far.items())[:10])
        more = f" and {len(far) - 10} more" if len(far) > 10 else ""
        yield Finding(
            next(iter(far)), "note", "intensity",
            f"{len(far)} cases have labelled voxels far from the usual {usual:.4g}: {shown}{more}",
            "a normalisation per scan (zscore, percentile) takes care of it; ct and range do not",
        )  # fmt: skip


def _anisotropy(facts: list[CaseFacts]) -> Iterable[Finding]:
    coarse = [f for f in facts if f.kind == "volume" and max(f.spacing) > 3 * min(f.spacing)]
    if coarse:
        worst = max(coarse, key=lambda f: max(f.spacing) / min(f.spacing))
        spacing = "×".join(f"{s:.3g}" for s in worst.spacing)
        yield Finding(
            worst.id, "note", "anisotropy",
            f"{len(coarse)} cases have voxels more than 3 times as long as wide, at most {spacing} mm",
            "use kernels and strides of 1 along the coarse axis; medseg train DATA picks them",
        )  # fmt: skip
