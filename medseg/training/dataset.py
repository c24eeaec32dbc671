"""From settings to a dataset ready to train on: found, checked, split, labelled."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.config import RunConfig
from medseg.data.cases import Case, Part, find_cases, join_problems
from medseg.data.facts import CaseFacts, gather_facts, total_counts
from medseg.data.labels import Labels, describe_unnamed, guess_labels
from medseg.data.normalise import CT
from medseg.data.preprocess import PreprocessConfig
from medseg.errors import ConfigError, DataError
from medseg.task import Task


@dataclass(frozen=True)
class Dataset:
    """A checked dataset.

    Attributes:
        cases, facts: in one order.
        split: case id → part.
        labels: with every name, and regions where a sigmoid is trained.
        channels: of the network's input.
        preprocess: with every number fitted on the training cases.
    """

    cases: list[Case]
    facts: list[CaseFacts]
    split: dict[str, Part]
    labels: Labels
    channels: int
    preprocess: PreprocessConfig

    def part(self, part: Part) -> tuple[list[Case], list[CaseFacts]]:
        """The cases and facts of one part."""
        kept = [i for i, case in enumerate(self.cases) if self.split[case.id] == part]
        return [self.cases[i] for i in kept], [self.facts[i] for i in kept]

    def task(self, spatial_dims: int) -> Task:
        """What a network for this dataset is built for."""
        dims = 2 if spatial_dims == 2 else 3
        return Task(dims, self.channels, self.labels.num_classes, self.labels.activation)

    def record(self) -> list[dict[str, object]]:
        """One entry a case for ``cases.json``: id, part, files and their hashes."""
        return [
            {
                "id": case.id,
                "part": self.split[case.id],
                "image": str(case.image.resolve()),
                "label": str(case.label.resolve()) if case.label else None,
                "image_sha256": fact.image_sha256,
                "label_sha256": fact.label_sha256,
            }
            for case, fact in zip(self.cases, self.facts, strict=True)
        ]


def survey(config: RunConfig, store: Path) -> Dataset:
    """Find, check and split the cases of ``config.data.path``; what was measured is kept in ``store``.

    Raises: ConfigError if settings and data contradict each other; DataError listing every faulty case.
    """
    if config.data.path is None:
        raise ConfigError("data.path is not set: name the folder of cases, e.g. data.path=FOLDER")
    cases = find_cases(config.data.path, label_suffix=config.data.label_suffix)
    split = config.data.split.assign(cases)
    facts = gather_facts(cases, store)
    _check_dimensions(config, facts)
    labels = _labels(config, facts)
    _check_label_values(cases, facts, labels)
    channels = config.data.channels or max(f.channels for f in facts)
    training = [f for f in facts if split[f.id] == "train"]
    preprocess = _fitted(config.preprocess, training, channels)
    return Dataset(cases, facts, split, labels, channels, preprocess)


def quick_facts(cases: list[Case]) -> list[CaseFacts]:
    """Facts of cases, kept nowhere."""
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        return gather_facts(cases, Path(folder))


def _check_dimensions(config: RunConfig, facts: list[CaseFacts]) -> None:
    dims = 2 if facts[0].kind == "picture" else 3
    if dims != config.spatial_dims:
        raise ConfigError(
            f"spatial_dims is {config.spatial_dims}, but {config.data.path} holds {facts[0].kind}s, which "
            f"have {dims} axes. Set spatial_dims={dims}."
        )


def _labels(config: RunConfig, facts: list[CaseFacts]) -> Labels:
    labels = config.data.declared_labels()
    if labels is None:
        values = set(total_counts(facts)) - {config.data.ignore_value}
        guessed = guess_labels({v for v in values if v is not None})
        labels = guessed.model_copy(update={"ignore_value": config.data.ignore_value})
    if config.activation == "sigmoid" and not labels.regions:
        alone = {name: (name,) for name in list(labels.names)[1:]}
        labels = Labels.model_validate(labels.model_dump() | {"regions": alone})
    return labels


def _check_label_values(cases: list[Case], facts: list[CaseFacts], labels: Labels) -> None:
    problems: list[str] = []
    known = {v for group in labels.names.values() for v in group} | {labels.ignore_value}
    for case, fact in zip(cases, facts, strict=True):
        unnamed = sorted(set(fact.label_counts) - known)
        if unnamed and not labels.collapse_instances:
            problems.append(f"case {case.id}: {describe_unnamed(unnamed, labels)}")
    if problems:
        raise DataError(join_problems("cases with label values nobody named", problems))


def _fitted(preprocess: PreprocessConfig, facts: list[CaseFacts], channels: int) -> PreprocessConfig:
    if not isinstance(preprocess.normalise, CT):
        return preprocess
    if channels != 1:
        raise ConfigError(f"ct normalisation is for one channel, the images have {channels}; use zscore")
    foreground = np.array([v for fact in facts for v in fact.foreground])
    if foreground.size == 0:
        raise ConfigError("ct normalisation: no labelled voxels to fit it on; give low, high, mean and std")
    return preprocess.model_copy(update={"normalise": preprocess.normalise.fitted(foreground)})
