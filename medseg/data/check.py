"""What is wrong with a dataset, case by case, with the way out of each finding."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.data.cases import Case, with_patient
from medseg.data.facts import CaseFacts, image_digest, measure, measuring, twins
from medseg.data.labelling import Labelling, LabelStatement, plan_labelling
from medseg.data.labels import Labels
from medseg.data.layouts import NO_CHOICE, Choice, Found, find_dataset
from medseg.data.pool import run_jobs
from medseg.data.readers import split_mark
from medseg.errors import DataError, GeometryError

Severity = Literal["problem", "note"]
NOTHING_STATED = LabelStatement()


@dataclass(frozen=True)
class Finding:
    """One finding: ``problem``s keep a dataset from being trained on, ``note``s are good to know.

    Attributes:
        case: the case, or the file's name where there is none.
        kind: partner, unreadable, grid, values, duplicate, leak, dtype, intensity, anisotropy.
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
    """All findings of a dataset, the facts of the cases that can be read, and the groups of cases whose images
    are the same, byte for byte.
    """

    found: Found
    labelling: Labelling
    findings: list[Finding]
    facts: list[CaseFacts]
    twins: list[list[str]]

    @property
    def problems(self) -> list[Finding]:
        """The findings that keep the dataset from being trained on."""
        return [f for f in self.findings if f.severity == "problem"]


def check_dataset(
    root: Path,
    *,
    choice: Choice = NO_CHOICE,
    stated: LabelStatement = NOTHING_STATED,
    patient: str | None = None,
) -> Report:
    """Look at every case of a dataset in any layout; nothing is written or changed.

    ``patient`` is a regular expression whose first group is the patient in a case's id.

    Raises: DataError if the folder has no layout; ConfigError if the statements contradict each other.
    """
    found = find_dataset(root, choice)
    found = replace(found, cases=[with_patient(case, patient) for case in found.cases])
    labelling = plan_labelling(found.cases, stated, found.labels)
    findings = [
        Finding(p.case, "note" if p.unlabelled else "problem", "partner", p.message, p.way_out)
        for p in found.problems
    ]
    facts: list[CaseFacts] = []
    measure_one = partial(_measure, labelling=labelling)
    for result in run_jobs(measure_one, [measuring(case) for case in labelling.cases]):
        if isinstance(result, Finding):
            findings.append(result)
        else:
            facts.append(result)
    same = twins({case.id: image_digest(case) for case in found.cases if split_mark(case.image)[0].exists()})
    findings += _duplicates(same, {case.id: case.part or "" for case in found.cases})
    findings += _leaks(found.cases)
    findings += _value_findings(facts, labelling.labels)
    findings += _partial(labelling)
    findings += _constant(facts)
    findings += _types(facts)
    findings += _channels(facts)
    findings += _intensities(facts)
    findings += _anisotropy(facts)
    order = {"problem": 0, "note": 1}
    findings.sort(key=lambda f: (order[f.severity], f.case, f.kind))
    return Report(found, labelling, findings, facts, same)


def _measure(case: Case, labelling: Labelling) -> CaseFacts | Finding:
    try:
        return measure(case, labelling.rules)
    except GeometryError as error:
        way_out = "resample the label map onto its image: --fix DIR writes such a copy"
        if case.image.is_dir() and "label grid" not in str(error):
            way_out = "fetch the series again in full"
        return Finding(case.id, "problem", "grid", str(error), way_out)
    except DataError as error:
        way_out = "replace the file or take the case away"
        if "NaN" in str(error):
            way_out = "--fix DIR writes a copy with the lowest finite value in their place"
        return Finding(case.id, "problem", "unreadable", str(error), way_out)


def _duplicates(same: list[list[str]], parts: dict[str, str]) -> Iterable[Finding]:
    """Byte-identical images; a leak if they stand in different parts."""
    for ids in same:
        leak = len({parts[i] for i in ids}) > 1
        where = "in different parts of the split" if leak else "in the dataset"
        yield Finding(
            ids[0], "problem", "leak" if leak else "duplicate",
            f"the same image, byte for byte, stands {len(ids)} times {where}: {', '.join(ids)}",
            "keep one of them: a copy in training and test makes scores too good",
        )  # fmt: skip


def _leaks(cases: list[Case]) -> Iterable[Finding]:
    """Patients whose cases the files themselves put into several parts."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        if case.patient is not None and case.part is not None:
            parts[case.patient].setdefault(case.part, case.id)
    for patient, by_part in parts.items():
        if len(by_part) > 1:
            shown = ", ".join(f"{case} in {part}" for part, case in sorted(by_part.items()))
            yield Finding(
                patient, "problem", "leak", f"a patient stands on several sides of the split: {shown}",
                "put all cases of a patient into one part",
            )  # fmt: skip


def _value_findings(facts: list[CaseFacts], labels: Labels | None) -> Iterable[Finding]:
    if labels is None:
        yield from _rare_values(facts)
        return
    for fact in facts:
        unnamed = sorted(v for v in fact.label_counts if labels.refuses(v))
        if unnamed:
            shown = ", ".join(f"{v} ({fact.label_counts[v]} voxels)" for v in unnamed[:10])
            yield Finding(
                fact.id, "problem", "values", f"label values nobody named: {shown}",
                "name them under data.labels, set data.others or data.ignore_value, or map them: --map OLD=NEW",
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
                "if they are mistakes, correct them (--map OLD=NEW); else name them under data.labels",
            )  # fmt: skip


def _partial(labelling: Labelling) -> Iterable[Finding]:
    """Cases that say they are annotated for labels which are none."""
    if labelling.labels is None:
        return
    for case in labelling.cases:
        try:
            labelling.labels.known(case.labelled)
        except DataError as error:
            yield Finding(case.id, "problem", "labelled", str(error), "use names of data.labels and regions")


def _constant(facts: list[CaseFacts]) -> Iterable[Finding]:
    for fact in facts:
        low, high = fact.intensities
        if low == high:
            yield Finding(
                fact.id, "note", "intensity", f"every voxel of its image is {low:.4g}",
                "look at it: nothing can be seen, or learnt, in such an image",
            )  # fmt: skip


def _types(facts: list[CaseFacts]) -> Iterable[Finding]:
    """Label maps stored as floats, and images of types that differ."""
    floats = [
        f for f in facts if f.label_dtype is not None and f.label_dtype.startswith("float") and f.label_counts
    ]
    if floats and floats[0].label_dtype != "float":
        yield Finding(
            floats[0].id, "note", "dtype",
            f"{len(floats)} label maps are stored as {floats[0].label_dtype}, though they hold whole numbers",
            "nothing need be done; --fix DIR writes them as integers",
        )  # fmt: skip
    kinds = Counter(f.dtype for f in facts)
    if len(kinds) > 1:
        rare, _ = min(kinds.items(), key=lambda pair: pair[1])
        shown = ", ".join(f"{kind} ({n})" for kind, n in kinds.most_common())
        yield Finding(
            next(f.id for f in facts if f.dtype == rare), "note", "dtype",
            f"the images are stored in several types: {shown}",
            "nothing need be done: values are read as they are meant, header scaling applied",
        )  # fmt: skip


def _channels(facts: list[CaseFacts]) -> Iterable[Finding]:
    """Cases whose image has another number of channels, or is of another kind, than most."""
    kinds = Counter((f.kind, f.channels if f.kind == "volume" else 0) for f in facts)
    if len(kinds) < 2:
        return
    usual = kinds.most_common(1)[0][0]
    for fact in facts:
        if (fact.kind, fact.channels if fact.kind == "volume" else 0) != usual:
            channels = f" of {usual[1]} channels" if usual[1] else ""
            yield Finding(
                fact.id, "problem", "channels",
                f"a {fact.kind} of {fact.channels} channels, most others are {usual[0]}s{channels}",
                "keep the two kinds in two folders, or choose channels with data.modalities",
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
