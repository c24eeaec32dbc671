"""From settings to a dataset that is ready to train on: discovered, measured, checked, split, labeled."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medseg.data.cases import Case, Part, with_patient
from medseg.data.curation.case_statistics import CaseStatistics, collect_statistics, total_counts
from medseg.data.curation.duplicates import (
    bind_copies,
    check_copies,
    check_sides,
    describe_copies,
    find_copies,
    surplus_copies,
    unrecorded_copies,
)
from medseg.data.curation.label_findings import stray_value_findings
from medseg.data.curation.splits import FileSplit, Split
from medseg.data.labels.label_plan import LabelDeclarations, LabelPlan, plan_labels
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import DatasetListing, find_dataset
from medseg.data.loading.cache.cached_cases import CachedCase, cache_cases
from medseg.data.loading.cache.settings import CacheSettings
from medseg.data.options import DataConfig
from medseg.data.preprocessing.masks import mask_count
from medseg.data.preprocessing.normalization import CT
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, DataError
from medseg.inference.model.model_file import task_for
from medseg.progress import Progress, QuietProgress, stage
from medseg.task import Activation, Task
from medseg.training.dataset.checks import (
    check_dimensions,
    check_label_values,
    check_patch_fits_cases,
    check_patients,
    check_spacing,
)
from medseg.training.distributed.ranks import ONE_PROCESS, Ranks
from medseg.training.run_folder.case_record import CaseRecord, FittedSettings, declared_parts


@dataclass(frozen=True)
class NetworkNeeds:
    """What the network asks of a dataset.

    Attributes:
        spatial_dims: 2 or 3.
        patch_size: voxels of a training patch.
        activation: ``sigmoid`` makes a region of every label; if None, the labels decide.
    """

    spatial_dims: int
    patch_size: tuple[int, ...]
    activation: Activation | None = None


@dataclass(frozen=True)
class PreparedDataset:
    """A checked dataset.

    Attributes:
        cases: the cases.
        statistics: of the cases, in the same order.
        split: case id → part.
        labels: all label names, with regions where a sigmoid is trained.
        channels: of the input of the network.
        preprocess: with every number that is fitted on the training cases.
        label_reader: how label files are read.
        summary: the layout and the number of cases, then one line for each note about the dataset.
        warnings: what is probably a mistake in the dataset, one line each.
        changes: what changed since the start of the run that is resumed, one line each.
    """

    cases: list[Case]
    statistics: list[CaseStatistics]
    split: dict[str, Part]
    labels: LabelSchema
    channels: int
    preprocess: PreprocessConfig
    label_reader: LabelReader = AS_STORED
    summary: str = ""
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def part(self, part: Part) -> tuple[list[Case], list[CaseStatistics]]:
        """Return the cases of one part and their statistics."""
        kept = [i for i, case in enumerate(self.cases) if self.split[case.id] == part]
        return [self.cases[i] for i in kept], [self.statistics[i] for i in kept]

    def task(self, spatial_dims: int, *, masks: bool = False) -> Task:
        """Return the task that a network for this dataset is built for; ``masks``: with masks as channels."""
        count = mask_count(self.labels) if masks else 0
        return task_for(spatial_dims, self.channels, self.labels, self.preprocess, count)

    @property
    def cache_settings(self) -> CacheSettings:
        """What the content of a cached case depends on, in addition to its files."""
        return CacheSettings(self.labels, self.preprocess, self.channels, self.label_reader)

    def case_entries(self) -> list[dict[str, object]]:
        """Return one entry per case for ``cases.json``: id, part, files and their hashes."""
        return [
            {
                "id": case.id,
                "part": self.split[case.id],
                "image": str(case.image.resolve()),
                "other_channels": [str(path.resolve()) for path in case.other_channels],
                "label": str(case.label.resolve()) if case.label else None,
                "masks": {name: str(path.resolve()) for name, path in case.masks.items()},
                "image_sha256": statistics.image_sha256,
                "label_sha256": statistics.label_sha256,
            }
            for case, statistics in zip(self.cases, self.statistics, strict=True)
        ]

    def fitted(self) -> FittedSettings:
        """Return what a run keeps of its dataset until its end."""
        return FittedSettings(labels=self.labels, channels=self.channels, preprocess=self.preprocess)


@dataclass(frozen=True)
class ResumedRun:
    """The run that is resumed: its cases, and what was fitted on them at its start."""

    record: CaseRecord
    fitted: FittedSettings | None = None


@dataclass(frozen=True)
class CachedDataset:
    """The preprocessed cases to train on and to validate on, and images without labels."""

    train: list[CachedCase]
    val: list[CachedCase]
    unlabeled: list[CachedCase] = field(default_factory=list[CachedCase])


def prepare_dataset(
    data: DataConfig,
    preprocess: PreprocessConfig,
    needs: NetworkNeeds,
    store: Path,
    *,
    resumed: ResumedRun | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ONE_PROCESS,
) -> PreparedDataset:
    """Find, measure, check and split the cases of ``data.path``.

    Args:
        data: where the cases are and what their labels mean.
        preprocess: how scans are preprocessed.
        needs: what the network asks of the dataset.
        store: folder that keeps the statistics of the cases.
        resumed: if given, every case keeps its part of the split, and the fitted settings are kept.
        progress: receives the measured cases.
        ranks: processes that share the measurements.

    Raises:
        ConfigError: if settings and data contradict each other.
        DataError: that lists every faulty case, or what changed since the start of the resumed run.
    """
    listing, plan = find_labeled_cases(data)
    cases = plan.cases
    ranks.divide(cases, lambda part: collect_statistics(part, store, plan.reader, plan.foreground))
    with stage(progress or QuietProgress(), len(cases), "checking cases") as shown:
        statistics = collect_statistics(cases, store, plan.reader, plan.foreground, progress=shown)
    check_dimensions(needs.spatial_dims, preprocess, statistics[0], dataset_folder(data))
    check_spacing(preprocess, statistics)
    labels, notes, warnings = _resolve_labels(needs.activation, statistics, plan)
    copies = find_copies(statistics)
    split, changes = _split_cases(data, cases, statistics, labels, copies, resumed)
    cases, statistics = [c for c in cases if c.id in split], [s for s in statistics if s.id in split]
    check_sides(copies, split)
    check_patients(cases, split)
    check_label_values(statistics, labels)
    notes += [describe_copies(copies, data.duplicates)] if copies else []
    channels = data.channels or max(one.channels for one in statistics)
    training = [one for one in statistics if split[one.id] == "train"]
    if not training:
        raise DataError("the split leaves no case to train on")
    check_patch_fits_cases(needs.patch_size, preprocess, training)
    if resumed is not None and resumed.fitted is not None:
        resumed.fitted.check(labels, channels)
        preprocess = resumed.fitted.preprocess
    else:
        preprocess = _fit_normalization(preprocess, training, channels)
    return PreparedDataset(
        cases, statistics, split, labels, channels, preprocess,
        label_reader=plan.reader, summary="\n".join([listing.describe(), *notes]),
        warnings=tuple(warnings), changes=tuple(changes),
    )  # fmt: skip


def cache_dataset(
    dataset: PreparedDataset,
    folder: Path,
    progress: Progress,
    *,
    limit: int | None = None,
    ranks: Ranks = ONE_PROCESS,
) -> CachedDataset:
    """Preprocess the training and validation cases that are not in the cache yet, and open all of them.

    Args:
        dataset: the dataset.
        folder: of the cache.
        progress: receives the preprocessed cases.
        limit: number of cases of each part; if None, all.
        ranks: processes that share the work.

    Raises:
        DataError: that names the case that cannot be prepared.
    """
    settings = dataset.cache_settings

    def cached(part: Part, description: str) -> list[CachedCase]:
        cases, statistics = dataset.part(part)
        cases, statistics = cases[:limit], statistics[:limit]
        pairs = list(zip(cases, statistics, strict=True))
        ranks.divide(
            pairs, lambda own: cache_cases([one for one, _ in own], [one for _, one in own], settings, folder)
        )
        with stage(progress, len(cases), description) as shown:
            return cache_cases(cases, statistics, settings, folder, shown)

    return CachedDataset(
        cached("train", "preparing training cases"), cached("val", "preparing validation cases")
    )


def find_labeled_cases(data: DataConfig) -> tuple[DatasetListing, LabelPlan]:
    """Find the cases of ``data.path``, and decide how their labels are read.

    Raises:
        ConfigError: if no path is set, or the settings of the labels contradict each other.
        DataError: if the cases cannot be found or lack files.
    """
    folder = dataset_folder(data)
    listing = find_dataset(folder, data.layout)
    listing = (listing.labeled() if data.unlabeled == "leave_out" else listing).checked()
    if not listing.cases:
        raise DataError(f"{folder}: no image has a label map", path=folder)
    cases = [with_patient(case, data.patient) for case in listing.cases]
    declarations = LabelDeclarations(data.labels, layout=listing.labels, instances=data.instances)
    return listing, plan_labels(cases, declarations, folder=folder)


def dataset_folder(data: DataConfig) -> Path:
    """Return ``data.path``.

    Raises:
        ConfigError: if it is not set.
    """
    if data.path is None:
        raise ConfigError("data.path is not set", hint="Set the folder of cases, for example data.path=FOLDER.")
    return data.path


def label_names(statistics: CaseStatistics, labels: LabelSchema) -> frozenset[str]:
    """Return the names of the labels in a case, without the background."""
    held = {n for n, values in labels.names.items() if any(v in statistics.label_counts for v in values)}
    return frozenset(held - {next(iter(labels.names))})


def measure_cases(plan: LabelPlan, cache: Path | None = None) -> list[CaseStatistics]:
    """Measure cases; the statistics are kept in a cache folder, if there is one."""
    if cache is not None:
        return collect_statistics(plan.cases, cache / "facts", plan.reader, plan.foreground)
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        return collect_statistics(plan.cases, Path(folder), plan.reader, plan.foreground)


def _split_cases(
    data: DataConfig,
    cases: list[Case],
    statistics: list[CaseStatistics],
    labels: LabelSchema,
    copies: list[list[str]],
    resumed: ResumedRun | None,
) -> tuple[Split, list[str]]:
    """Return the part of each case that takes part, and what changed since the start of the run."""
    if data.duplicates == "refuse":
        check_copies(copies)
    if resumed is None:
        return _new_split(data, cases, statistics, labels, copies), []
    cases, statistics, declared = _taking_part(data, cases, statistics, copies, resumed.record)
    changes = resumed.record.changes(cases, statistics, declared)
    return resumed.record.split(cases, statistics, declared), changes


def changes_since(
    record: CaseRecord, data: DataConfig, cases: list[Case], statistics: list[CaseStatistics]
) -> list[str]:
    """Return what changed in a dataset since a run began, one line each.

    Args:
        record: of the cases of the run.
        data: settings of the run.
        cases: of the dataset now.
        statistics: of these cases, in the same order.
    """
    known, facts, declared = _taking_part(data, cases, statistics, find_copies(statistics), record)
    return replace(record, accept_changes=True).changes(known, facts, declared)


def _taking_part(
    data: DataConfig,
    cases: list[Case],
    statistics: list[CaseStatistics],
    copies: list[list[str]],
    record: CaseRecord,
) -> tuple[list[Case], list[CaseStatistics], Split]:
    """Return the cases that a run may have, their statistics, and the declared parts."""
    declared = declared_parts(_without_unlisted_copies(data, cases, copies), data.split)
    out: set[str] = set()
    if data.duplicates == "drop":
        out |= unrecorded_copies(copies, record.cases)
    if isinstance(data.split, FileSplit) and data.split.unmatched == "leave_out":
        out |= {case.id for case in cases} - declared.keys() - record.cases.keys()
    kept = [i for i, case in enumerate(cases) if case.id not in out]
    return [cases[i] for i in kept], [statistics[i] for i in kept], declared


def _new_split(
    data: DataConfig,
    cases: list[Case],
    statistics: list[CaseStatistics],
    labels: LabelSchema,
    copies: list[list[str]],
) -> Split:
    holders = {one.id: label_names(one, labels) for one in statistics}
    cases = _without_unlisted_copies(data, cases, copies)
    split = data.split.assign(bind_copies(cases, copies), holders)
    dropped = surplus_copies(copies, split) if data.duplicates == "drop" else set[str]()
    return {name: part for name, part in split.items() if name not in dropped}


def _without_unlisted_copies(data: DataConfig, cases: list[Case], copies: list[list[str]]) -> list[Case]:
    """Leave out copies that a split file does not list: the file may be of a run that dropped them."""
    if data.duplicates != "drop" or not isinstance(data.split, FileSplit):
        return cases
    dropped = unrecorded_copies(copies, data.split.parts())
    return [case for case in cases if case.id not in dropped]


def _resolve_labels(
    activation: Activation | None, statistics: list[CaseStatistics], plan: LabelPlan
) -> tuple[LabelSchema, list[str], list[str]]:
    """Return the labels, notes about their names, and warnings about their values."""
    resolved = plan.resolve(total_counts(statistics))
    warnings = [f"{one.message} If so, {one.hint}" for one in stray_value_findings(statistics, resolved)]
    labels = resolved.schema
    if activation == "sigmoid" and not labels.regions:
        regions = {name: (name,) for name in list(labels.names)[1:]}
        labels = LabelSchema.model_validate(labels.model_dump() | {"regions": regions})
    return labels, [resolved.note] if resolved.note else [], warnings


def _fit_normalization(
    preprocess: PreprocessConfig, statistics: list[CaseStatistics], channels: int
) -> PreprocessConfig:
    """Fit the ``ct`` normalization to the labeled voxels of the training cases."""
    if not isinstance(preprocess.normalize, CT):
        return preprocess
    if channels != 1:
        raise ConfigError(
            f"ct normalization is for one channel, the images have {channels}",
            hint="Set preprocess.normalize.name=zscore.",
        )
    foreground = np.array([v for one in statistics for v in one.foreground])
    if foreground.size == 0:
        raise ConfigError(
            "ct normalization: there are no labeled voxels to fit it to",
            hint="Set low, high, mean and std in preprocess.normalize.",
        )
    return preprocess.model_copy(update={"normalize": preprocess.normalize.fit(foreground)})
