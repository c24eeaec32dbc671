"""What is wrong with a dataset, and what to do about each finding."""

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
from medseg.data.curation.case_statistics import (
    CaseStatistics,
    Measuring,
    image_digest,
    measure_case,
    measuring_job,
    total_counts,
)
from medseg.data.curation.duplicates import Duplicates, find_copies
from medseg.data.io.readers import split_selector
from medseg.data.labels.label_plan import LabelDeclarations, LabelPlan, ResolvedSchema, plan_labels
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import DatasetListing, Problem, find_dataset
from medseg.data.options import DataConfig
from medseg.data.parallel import run_jobs
from medseg.errors import ConfigError, DataError, GeometryError

Severity = Literal["problem", "note"]
DEFAULT_DATA = DataConfig()
MOST_VALUES = 20
"""Undeclared label values that have a finding each; more of them are one finding."""


@dataclass(frozen=True)
class Finding:
    """One finding: ``problem``s keep a dataset from being trained on, ``note``s are good to know.

    Attributes:
        case: the case, or the file's name where there is none; of several cases the first.
        kind: partner, unreadable, grid, values, duplicate, leak, dtype, intensity, anisotropy.
        message: what was found.
        way_out: what to do about it.
        cases: all cases that have it, where there are several.
    """

    case: str
    severity: Severity
    kind: str
    message: str
    way_out: str
    cases: tuple[str, ...] = ()

    @property
    def concerned(self) -> tuple[str, ...]:
        """The cases that have it."""
        return self.cases or (self.case,)


@dataclass(frozen=True)
class DatasetReport:
    """All findings of a dataset, the facts of the cases that can be read, and the groups of cases whose images
    are the same, in bytes or in voxels.
    """

    listing: DatasetListing
    label_plan: LabelPlan
    findings: list[Finding]
    statistics: list[CaseStatistics]
    copies: list[list[str]]

    @property
    def problems(self) -> list[Finding]:
        """The findings that keep the dataset from being trained on."""
        return [f for f in self.findings if f.severity == "problem"]

    @property
    def concerned(self) -> set[str]:
        """The cases that have any finding."""
        return {case for finding in self.findings for case in finding.concerned}


def check_dataset(
    root: Path, config: DataConfig = DEFAULT_DATA, *, schema: LabelSchema | None = None
) -> DatasetReport:
    """Check every case of a dataset in any layout; nothing is written or changed.

    Args:
        root: folder of the dataset, or its manifest.
        config: how its files and labels are read; its ``path`` does not count.
        schema: labels that the user names beside the settings, such as those of a ``medseg.json``.

    Raises:
        DataError: the folder has no known layout.
        ConfigError: the declarations about labels contradict each other.
    """
    listing = find_dataset(root, config.layout)
    listing = replace(listing, cases=[with_patient(case, config.patient) for case in listing.cases])
    declarations = LabelDeclarations(config.labels, schema, listing.labels)
    plan = plan_labels(listing.cases, declarations, folder=Path(root))
    findings = [_partner(problem) for problem in listing.problems]
    facts, faults = _measure_all(plan)
    findings += faults
    copies = find_copies(facts, _other_digests(listing.cases, faults))
    values = set(total_counts(facts))
    resolved = _resolve(plan, values) if plan.schema is None and values else None
    if isinstance(resolved, ResolvedSchema) and not resolved.guessed:
        plan = replace(plan, schema=resolved.schema)
    elif isinstance(resolved, Finding):
        findings.append(resolved)
    findings += _duplicates(copies, {case.id: case.part or "" for case in listing.cases}, config.duplicates)
    findings += _leaks(listing.cases)
    findings += _undeclared(facts, plan.schema) if plan.schema else []
    findings += _unnamed(facts, resolved) if isinstance(resolved, ResolvedSchema) else []
    findings += _partial(plan)
    findings += _constant(facts)
    findings += _types(facts)
    findings += _channels(facts)
    findings += _intensities(facts)
    findings += _anisotropy(facts)
    order = {"problem": 0, "note": 1}
    findings.sort(key=lambda f: (order[f.severity], f.case, f.kind))
    return DatasetReport(listing, plan, findings, facts, copies)


def _partner(problem: Problem) -> Finding:
    way_out = problem.way_out if problem.unlabeled else f"{problem.way_out}; --fix DIR leaves it out"
    return Finding(
        problem.case, "note" if problem.unlabeled else "problem", "partner", problem.message, way_out
    )


def _measure_all(plan: LabelPlan) -> tuple[list[CaseStatistics], list[Finding]]:
    measuring = Measuring(plan.reader, plan.foreground)
    results = run_jobs(partial(_measure, measuring=measuring), [measuring_job(case) for case in plan.cases])
    statistics = [result for result in results if isinstance(result, CaseStatistics)]
    return statistics, [result for result in results if isinstance(result, Finding)]


def _measure(case: Case, measuring: Measuring) -> CaseStatistics | Finding:
    try:
        return measure_case(case, measuring)
    except GeometryError as error:
        way_out = "resample the label map onto its image: --fix DIR writes such a copy"
        if case.image.is_dir() and "label grid" not in str(error):
            way_out = "fetch the series again in full"
        return Finding(case.id, "problem", "grid", str(error), way_out)
    except DataError as error:
        way_out = "replace the file; --fix DIR leaves the case out"
        if "NaN" in str(error):
            way_out = "--fix DIR writes a copy with the lowest finite value in their place"
        return Finding(case.id, "problem", "unreadable", str(error), way_out)


def _other_digests(cases: list[Case], faults: list[Finding]) -> dict[str, str]:
    """Digests of images that can be read though their case cannot be used as it is."""
    displaced = {f.case for f in faults if f.kind == "grid"}
    return {c.id: image_digest(c) for c in cases if c.id in displaced and split_selector(c.image)[0].exists()}


def _resolve(plan: LabelPlan, values: set[int]) -> ResolvedSchema | Finding:
    """The labels that values without names stand for; or that there are none to learn."""
    try:
        return plan.resolve(values)
    except ConfigError as error:
        return Finding(
            "labels", "note", "values", str(error),
            "set data.labels, or data.labels.instances=foreground where values number objects",
        )  # fmt: skip


def _duplicates(copies: list[list[str]], parts: dict[str, str], duplicates: Duplicates) -> Iterable[Finding]:
    """Images that are the same; a problem if a training refuses them or they are in different parts."""
    ways_out = {
        "refuse": "keep one of each (--fix DIR does), or set data.duplicates=group",
        "group": "training keeps them on one side of the split; data.duplicates=drop or --fix DIR keep one",
        "drop": "training keeps one of them; --fix DIR does, too",
    }
    for ids in copies:
        leak = len({parts[i] for i in ids}) > 1
        split = " in different parts of the split" if leak else ""
        way_out = ways_out[duplicates]
        if leak and duplicates != "drop":
            way_out = "put them into one part; data.duplicates=drop or --fix DIR keep one"
        yield Finding(
            ids[0],
            "problem" if duplicates == "refuse" or (leak and duplicates != "drop") else "note",
            "leak" if leak else "duplicate",
            f"{len(ids)} cases have the same image{split}: {', '.join(ids)}",
            way_out,
            tuple(ids),
        )


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


def _holders(facts: list[CaseStatistics], values: Iterable[int]) -> dict[int, dict[str, int]]:
    """For each of some label values the cases that hold it, with its voxels."""
    wanted = set(values)
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for fact in facts:
        for value in wanted & fact.label_counts.keys():
            found[value][fact.id] = fact.label_counts[value]
    return {value: found[value] for value in sorted(found)}


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _places(cases: dict[str, int], *, most: int = 8) -> str:
    """How many voxels and cases, and which."""
    shown = ", ".join(f"{case}: {n:,}" for case, n in list(cases.items())[:most])
    more = f" and {len(cases) - most} more" if len(cases) > most else ""
    return f"{_amount(cases)} ({shown}{more})"


def _amount(cases: dict[str, int]) -> str:
    return f"{_plural(sum(cases.values()), 'voxel')} in {_plural(len(cases), 'case')}"


def _undeclared(facts: list[CaseStatistics], labels: LabelSchema) -> Iterable[Finding]:
    """Label values that are not declared: a problem unless ``others`` says what they are."""
    if labels.collapse_instances:
        return
    declared = {labels.ignore_value, *(v for group in labels.names.values() for v in group)}
    holders = _holders(facts, {v for fact in facts for v in fact.label_counts} - declared)
    severity: Severity = "problem" if labels.others == "refuse" else "note"
    meaning = {
        "refuse": "",
        "background": " and counts as background (data.labels.others=background)",
        "ignore": " and is ignored (data.labels.others=ignore)",
    }[labels.others]
    way_out = (
        "name it under data.labels, set data.labels.others=background or data.labels.ignore_value, or map it: "
        "--fix DIR --map {}=NEW"
        if severity == "problem"
        else "nothing need be done; --fix DIR --map {}=NEW maps it"
    )
    if len(holders) > MOST_VALUES:
        yield _many_undeclared(holders, severity, meaning)
        return
    for value, cases in holders.items():
        yield Finding(
            next(iter(cases)), severity, "values",
            f"label value {value} is not declared{meaning}: {_places(cases)}",
            way_out.format(value), tuple(cases),
        )  # fmt: skip


def _many_undeclared(holders: dict[int, dict[str, int]], severity: Severity, meaning: str) -> Finding:
    cases: Counter[str] = Counter()
    for held in holders.values():
        cases.update(held)
    values = list(holders)
    return Finding(
        next(iter(cases)), severity, "values",
        f"{len(values)} label values from {values[0]} to {values[-1]} are not declared{meaning}: "
        f"{_places(dict(cases))}",
        "if they number objects, set data.labels.instances=foreground; else name them under "
        "data.labels.names, or set data.labels.others=background",
        tuple(cases),
    )  # fmt: skip


def _unnamed(facts: list[CaseStatistics], resolved: ResolvedSchema) -> Iterable[Finding]:
    """Without declared names: every value with its voxels and cases, and how to name it."""
    if not resolved.guessed:
        if resolved.note:
            yield Finding("labels", "note", "names", resolved.note, "nothing need be done")
        return
    labeled = [fact for fact in facts if fact.label_counts]
    holders = _holders(labeled, {v for fact in labeled for v in fact.label_counts})
    if len(holders) <= 2:
        return
    shown = [
        f"{value}: {_places(cases) if len(cases) < len(labeled) else _amount(cases)}"
        for value, cases in holders.items()
    ]
    few = max(1, len(labeled) // 10)
    rare = {case for cases in holders.values() if len(cases) <= few < len(labeled) for case in cases}
    yield Finding(
        "labels", "note", "values", f"label values without names: {'; '.join(shown)}",
        f"{resolved.note}. Values that are mistakes can be mapped: --fix DIR --map OLD=NEW",
        tuple(sorted(rare)),
    )  # fmt: skip


def _partial(plan: LabelPlan) -> Iterable[Finding]:
    """Cases that say they are annotated for labels which are none."""
    if plan.schema is None:
        return
    for case in plan.cases:
        try:
            plan.schema.annotated_classes(case.labeled)
        except DataError as error:
            yield Finding(case.id, "problem", "labeled", str(error), "use names of data.labels and regions")


def _constant(facts: list[CaseStatistics]) -> Iterable[Finding]:
    for fact in facts:
        low, high = fact.intensities
        if low == high:
            yield Finding(
                fact.id, "note", "intensity", f"every voxel of its image is {low:.4g}",
                "look at it: nothing can be seen, or learnt, in such an image",
            )  # fmt: skip


def _types(facts: list[CaseStatistics]) -> Iterable[Finding]:
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


def _channels(facts: list[CaseStatistics]) -> Iterable[Finding]:
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


def _intensities(facts: list[CaseStatistics]) -> Iterable[Finding]:
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
            f"{len(far)} cases have labeled voxels far from the usual {usual:.4g}: {shown}{more}",
            "a normalization per scan (zscore, percentile) takes care of it; ct and range do not",
        )  # fmt: skip


def _anisotropy(facts: list[CaseStatistics]) -> Iterable[Finding]:
    coarse = [f for f in facts if f.kind == "volume" and max(f.spacing) > 3 * min(f.spacing)]
    if coarse:
        worst = max(coarse, key=lambda f: max(f.spacing) / min(f.spacing))
        spacing = "×".join(f"{s:.3g}" for s in worst.spacing)
        yield Finding(
            worst.id, "note", "anisotropy",
            f"{len(coarse)} cases have voxels more than 3 times as long as wide, at most {spacing} mm",
            "use kernels and strides of 1 along the coarse axis; medseg train DATA picks them",
        )  # fmt: skip
