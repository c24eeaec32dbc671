"""Summarize a dataset: grids, intensities, and frequency and size of each label."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cc3d
import numpy as np

from medseg.data.cases import Case
from medseg.data.chunked_statistics import count_values
from medseg.data.curation.case_statistics import CaseStatistics, measuring_job, total_counts
from medseg.data.curation.check import DatasetReport
from medseg.data.io.multichannel import read_image
from medseg.data.labels.label_plan import LabelPlan
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.parallel import run_jobs
from medseg.errors import ConfigError, DataError
from medseg.files import as_json_object
from medseg.geometry import Array


@dataclass(frozen=True)
class Components:
    """Connected components (8 or 26 neighbors) of a label in a case.

    Attributes:
        label: name of the label.
        voxels: number of voxels of each component.
        voxel_size: mm³ (pixels for pictures).
    """

    label: str
    voxels: tuple[int, ...]
    voxel_size: float


def summarize_dataset(report: DatasetReport) -> dict[str, Any]:
    """Summarize a dataset as JSON values; cases that cannot be read are left out.

    Args:
        report: result of checking the dataset.

    Returns:
        Statistics of the dataset. Sizes and spacings of volumes are along right, anterior, superior.
        ``labels`` has one entry per label: the number of ``cases`` with it, ``voxels``, ``share`` of all
        labeled voxels, ``imbalance`` (voxels of the most frequent label divided by those of this one),
        ``components`` (median number of connected components per case that has any) and ``component_size``,
        the volume or area of a component in ``size_unit`` (mm³; pixels for pictures without a spacing).

    Raises:
        DataError: no case can be read.
    """
    facts = report.statistics
    if not facts:
        raise DataError("no case of the dataset can be read", hint="medseg data check lists the reasons.")
    labels = summary_labels(report)
    return {
        "layout": report.listing.layout,
        "cases": len(facts),
        "parts": dict(Counter(case.part or "all" for case in report.listing.cases)),
        "problems": len(report.problems),
        "kinds": dict(Counter(f.kind for f in facts)),
        "channels": dict(Counter(f.channels for f in facts)),
        "types": dict(Counter(f.dtype for f in facts)),
        "size": _per_axis([f.shape for f in facts]),
        "spacing": _per_axis([f.spacing for f in facts]),
        "intensities": _intensities(facts),
        "size_unit": _size_unit(facts),
        "labels": _label_table(facts, labels, _all_components(report.label_plan, facts, labels)),
    }


def check_summary_target(path: Path) -> None:
    """Check that a summary replaces nothing but an earlier one.

    Raises:
        ConfigError: the file exists and is something else, such as the summary of an evaluation.
    """
    if not path.exists():
        return
    try:
        content = as_json_object(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        content = {}
    if not {"layout", "cases", "kinds"} <= content.keys():
        raise ConfigError(
            f"{path}: exists and was not written by medseg data summary",
            hint="Choose another --output, or move the file.",
            path=path,
        )


def summary_labels(report: DatasetReport) -> LabelSchema | None:
    """Return the labels of a dataset: declared or guessed; one foreground label if values number instances.

    None if the label maps contain a single value.
    """
    if report.label_plan.schema is not None:
        return report.label_plan.schema
    values = set(total_counts(report.statistics))
    if len(values) < 2:
        return None
    try:
        return report.label_plan.resolve(values).schema
    except ConfigError:
        return LabelSchema(names={"background": (0,), "foreground": (1,)}, collapse_instances=True)


def _per_axis(rows: Sequence[tuple[float, ...]]) -> list[dict[str, float]]:
    """Return lowest, median and highest along each axis; empty if the cases differ in their number of axes."""
    if len({len(row) for row in rows}) > 1:
        return []
    table = np.array(rows, dtype=float)
    return [{"min": float(c.min()), "median": float(np.median(c)), "max": float(c.max())} for c in table.T]


def _size_unit(facts: Sequence[CaseStatistics]) -> str:
    """Return the unit of the product of the spacings, in which components are measured."""
    pictures = [fact for fact in facts if fact.kind == "picture"]
    if not pictures:
        return "mm³"
    area = "pixels" if all(set(fact.spacing) == {1.0} for fact in pictures) else "mm²"
    return area if len(pictures) == len(facts) else f"mm³ or {area}"


def _intensities(facts: Sequence[CaseStatistics]) -> list[dict[str, float]]:
    """Return statistics of the foreground's intensities per channel, from at most 500 voxels per case."""
    samples: dict[int, list[Array]] = defaultdict(list)
    for fact in facts:
        parts = (
            np.array(fact.foreground).reshape(fact.channels, -1)
            if fact.foreground and _has_whole_voxels(fact)
            else ()
        )
        for channel, values in enumerate(parts):
            samples[channel].append(values)
    rows: list[dict[str, float]] = []
    for _, arrays in sorted(samples.items()):
        values = np.concatenate(arrays)
        low, median, high = np.percentile(values, (0.5, 50, 99.5))
        rows.append(
            {
                "mean": float(values.mean()),
                "sd": float(values.std()),
                "p0.5": float(low),
                "median": float(median),
                "p99.5": float(high),
            }
        )
    return rows


def _has_whole_voxels(fact: CaseStatistics) -> bool:
    """Return whether the sample has whole voxels: alpha and palettes change the number of channels."""
    return len(fact.foreground) % fact.channels == 0


def _all_components(
    plan: LabelPlan, statistics: Sequence[CaseStatistics], schema: LabelSchema | None
) -> list[Components]:
    readable = {case.id for case in statistics if case.label_counts}
    if schema is None:
        return []
    jobs = [measuring_job(case) for case in plan.cases if case.id in readable]
    found = run_jobs(partial(_components, reader=plan.reader, schema=schema), jobs)
    return [one for components in found for one in components]


def _components(case: Case, reader: LabelReader, schema: LabelSchema) -> list[Components]:
    scan = read_image(case)
    label_map = reader.read(case, scan)
    assert label_map is not None
    values = label_map.values
    voxel = float(np.prod(scan.grid.spacing))
    if schema.collapse_instances:  # each value is one instance
        not_counted = (schema.output_values[0], schema.ignore_value)
        sizes = tuple(n for value, n in count_values(values).items() if value not in not_counted)
        return [Components(list(schema.names)[1], sizes, voxel)]
    found: list[Components] = []
    for name, own in schema.evaluated.items():
        mask = np.isin(values, own)
        if mask.any():
            counted = mask.astype(np.uint8)  # of boolean arrays, cc3d 4.1 numbers wrong pixels
            marked = cc3d.connected_components(counted, connectivity=8 if mask.ndim == 2 else 26)
            found.append(Components(name, tuple(np.bincount(marked.ravel())[1:].tolist()), voxel))
    return found


def _label_table(
    facts: Sequence[CaseStatistics], labels: LabelSchema | None, components: Sequence[Components]
) -> list[dict[str, Any]]:
    if labels is None:
        return []
    counts: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    names = {**labels.names, **labels.evaluated}
    for fact in facts:
        for name, values in names.items():
            known = {v for group in labels.names.values() for v in group}
            own = [
                v for v in fact.label_counts if v in values or (labels.collapse_instances and v not in known)
            ]
            own = [v for v in own if name != next(iter(labels.names)) or v in values]
            counts[name] += sum(fact.label_counts[v] for v in own)
            holders[name] += any(fact.label_counts[v] for v in own)
    total = sum(counts[name] for name in labels.names) or 1
    most = max(counts.values(), default=0)
    rows: list[dict[str, Any]] = []
    for name, values in names.items():
        own = [c for c in components if c.label == name and c.voxels]
        sizes = [n * c.voxel_size for c in own for n in c.voxels]
        rows.append(
            {
                "label": name,
                "values": list(values),
                "cases": holders[name],
                "voxels": counts[name],
                "share": counts[name] / total,
                "imbalance": most / counts[name] if counts[name] else None,
                "components": float(np.median([len(c.voxels) for c in own])) if own else None,
                "component_size": _spread(sizes),
            }
        )
    return rows


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}
