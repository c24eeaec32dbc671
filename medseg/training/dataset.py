"""From settings to a dataset ready to train on: found, checked, split, labeled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.config.schema import RunConfig
from medseg.data.cases import Case, Part, join_problems, with_patient
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
from medseg.data.curation.splits import FileSplit, Split, leaks
from medseg.data.labels.label_plan import LabelDeclarations, LabelPlan, plan_labels
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema, describe_undeclared
from medseg.data.layouts import DatasetListing, find_dataset
from medseg.data.preprocessing.normalization import CT
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, DataError
from medseg.inference.model.model_file import task_for
from medseg.task import Task
from medseg.training.progress import Count
from medseg.training.run_folder.case_record import CaseRecord, Fitted, stated_parts

_HARMLESS_PATCH, _PATCH_MULTIPLE, _MOST_PADDED = 64**3, 32, 8
"""A patch of this many voxels is never too large; networks need multiples of up to 32 voxels along an axis; a
patch that is still more than eight times as large as the cases is a mistake.
"""
MOST_MAGNIFIED = 1000
"""A spacing that makes more voxels of each than this is a mistake."""


@dataclass(frozen=True)
class Dataset:
    """A checked dataset.

    Attributes:
        cases, facts: in one order.
        split: case id → part.
        labels: with every name, and regions where a sigmoid is trained.
        channels: of the network's input.
        preprocess: with every number fitted on the training cases.
        label_reader: how label files are read.
        layout: the layout found, in one line, and a line for each thing to know about the dataset.
        changes: what changed since the run began that is continued, one line each.
    """

    cases: list[Case]
    facts: list[CaseStatistics]
    split: dict[str, Part]
    labels: LabelSchema
    channels: int
    preprocess: PreprocessConfig
    label_reader: LabelReader = AS_STORED
    layout: str = ""
    changes: tuple[str, ...] = ()

    def part(self, part: Part) -> tuple[list[Case], list[CaseStatistics]]:
        """The cases and facts of one part."""
        kept = [i for i, case in enumerate(self.cases) if self.split[case.id] == part]
        return [self.cases[i] for i in kept], [self.facts[i] for i in kept]

    def task(self, spatial_dims: int) -> Task:
        """What a network for this dataset is built for."""
        return task_for(spatial_dims, self.channels, self.labels, self.preprocess)

    def record(self) -> list[dict[str, object]]:
        """One entry a case for ``cases.json``: id, part, files and their hashes."""
        return [
            {
                "id": case.id,
                "part": self.split[case.id],
                "image": str(case.image.resolve()),
                "other_channels": [str(path.resolve()) for path in case.other_channels],
                "label": str(case.label.resolve()) if case.label else None,
                "masks": {name: str(path.resolve()) for name, path in case.masks.items()},
                "image_sha256": fact.image_sha256,
                "label_sha256": fact.label_sha256,
            }
            for case, fact in zip(self.cases, self.facts, strict=True)
        ]

    def fitted(self) -> Fitted:
        """What a run keeps of its dataset while it goes on."""
        return Fitted(labels=self.labels, channels=self.channels, preprocess=self.preprocess)


@dataclass(frozen=True)
class Continued:
    """The run that is continued: its cases, and what was fitted on them when it began."""

    record: CaseRecord
    fitted: Fitted | None = None


def survey(
    config: RunConfig,
    store: Path,
    say: Callable[[str], None] = lambda text: None,
    continued: Continued | None = None,
) -> Dataset:
    """Find, check and split the cases of ``config.data.path``; what was measured is kept in ``store``.

    A run that is continued keeps its split and what was fitted when it began. ``say`` is given a
    line now and then where it takes long.

    Raises: ConfigError if settings and data contradict each other; DataError listing every faulty case, or
    what changed since the run began that is continued.
    """
    found, plan = find(config)
    cases = plan.cases
    facts = collect_statistics(
        cases, store, plan.reader, plan.foreground, progress=Count(say, "checking the cases", len(cases))
    )
    _check_dimensions(config, facts)
    _check_spacing(config.preprocess, facts)
    labels, notes = _labels(config, facts, plan)
    copies = find_copies(facts)
    split, changes = _split(config, cases, facts, labels, copies, continued)
    cases, facts = [c for c in cases if c.id in split], [f for f in facts if f.id in split]
    check_sides(copies, split)
    _refuse_leaks(cases, split)
    _check_label_values(cases, facts, labels)
    notes += [describe_copies(copies, config.data.duplicates)] if copies else []
    channels = config.data.channels or max(f.channels for f in facts)
    training = [f for f in facts if split[f.id] == "train"]
    if continued is not None and continued.fitted is not None:
        continued.fitted.check(labels, channels)
        preprocess = continued.fitted.preprocess
    else:
        preprocess = _fitted(config.preprocess, training, channels)
    layout = "\n".join([found.describe(), *notes])
    return Dataset(cases, facts, split, labels, channels, preprocess, plan.reader, layout, tuple(changes))


def _split(
    config: RunConfig,
    cases: list[Case],
    facts: list[CaseStatistics],
    labels: LabelSchema,
    copies: list[list[str]],
    continued: Continued | None,
) -> tuple[Split, list[str]]:
    """The part of each case, without copies that are dropped, and what changed since the run began."""
    duplicates = config.data.duplicates
    if duplicates == "refuse":
        check_copies(copies)
    if continued is None:
        holders = {fact.id: label_names(fact, labels) for fact in facts}
        if duplicates == "drop" and isinstance(config.data.split, FileSplit):  # of a run that dropped them
            dropped = unrecorded_copies(copies, config.data.split.parts())
            cases = [case for case in cases if case.id not in dropped]
        split = config.data.split.assign(bind_copies(cases, copies), holders)
        dropped = surplus_copies(copies, split) if duplicates == "drop" else set[str]()
        return {name: part for name, part in split.items() if name not in dropped}, []
    stated = stated_parts(cases, config.data.split)
    if duplicates == "drop":
        dropped = unrecorded_copies(copies, continued.record.cases)
        cases, facts = [c for c in cases if c.id not in dropped], [f for f in facts if f.id not in dropped]
    changes = continued.record.changes(cases, facts, stated)
    return continued.record.split(cases, facts, stated), changes


def find(config: RunConfig) -> tuple[DatasetListing, LabelPlan]:
    """The cases of ``config.data.path``, and how their labels are read.

    Raises: ConfigError if no path is set or the statements about labels contradict each other; DataError if
    the cases cannot be found or lack files.
    """
    if config.data.path is None:
        raise ConfigError("data.path is not set: name the folder of cases, e.g. data.path=FOLDER")
    options = config.data.layout
    found = find_dataset(config.data.path, options)
    found = (found.labeled() if config.data.unlabeled == "leave_out" else found).checked()
    if not found.cases:
        raise DataError(f"{config.data.path}: no image there has a label map")
    cases = [with_patient(case, config.data.patient) for case in found.cases]
    declarations = LabelDeclarations(config.data.labels, layout=found.labels)
    return found, plan_labels(cases, declarations, folder=config.data.path)


def label_names(fact: CaseStatistics, labels: LabelSchema) -> frozenset[str]:
    """The labels that a case holds, by name, the background left out."""
    held = {n for n, values in labels.names.items() if any(v in fact.label_counts for v in values)}
    return frozenset(held - {next(iter(labels.names))})


def _refuse_leaks(cases: list[Case], split: dict[str, Part]) -> None:
    found = leaks(cases, split)
    if found:
        lines = [f"patient {patient}: {', '.join(parts)}" for patient, parts in found.items()]
        way_out = "put all cases of a patient into one part"
        raise DataError(join_problems(f"patients in more than one part of the split ({way_out})", lines))


def quick_facts(plan: LabelPlan, cache: Path | None = None) -> list[CaseStatistics]:
    """Facts of cases, kept in a cache folder or nowhere."""
    if cache is not None:
        return collect_statistics(plan.cases, cache / "facts", plan.reader, plan.foreground)
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        return collect_statistics(plan.cases, Path(folder), plan.reader, plan.foreground)


def _check_dimensions(config: RunConfig, facts: list[CaseStatistics]) -> None:
    dims = 2 if facts[0].kind == "picture" else 3
    sliced = config.preprocess.slices is not None
    if sliced and dims == 2:
        raise ConfigError(
            f"preprocess.slices cuts volumes, but {config.data.path} holds pictures; leave it out"
        )
    if dims == 3 and config.spatial_dims == 2 and not sliced:
        raise ConfigError(
            f"spatial_dims is 2, but {config.data.path} holds volumes. Set preprocess.slices.axis (2: axial in "
            "RAS) to train on their slices, or spatial_dims=3."
        )
    if dims != config.spatial_dims and not sliced:
        raise ConfigError(
            f"spatial_dims is {config.spatial_dims}, but {config.data.path} holds {facts[0].kind}s, which "
            f"have {dims} axes. Set spatial_dims={dims}."
        )


def _check_spacing(preprocess: PreprocessConfig, facts: list[CaseStatistics]) -> None:
    """Raises: ConfigError for a spacing at which a case has less than a voxel, or a thousand times as many."""
    wanted = preprocess.spacing
    if wanted is None:
        return
    for fact in facts:
        extents = np.array(fact.shape) * fact.spacing
        if len(wanted) != len(extents):
            continue  # said when the case is prepared
        voxels = np.prod(extents / wanted) / np.prod(fact.shape)
        if voxels > MOST_MAGNIFIED or (preprocess.orientation == "RAS" and (extents * 10 < wanted).any()):
            shown = ["×".join(f"{v:.4g}" for v in values) for values in (wanted, fact.spacing, extents)]
            raise ConfigError(
                f"preprocess.spacing {shown[0]} does not fit case {fact.id}, whose voxels are {shown[1]} and "
                f"whose extent is {shown[2]} (mm): it would have {voxels:.3g} times as many voxels. Choose "
                "a spacing near the cases' own, or leave it out."
            )


def check_patch_size(patch: Sequence[int], shapes: Sequence[Sequence[int]]) -> None:
    """Check that patches are not almost entirely padding.

    ``shapes`` (*S) are of the preprocessed cases; of slices, the first axis counts them.
    Raises: ConfigError if ``patch`` is far larger than every case.
    """
    largest = np.max([shape[-len(patch) :] for shape in shapes], axis=0)
    padded = np.ceil(largest / _PATCH_MULTIPLE) * _PATCH_MULTIPLE
    excess = float(np.prod(np.maximum(np.array(patch, float) / padded, 1)))
    if excess > _MOST_PADDED and float(np.prod(np.array(patch, float))) > _HARMLESS_PATCH:
        sizes = ["×".join(str(int(n)) for n in size) for size in (patch, largest)]
        raise ConfigError(
            f"sampling.patch_size {sizes[0]} is far larger than the preprocessed cases, of at most {sizes[1]} "
            f"voxels: nearly all of it would be padding. Choose at most about {sizes[1]}, rounded up to what "
            "the network's strides need."
        )


def _labels(config: RunConfig, facts: list[CaseStatistics], plan: LabelPlan) -> tuple[LabelSchema, list[str]]:
    """The labels, and what the user should know about their names."""
    resolved = plan.resolve(total_counts(facts))
    labels = resolved.schema
    if config.activation == "sigmoid" and not labels.regions:
        alone = {name: (name,) for name in list(labels.names)[1:]}
        labels = LabelSchema.model_validate(labels.model_dump() | {"regions": alone})
    return labels, [resolved.note] if resolved.note else []


def _check_label_values(cases: list[Case], facts: list[CaseStatistics], labels: LabelSchema) -> None:
    problems: list[str] = []
    for case, fact in zip(cases, facts, strict=True):
        unnamed = sorted(v for v in fact.label_counts if labels.is_undeclared(v))
        if unnamed:
            message, hint = describe_undeclared(unnamed, labels)
            problems.append(f"case {case.id}: {message}. {hint}")
    if problems:
        raise DataError(join_problems("cases with undeclared label values", problems))


def _fitted(preprocess: PreprocessConfig, facts: list[CaseStatistics], channels: int) -> PreprocessConfig:
    if not isinstance(preprocess.normalize, CT):
        return preprocess
    if channels != 1:
        raise ConfigError(f"ct normalization is for one channel, the images have {channels}; use zscore")
    foreground = np.array([v for fact in facts for v in fact.foreground])
    if foreground.size == 0:
        raise ConfigError("ct normalization: no labeled voxels to fit it on; give low, high, mean and std")
    return preprocess.model_copy(update={"normalize": preprocess.normalize.fit(foreground)})
