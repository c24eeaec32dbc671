"""Findings about the label values of a dataset."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.label_plan import LabelPlan, ResolvedSchema
from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError, Finding, Status

_SPECK = 0.02
"""Share of the median size of all objects, below which an object is probably a leftover of drawing."""
MAX_VALUES = 20
"""Undeclared label values that have a finding each; more of them are one finding."""
_STRAY_CASES, _STRAY_VOXELS = 0.5, 0.001
"""A value without a declared name that occurs in a smaller share of the cases, and is a smaller share of the
labeled voxels, is probably a mistake.
"""


def undeclared_value_findings(statistics: list[CaseStatistics], schema: LabelSchema) -> Iterable[Finding]:
    """Yield label values that are not declared: a problem unless ``others`` says how they count."""
    if schema.collapse_instances:
        return
    present = {v for case in statistics for v in case.label_counts}
    holders = _cases_with_values(statistics, present - schema.declared_values)
    status: Status = "problem" if schema.others == "refuse" else "note"
    meaning = {
        "refuse": "",
        "background": " and counts as background (data.labels.others=background)",
        "ignore": " and is ignored (data.labels.others=ignore)",
    }[schema.others]
    hint = (
        "name it under data.labels.names, set data.labels.others=background or data.labels.ignore_value, or "
        "map it: --fix DIR --map {}=NEW"
        if status == "problem"
        else "no action is needed; --fix DIR --map {}=NEW maps it"
    )
    if len(holders) > MAX_VALUES:
        yield _many_undeclared(holders, status, meaning)
        return
    for value, cases in holders.items():
        message = f"label value {value} is not declared{meaning}: {_describe_cases(cases)}"
        yield Finding(status, "values", next(iter(cases)), message, hint.format(value), tuple(cases))


def unnamed_value_findings(statistics: list[CaseStatistics], resolved: ResolvedSchema) -> Iterable[Finding]:
    """Yield how values without declared names are named, with their voxels and cases."""
    if not resolved.guessed:
        if resolved.note:
            yield Finding("note", "names", "labels", resolved.note, "no action is needed")
        return
    labeled = [case for case in statistics if case.label_counts]
    holders = _cases_with_values(labeled, {v for case in labeled for v in case.label_counts})
    if len(holders) <= 2:
        return
    shown = [
        f"{value}: {_describe_cases(cases) if len(cases) < len(labeled) else _describe_count(cases)}"
        for value, cases in holders.items()
    ]
    few = max(1, len(labeled) // 10)
    rare = {case for cases in holders.values() if len(cases) <= few < len(labeled) for case in cases}
    hint = f"{resolved.note}. Values that are mistakes can be mapped: --fix DIR --map OLD=NEW"
    message = f"label values without names: {'; '.join(shown)}"
    yield Finding("note", "values", "labels", message, hint, tuple(sorted(rare)))


def stray_value_findings(statistics: list[CaseStatistics], resolved: ResolvedSchema) -> Iterable[Finding]:
    """Yield a warning about values without declared names that occur in few cases and very few voxels."""
    labeled = [case for case in statistics if case.label_counts]
    stray = find_stray_values(labeled, resolved)
    if not stray:
        return
    shown = [
        f"label value {value} occurs in {len(cases)} of {len(labeled)} cases "
        f"({_plural(sum(cases.values()), 'voxel')}; {_first_names(list(cases))})"
        for value, cases in list(stray.items())[:MAX_VALUES]
    ]
    more = f"; and {len(stray) - MAX_VALUES} more values" if len(stray) > MAX_VALUES else ""
    holders = {case for cases in stray.values() for case in cases}
    first = next(iter(next(iter(stray.values()))))
    message = f"{'; '.join(shown)}{more}: a mistake?"
    yield Finding("warning", "values", first, message, _stray_hint(stray, resolved), tuple(sorted(holders)))


def object_findings(statistics: list[CaseStatistics]) -> Iterable[Finding]:
    """Yield what is unusual about numbered objects: several parts, specks, holes and contacts."""
    facts = {case.id: case.objects for case in statistics if case.objects is not None}
    sizes = [size for one in facts.values() for size in one.sizes]
    if not sizes:
        return
    parts = {case: len(one.in_parts) for case, one in facts.items() if one.in_parts}
    if parts:
        first = next(iter(parts))
        where = ", ".join(map(str, facts[first].in_parts[0]))
        message = f"objects in several parts: {_objects(parts)}; the first one begins at voxel ({where})"
        hint = "number the parts differently if they are different objects; training takes each part for one"
        yield Finding("warning", "objects", first, message, hint, tuple(parts))
    median = float(np.median(sizes))
    specks = {case: sum(size < _SPECK * median for size in one.sizes) for case, one in facts.items()}
    specks = {case: count for case, count in specks.items() if count}
    if specks:
        message = f"objects below {_SPECK:.0%} of the median size ({median:.4g}): {_objects(specks)}"
        hint = "delete them if they are leftovers of drawing: each counts as an object"
        yield Finding("warning", "objects", next(iter(specks)), message, hint, tuple(specks))
    holes = {case: one.holes for case, one in facts.items() if one.holes}
    if holes:
        hint = "fill them if they belong to the objects"
        message = f"objects with holes: {_objects(holes)}"
        yield Finding("note", "objects", next(iter(holes)), message, hint, tuple(holes))
    touching = sum(one.touching for one in facts.values())
    low, high = np.percentile(sizes, (5, 95))
    message = (
        f"{_plural(len(sizes), 'object')} in {_plural(len(facts), 'case')}, median size {median:.4g} "
        f"({low:.4g} to {high:.4g}); {touching / len(sizes):.0%} touch another one"
    )
    yield Finding("note", "objects", "labels", message, "no action is needed")


def _objects(cases: dict[str, int]) -> str:
    """Describe how many objects are concerned, and in which cases."""
    shown = ", ".join(f"{case}: {n:,}" for case, n in list(cases.items())[:8])
    more = f" and {len(cases) - 8} more" if len(cases) > 8 else ""
    return f"{sum(cases.values()):,} in {_plural(len(cases), 'case')} ({shown}{more})"


def find_stray_values(statistics: list[CaseStatistics], resolved: ResolvedSchema) -> dict[int, dict[str, int]]:
    """Return the values without declared names that are probably mistakes: value → case → voxels.

    These occur in less than half of the labeled cases and in less than 0.1% of the labeled voxels.
    """
    schema = resolved.schema
    if not resolved.guessed or schema.collapse_instances:
        return {}
    labeled = [case for case in statistics if case.label_counts]
    background, *groups = schema.names.values()
    holders = _cases_with_values(labeled, {v for group in groups for v in group if v not in background})
    voxels = sum(sum(cases.values()) for cases in holders.values())
    return {
        value: cases
        for value, cases in holders.items()
        if len(cases) < _STRAY_CASES * len(labeled) and sum(cases.values()) < _STRAY_VOXELS * voxels
    }


def _stray_hint(stray: dict[int, dict[str, int]], resolved: ResolvedSchema) -> str:
    """Return the settings that leave stray values out, or count them as another label."""
    names = {name: values[0] for name, values in resolved.schema.names.items() if values[0] not in stray}
    entries = [f"{name}: {value}" for name, value in names.items()]
    table = ", ".join(entries if len(entries) <= MAX_VALUES else [*entries[:MAX_VALUES], "…"])
    last, value = next(reversed(names.items()))
    first = next(iter(stray))
    return (
        f"leave it out with data.labels.names='{{{table}}}' data.labels.others=background, or count it as "
        f"another label, for example {last}: [{value}, {first}]; medseg data check --fix DIR --map {first}=0 "
        "writes corrected copies"
    )


def _first_names(cases: list[str], *, most: int = 8) -> str:
    return ", ".join(cases[:most]) + (", …" if len(cases) > most else "")


def annotation_findings(plan: LabelPlan) -> Iterable[Finding]:
    """Yield cases that declare annotations of unknown labels."""
    if plan.schema is None:
        return
    for case in plan.cases:
        try:
            plan.schema.annotated_classes(case.labeled)
        except DataError as error:
            hint = "use names of data.labels.names and data.labels.regions"
            yield Finding("problem", "labeled", case.id, error.message, hint)


def _many_undeclared(holders: dict[int, dict[str, int]], status: Status, meaning: str) -> Finding:
    cases: Counter[str] = Counter()
    for held in holders.values():
        cases.update(held)
    values = list(holders)
    message = (
        f"{len(values)} label values from {values[0]} to {values[-1]} are not declared{meaning}: "
        f"{_describe_cases(dict(cases))}"
    )
    hint = (
        "if they number objects, set data.instances=keep or data.labels.instances=foreground; "
        "otherwise name them under "
        "data.labels.names, or set data.labels.others=background"
    )
    return Finding(status, "values", next(iter(cases)), message, hint, tuple(cases))


def _cases_with_values(statistics: list[CaseStatistics], values: Iterable[int]) -> dict[int, dict[str, int]]:
    """Return for each of some label values the cases that hold it, with its voxels."""
    wanted = set(values)
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for case in statistics:
        for value in wanted & case.label_counts.keys():
            found[value][case.id] = case.label_counts[value]
    return {value: found[value] for value in sorted(found)}


def _describe_cases(cases: dict[str, int], *, most: int = 8) -> str:
    """Describe in how many voxels and cases a value occurs, and in which cases."""
    shown = ", ".join(f"{case}: {n:,}" for case, n in list(cases.items())[:most])
    more = f" and {len(cases) - most} more" if len(cases) > most else ""
    return f"{_describe_count(cases)} ({shown}{more})"


def _describe_count(cases: dict[str, int]) -> str:
    return f"{_plural(sum(cases.values()), 'voxel')} in {_plural(len(cases), 'case')}"


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
