"""Check a dataset case by case, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.data.cases import Case, with_patient
from medseg.data.curation.case_statistics import (
    CaseStatistics,
    Measuring,
    image_digest,
    measure_case,
    measuring_job,
    total_counts,
)
from medseg.data.curation.duplicates import find_copies
from medseg.data.curation.findings import (
    anisotropy_findings,
    channel_findings,
    constant_image_findings,
    duplicate_findings,
    intensity_findings,
    leak_findings,
    type_findings,
)
from medseg.data.curation.label_findings import (
    annotation_findings,
    object_findings,
    stray_value_findings,
    undeclared_value_findings,
    unnamed_value_findings,
)
from medseg.data.io.readers import split_selector
from medseg.data.labels.label_plan import LabelDeclarations, LabelPlan, ResolvedSchema, plan_labels
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import DatasetListing, find_dataset
from medseg.data.options import DataConfig
from medseg.data.parallel import run_jobs
from medseg.errors import ConfigError, DataError, Finding, GeometryError, LabelGridError, NonFiniteError

DEFAULT_DATA = DataConfig()


@dataclass(frozen=True)
class DatasetReport:
    """Result of checking a dataset.

    Attributes:
        listing: the cases and what the layout declares.
        label_plan: how label files are read.
        findings: problems, which prevent training, then warnings, then notes.
        statistics: of the cases that can be read.
        copies: groups of cases with the same image, in bytes or in voxels.
    """

    listing: DatasetListing
    label_plan: LabelPlan
    findings: list[Finding]
    statistics: list[CaseStatistics]
    copies: list[list[str]]

    @property
    def problems(self) -> list[Finding]:
        """The findings that prevent training."""
        return [finding for finding in self.findings if finding.is_problem]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are probably mistakes, with which training starts nevertheless."""
        return [finding for finding in self.findings if finding.is_warning]

    @property
    def affected(self) -> set[str]:
        """Ids of the cases that have any finding."""
        return {case for finding in self.findings for case in finding.affected}


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

    Example:
        >>> report = check_dataset(Path("data"))  # doctest: +SKIP
        >>> [finding.message for finding in report.problems]  # doctest: +SKIP
    """
    listing = find_dataset(root, config.layout)
    listing = replace(listing, cases=[with_patient(case, config.patient) for case in listing.cases])
    declarations = LabelDeclarations(config.labels, schema, listing.labels, config.instances)
    plan = plan_labels(listing.cases, declarations, folder=Path(root))
    findings = [_with_repair_hint(finding) for finding in listing.findings]
    statistics, faults = _measure_all(plan)
    findings += faults
    copies = find_copies(statistics, _unmeasured_digests(listing.cases, faults))
    plan, naming = _name_labels(plan, statistics)
    findings += naming
    parts = {case.id: case.part or "" for case in listing.cases}
    findings += duplicate_findings(copies, parts, config.duplicates)
    findings += leak_findings(listing.cases)
    findings += undeclared_value_findings(statistics, plan.schema) if plan.schema else []
    findings += annotation_findings(plan)
    findings += object_findings(statistics)
    for find in (
        constant_image_findings,
        type_findings,
        channel_findings,
        intensity_findings,
        anisotropy_findings,
    ):
        findings += find(statistics)
    order = {"problem": 0, "warning": 1, "note": 2, "ok": 3}
    findings.sort(key=lambda finding: (order[finding.status], finding.subject, finding.topic))
    return DatasetReport(listing, plan, findings, statistics, copies)


def _with_repair_hint(finding: Finding) -> Finding:
    return replace(finding, hint=f"{finding.hint}; --fix DIR leaves it out") if finding.is_problem else finding


def _name_labels(plan: LabelPlan, statistics: list[CaseStatistics]) -> tuple[LabelPlan, Iterable[Finding]]:
    """Resolve the schema from the values found, if no names are declared; the findings describe how."""
    values = set(total_counts(statistics))
    if plan.schema is not None or not values:
        noted = Finding("note", "names", "labels", plan.note or "", "no action is needed")
        return plan, [noted] if plan.note else []
    try:
        resolved: ResolvedSchema = plan.resolve(values)
    except ConfigError as error:
        hint = error.hint or "set data.labels.names"
        return plan, [Finding("note", "values", "labels", error.message, hint)]
    findings = [*stray_value_findings(statistics, resolved), *unnamed_value_findings(statistics, resolved)]
    return plan if resolved.guessed else replace(plan, schema=resolved.schema), findings


def _measure_all(plan: LabelPlan) -> tuple[list[CaseStatistics], list[Finding]]:
    measuring = Measuring(plan.reader, plan.foreground)
    results = run_jobs(partial(_measure, measuring=measuring), [measuring_job(case) for case in plan.cases])
    statistics = [result for result in results if isinstance(result, CaseStatistics)]
    return statistics, [result for result in results if isinstance(result, Finding)]


def _measure(case: Case, measuring: Measuring) -> CaseStatistics | Finding:
    try:
        return measure_case(case, measuring)
    except LabelGridError as error:
        same = error.same_shape
        hint = (
            "correct its affine if its header is wrong; --fix DIR --same-shape=image-grid|resample repairs it"
            if same
            else "resample the label map onto its image: --fix DIR writes such a copy"
        )
        return Finding("problem", "grid", case.id, error.message, hint)
    except GeometryError as error:
        hint = "get the complete series again" if case.image.is_dir() else "correct or replace the file"
        return Finding("problem", "grid", case.id, error.message, error.hint or hint)
    except NonFiniteError as error:
        hint = "--fix DIR writes a copy with the lowest finite value in their place"
        return Finding("problem", "unreadable", case.id, error.message, hint)
    except DataError as error:
        hint = f"{error.hint} --fix DIR leaves the case out" if error.hint else _REPLACE
        return Finding("problem", "unreadable", case.id, error.message, hint)


_REPLACE = "replace the file; --fix DIR leaves the case out"


def _unmeasured_digests(cases: list[Case], faults: list[Finding]) -> dict[str, str]:
    """Return the digests of images that can be read though their label maps do not fit."""
    displaced = {finding.subject for finding in faults if finding.topic == "grid"}
    return {c.id: image_digest(c) for c in cases if c.id in displaced and split_selector(c.image)[0].exists()}
