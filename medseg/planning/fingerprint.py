"""The fingerprint of a dataset: the numbers that its plan follows from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from medseg.config.base import Spec
from medseg.data.cases import Case
from medseg.data.curation.case_statistics import CaseStatistics, measuring_job, total_counts
from medseg.data.labels.label_plan import LabelPlan
from medseg.data.labels.schema import LabelSchema
from medseg.data.parallel import run_jobs
from medseg.data.preprocessing.modality import is_ct
from medseg.data.scans import Kind
from medseg.planning.nnunet_rules import edge_ratio
from medseg.planning.structures import CaseStructures, Structure, StructureMeasuring

SAMPLED_CASES = 12
"""Cases whose structures are measured."""
_SAMPLED_VOXELS = 300e6
"""Voxels after which no more cases are sampled."""

_MOST_GUESSED_CLASSES = 64
"""Number of values that are taken for classes where no names are declared."""

Modality = Literal["ct", "color", "gray", "other"]


class ClassFingerprint(Spec):
    """One class of a dataset, without the background.

    Attributes:
        name: of the label.
        voxel_share: share of the labeled voxels of the cases that contain it.
        case_share: share of the cases that contain it.
        components: median number of connected components in a case; None if it is in no sampled case.
        component_voxels: median size of a component.
        radius: median radius of the largest balls inside it, voxels.
        radius_ratio: ratio of the 90th to the 10th percentile of the radius over the cases.
        center: mean position along each axis, from 0 to 1, over the cases.
        center_spread: standard deviation of the position over the cases.
        extent: median share of each axis that it spans.
    """

    name: str
    voxel_share: float
    case_share: float
    components: float | None = None
    component_voxels: float | None = None
    radius: float | None = None
    radius_ratio: float | None = None
    center: tuple[float, ...] = ()
    center_spread: tuple[float, ...] = ()
    extent: tuple[float, ...] = ()


class Fingerprint(Spec):
    """Measurements of a dataset. Axes of volumes run to the right, anterior and superior.

    Attributes:
        kind: volumes or pictures.
        modality: ``ct``, ``color`` (pictures of three channels), ``gray`` (other pictures) or ``other``.
        cases: number of cases with labels.
        channels: of the images.
        spacings: of each case, mm.
        shapes: of each case, voxels.
        intensities: 0.5th, 50th and 99.5th percentile of the foreground.
        nonzero_share: median share of a scan's voxels that are not 0.
        classes: the labels, without the background.
        background: whether the first label is background.
        sampled: number of cases whose structures were measured.
        background_radius: median thickness of the background of pictures, pixels; None if it was not measured.
        separated: whether the structures are objects that are separated.
    """

    kind: Kind
    modality: Modality
    cases: int
    channels: int
    spacings: tuple[tuple[float, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    intensities: tuple[float, float, float] | None
    nonzero_share: float
    classes: tuple[ClassFingerprint, ...]
    background: bool = True
    sampled: int = 0
    background_radius: float | None = None
    separated: bool = False

    @property
    def median_shape(self) -> tuple[float, ...]:
        """Median number of voxels along each axis."""
        return tuple(float(n) for n in np.median(self.shapes, axis=0))

    @property
    def median_spacing(self) -> tuple[float, ...]:
        """Median spacing along each axis, mm."""
        return tuple(float(s) for s in np.median(self.spacings, axis=0))

    @property
    def anisotropy(self) -> float:
        """Ratio of the coarsest to the finest median spacing."""
        return edge_ratio(self.median_spacing)

    @property
    def num_labels(self) -> int:
        """Number of labels, the background included."""
        return len(self.classes) + self.background

    @property
    def imbalance(self) -> float:
        """Ratio of the most frequent to the rarest class, in voxels of the cases that contain them."""
        shares = [one.voxel_share for one in self.classes if one.voxel_share > 0]
        return max(shares) / min(shares) if shares else 1.0

    @property
    def rarest(self) -> ClassFingerprint:
        """The class with the smallest share of voxels."""
        return min(self.classes, key=lambda one: one.voxel_share)

    @property
    def radius(self) -> float | None:
        """Radius of the class of median thickness (of two, the thinner), voxels; None if none was measured."""
        radii = sorted(one.radius for one in self.classes if one.radius)
        return radii[(len(radii) - 1) // 2] if radii else None

    @property
    def thinnest(self) -> float | None:
        """Radius of the thinnest class, the background included, voxels; None if none was measured."""
        radii = [one.radius for one in self.classes if one.radius]
        if self.background_radius:
            radii.append(self.background_radius)
        return min(radii, default=None)


def measure_fingerprint(statistics: Sequence[CaseStatistics], plan: LabelPlan) -> Fingerprint:
    """Combine the statistics of all cases with the structures of a sample of them, measured in parallel.

    Args:
        statistics: of the cases of ``plan``, in the same order.
        plan: how the labels are read.
    """
    labels = plan.resolve(total_counts(statistics)).schema
    sampled = sample_cases(plan.cases, statistics)
    jobs = [measuring_job(case) for case in sampled]
    structures = run_jobs(StructureMeasuring(plan.reader, labels), jobs)
    separated = plan.reader.instances is not None
    return combine(statistics, labels, structures).model_copy(update={"separated": separated})


def number_instances(statistics: Sequence[CaseStatistics]) -> bool:
    """Whether the values of the label files number objects instead of naming classes.

    This is assumed if there are more than 64 values, and the values of most cases run from 1 to a number that
    differs between the cases.
    """
    if len(total_counts(statistics)) <= _MOST_GUESSED_CLASSES:
        return False
    values = [sorted(set(one.label_counts) - {0}) for one in statistics if len(one.label_counts) > 1]
    consecutive = [len(found) for found in values if found[0] == 1 and found[-1] == len(found)]
    return len(consecutive) > len(values) / 2 and len(set(consecutive)) > len(consecutive) / 4


def sample_cases(cases: Sequence[Case], statistics: Sequence[CaseStatistics]) -> list[Case]:
    """Choose cases evenly from the list, up to a number of cases and of voxels, at least one."""
    count = min(SAMPLED_CASES, len(cases))
    chosen: list[Case] = []
    voxels = 0.0
    for index in dict.fromkeys(np.linspace(0, len(cases) - 1, count).round().astype(int).tolist()):
        voxels += float(np.prod(statistics[index].shape, dtype=np.float64))
        if chosen and voxels > _SAMPLED_VOXELS:
            break
        chosen.append(cases[index])
    return chosen


def combine(
    statistics: Sequence[CaseStatistics], labels: LabelSchema, structures: Sequence[CaseStructures]
) -> Fingerprint:
    """Compute the fingerprint from the measurements of the cases."""
    foreground = np.array([value for one in statistics for value in one.foreground])
    low, middle, high = np.percentile(foreground, (0.5, 50, 99.5)) if foreground.size else (0.0, 0.0, 0.0)
    backgrounds = [one.background_radius for one in structures if one.background_radius]
    counts = np.array([_class_counts(one, labels) for one in statistics], dtype=np.float64)
    names = list(labels.names)
    classes = [
        _class_fingerprint(names[i], counts[:, i], counts.sum(axis=1), structures)
        for i in range(labels.first_evaluated, len(names))
    ]
    return Fingerprint(
        kind=statistics[0].kind,
        modality=_modality(statistics),
        cases=len(statistics),
        channels=max(one.channels for one in statistics),
        spacings=tuple(one.spacing for one in statistics),
        shapes=tuple(one.shape for one in statistics),
        intensities=(float(low), float(middle), float(high)) if foreground.size else None,
        nonzero_share=float(np.median([one.nonzero_share for one in structures])) if structures else 1.0,
        classes=tuple(classes),
        background=labels.background,
        sampled=len(structures),
        background_radius=float(np.median(backgrounds)) if backgrounds else None,
    )


def _class_counts(one: CaseStatistics, labels: LabelSchema) -> list[int]:
    """Return the voxels of each class in a case."""
    counts = one.label_counts
    if labels.collapse_instances:
        background = sum(counts.get(v, 0) for v in next(iter(labels.names.values())))
        ignored = counts.get(labels.ignore_value, 0) if labels.ignore_value is not None else 0
        return [background, sum(counts.values()) - background - ignored]
    return [sum(counts.get(v, 0) for v in values) for values in labels.names.values()]


def _class_fingerprint(
    name: str, voxels: np.ndarray, totals: np.ndarray, structures: Sequence[CaseStructures]
) -> ClassFingerprint:
    holds = voxels > 0
    share = float(voxels[holds].sum() / totals[holds].sum()) if holds.any() else 0.0
    fields: dict[str, object] = {"name": name, "voxel_share": share, "case_share": float(holds.mean())}
    measured = [one.classes[name] for one in structures if name in one.classes]
    return ClassFingerprint.model_validate(fields | (_combine_structures(measured) if measured else {}))


def _combine_structures(measured: Sequence[Structure]) -> dict[str, object]:
    radii = np.array([one.radius for one in measured])
    low, high = np.percentile(radii, (10, 90))
    centers = np.array([one.center for one in measured])
    return {
        "components": float(np.median([one.components for one in measured])),
        "component_voxels": float(np.median([one.component_voxels for one in measured])),
        "radius": float(np.median(radii)),
        "radius_ratio": float(high / low) if low > 0 else 1.0,
        "center": tuple(centers.mean(axis=0).tolist()),
        "center_spread": tuple(centers.std(axis=0).tolist()),
        "extent": tuple(np.median([one.extent for one in measured], axis=0).tolist()),
    }


def _modality(statistics: Sequence[CaseStatistics]) -> Modality:
    if statistics[0].kind == "picture":
        return "color" if max(one.channels for one in statistics) == 3 else "gray"
    return "ct" if is_ct(statistics) else "other"
