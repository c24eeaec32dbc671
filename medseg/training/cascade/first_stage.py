"""The first stage of a cascade: its networks, and the segmentations that the second stage receives."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.config.schema import RunConfig
from medseg.data.cases import PARTS, Case
from medseg.data.curation.duplicates import bind_copies, find_copies
from medseg.data.curation.splits import FileSplit, FoldSplit, Split
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.cache.case_file import CaseFile, read_case_file, write_case_file
from medseg.data.preprocessing.masks import prepare_masks
from medseg.errors import ConfigError, TrainingStopped
from medseg.files import sha256_json, write_json
from medseg.inference.model.model_file import LoadedModel, load_model
from medseg.inference.model.predictor import Predictor
from medseg.models import CustomModelConfig
from medseg.models.pretrained.loading import WeightsConfig
from medseg.progress import Progress, duration, plural, stage
from medseg.training.cascade.options import CascadeConfig
from medseg.training.dataset.preparation import CachedDataset, PreparedDataset
from medseg.training.distributed.ranks import ONE_PROCESS, Ranks
from medseg.training.extensions import Extensions
from medseg.training.pacing.budget_clock import TimeBudget, read_clock
from medseg.training.pacing.replayed_pace import ClockDecisions
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.resume import record_dataset
from medseg.training.tracking.options import TrackingConfig

_LOGGER = logging.getLogger(__name__)

_SEGMENTING = 0.15
"""Share of the first stage's time that is kept for the segmentations of the cases."""


@dataclass(frozen=True)
class FirstStage:
    """The trained first stage.

    Attributes:
        models: its networks.
        masks: case id → file of the mask codes on the grid of the second stage.
    """

    models: tuple[LoadedModel, ...]
    masks: dict[str, CaseFile]

    def add_to(self, cached: CachedDataset) -> CachedDataset:
        """Return the cases with their masks."""

        def with_masks(cases: list[CachedCase]) -> list[CachedCase]:
            return [replace(case, mask_file=self.masks[case.id]) for case in cases]

        return CachedDataset(with_masks(cached.train), with_masks(cached.val))


@dataclass(frozen=True)
class FirstStageTraining:
    """Trains the first stage of a run, or continues with it; everything that is finished is kept.

    Attributes:
        config: the settings of the cascade.
        run_folder: of the cascade; the first stage is in its folder ``first_stage``.
        dataset: of the second stage.
        fit: :func:`medseg.training.fit.fit`, which trains one network; it accepts what this run accepts.
        progress: receives the progress.
        ranks: the processes that train, and share the segmentations.
    """

    config: RunConfig
    run_folder: RunFolder
    dataset: PreparedDataset
    fit: Callable[..., object]
    progress: Progress
    ranks: Ranks = ONE_PROCESS

    def run(self, own: Extensions, budget: TimeBudget | None) -> FirstStage:
        """Train the networks and segment the training and validation cases.

        Args:
            own: the user's own code; the loss and the transforms are used in the first stage, too.
            budget: of both stages; counts the time.

        Raises:
            MedsegError: as :func:`medseg.training.fit.fit`.
        """
        if budget is not None and self.ranks.is_main:
            clocks = self.run_folder.first_stage.glob("*/clock.json")
            budget.follow(self.run_folder.clock, sum(map(read_clock, clocks)))
        files = self.ranks.on_main(self._split_files)
        shared = {"loss": own.loss, "transforms": own.transforms}
        models: list[LoadedModel] = []
        for number, file in enumerate(files):
            model = self._train(number, len(files), file, shared)
            header, weights, digest = load_model(model)
            models.append(LoadedModel(header.model_copy(update={"fingerprint": None}), weights, digest))
        splits = [FileSplit(file=file).parts() for file in files]
        return FirstStage(tuple(models), self._segment(models, splits, budget))

    def _split_files(self) -> list[Path]:
        """Return the files with the split of each network; write those that do not exist or need new cases."""
        folds = _cascade(self.config).folds
        files = [self.run_folder.first_stage / f"split_{i}.json" for i in range(folds)]
        if not all(file.is_file() for file in files):
            record_dataset(self.run_folder, self.dataset)
            splits = out_of_fold_splits(self.dataset, folds, self.config.seed)
            for file, split in zip(files, splits, strict=True):
                _write_split(file, split)
        elif self.dataset.changes:
            splits = extended_splits(self.dataset, [FileSplit(file=file).parts() for file in files])
            waiting = [i for i in range(folds) if not self._network_folder(i).model.is_file()]
            for number in waiting:
                _write_split(files[number], splits[number])
            if waiting:
                record_dataset(self.run_folder, self.dataset, keep_earlier_as="cases-until-step-0.json")
        return files

    def _network_folder(self, number: int) -> RunFolder:
        return RunFolder(self.run_folder.first_stage / f"network_{number}")

    def _train(self, number: int, count: int, split: Path, own: Mapping[str, object]) -> Path:
        """Train one network and return its model file, or the one that exists."""
        folder = self._network_folder(number)
        if folder.model.is_file():
            return folder.model
        _LOGGER.info("first stage: network %d of %d", number + 1, count)
        config = first_stage_config(self.config, split, self.run_folder.cache(self.config))
        decisions = ClockDecisions.read(self.run_folder.replay)
        if decisions is not None:
            decisions.first_stage[number].write(folder.replay)
        try:
            self.fit(config, folder.root, resume="auto", progress=self.progress, **own)
        except TrainingStopped as stop:
            raise TrainingStopped(stop.signal_number, self.run_folder.resume_command) from stop
        return folder.model

    def _segment(
        self, models: Sequence[LoadedModel], splits: Sequence[Split], budget: TimeBudget | None
    ) -> dict[str, CaseFile]:
        """Segment each case with the networks that were not trained on it; with all if there are none."""
        groups: dict[tuple[int, ...], list[tuple[Case, Path]]] = defaultdict(list)
        paths: dict[str, Path] = {}
        masks = self._mask_paths(models)
        own = {case.id for case, _ in self.ranks.share(masks)}
        for case, path in masks:
            unseen = [i for i, split in enumerate(splits) if split.get(case.id) != "train"]
            paths[case.id] = path
            if case.id in own and read_case_file(path) is None:
                groups[tuple(unseen or range(len(models)))].append((case, path))
        count = sum(map(len, groups.values()))
        check = None if budget is None else SegmentationTime(budget, _cascade(self.config).share, count)
        with stage(self.progress, count, "first stage: segmenting cases"):
            for networks, cases in groups.items():
                predictor = Predictor(
                    [models[i] for i in networks],
                    device=str(self.ranks.resolve_device(self.config.train.device)),
                    amp=self.config.train.amp, backend="torch",
                )  # fmt: skip
                for case, path in cases:
                    self._write_masks(predictor, case, path)
                    self.progress.advance()
                    if check is not None and self.ranks.is_main:
                        check.after_case()
        self.ranks.wait()
        files = {case: read_case_file(path) for case, path in paths.items()}
        return {case: file for case, file in files.items() if file is not None}

    def _mask_paths(self, models: Sequence[LoadedModel]) -> list[tuple[Case, Path]]:
        """Return the training and validation cases and the files of their masks."""
        networks, settings = [model.digest for model in models], self.dataset.cache_settings
        folder = self.run_folder.first_stage / "masks"
        paths: list[tuple[Case, Path]] = []
        for part in ("train", "val"):
            for case, statistics in zip(*self.dataset.part(part), strict=True):
                key = sha256_json({"networks": networks, "case": settings.key(statistics)})
                paths.append((case, folder / f"{key[:32]}.safetensors"))
        return paths

    def _write_masks(self, predictor: Predictor, case: Case, path: Path) -> None:
        prediction = predictor.predict(case)
        codes = prepare_masks(
            prediction.label_map, prediction.scan, self.dataset.preprocess, self.dataset.labels
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_case_file(path, {"masks": codes}, {"shape": codes.shape})


class SegmentationTime:
    """Warns if the segmentations of the first stage take time of the second stage.

    Args:
        budget: of both stages.
        share: of the budget that the first stage may take.
        cases: number of cases to segment.
    """

    def __init__(self, budget: TimeBudget, share: float, cases: int) -> None:
        self.budget, self.share, self.cases, self.done, self.began = budget, share, cases, 0, budget.used()

    def after_case(self) -> None:
        """Note the time; the first two cases tell how long all of them take."""
        self.done += 1
        self.budget.note()
        if self.done != min(2, self.cases):
            return
        used = self.budget.used()
        end = used + (self.cases - self.done) * (used - self.began) / self.done
        if end > self.share * self.budget.seconds:
            _LOGGER.warning(
                "the first stage takes until %s of %s, more than its share (cascade.share=%g): the "
                "segmentation of %s takes about %s; the second stage has the rest",
                duration(end), duration(self.budget.seconds), self.share, plural(self.cases, "case"),
                duration(end - self.began),
            )  # fmt: skip


def first_stage_config(config: RunConfig, split: Path, cache: Path) -> RunConfig:
    """Return the settings of a network of the first stage.

    Args:
        config: the settings of the cascade.
        split: file with the split of the network.
        cache: folder of preprocessed cases.

    Raises:
        ConfigError: the second stage has a network of the user's own, and the first stage has none.
    """
    cascade, train = _cascade(config), config.train
    if cascade.model is None and isinstance(config.model, CustomModelConfig):
        raise ConfigError(
            f"the network {config.model.class_name} is used for the second stage of the cascade only",
            hint="Set cascade.model for the first stage.",
        )
    networks = cascade.share * (1 - _SEGMENTING)
    own = {
        "batch_size": cascade.batch_size or train.batch_size,
        "epochs": cascade.epochs or train.epochs,
        "budget": None if train.budget is None else round(train.budget * networks / cascade.folds, 4),
        "tracking": TrackingConfig(),
    }
    changed = config.model_copy(
        update={
            "cascade": None,
            "data": config.data.model_copy(update={"split": FileSplit(file=split.resolve()), "cache": cache}),
            "preprocess": config.preprocess.model_copy(update={"spacing": cascade.spacing}),
            "sampling": config.sampling.model_copy(update={"patch_size": cascade.patch_size}),
            "model": cascade.model or config.model,
            "weights": WeightsConfig(),
            "train": train.model_copy(update=own),
            "inference": config.inference.model_copy(update={"roi_size": None}),
        }
    )
    return RunConfig.model_validate(json.loads(changed.model_dump_json()))


def out_of_fold_splits(dataset: PreparedDataset, folds: int, seed: int) -> list[Split]:
    """Return a split for each network of the first stage.

    The training cases are divided into folds, with all cases of a patient and all copies of an image in the
    same one. Each network has one fold in its test part instead of the training part; the validation and test
    cases stay where they are. With one fold, the split is that of the dataset.

    Raises:
        ConfigError: there are fewer patients than folds.
    """
    if folds == 1:
        return [dict(dataset.split)]
    training = bind_copies(dataset.part("train")[0], find_copies(dataset.statistics))
    patients = {case.patient or case.id for case in training}
    if len(patients) < folds:
        raise ConfigError(
            f"cascade.folds={folds}: the training part has {plural(len(patients), 'patient')}",
            hint=f"Set cascade.folds={len(patients)}.",
        )
    splits: list[Split] = []
    for fold in range(folds):
        assigned = FoldSplit(folds=folds, fold=fold, seed=seed).assign(training)
        held_out = {case for case, part in assigned.items() if part == "val"}
        splits.append({case: "test" if case in held_out else part for case, part in dataset.split.items()})
    return splits


def extended_splits(dataset: PreparedDataset, splits: Sequence[Split]) -> list[Split]:
    """Return the splits of the networks of a first stage for a dataset that changed since they were made.

    Known cases keep their parts, missing ones are left out. A new training case is left out by the network that
    left out its patient or a copy of its image, else by one network after the other.

    Args:
        dataset: the changed dataset.
        splits: case id → part, for each network.
    """
    bound = bind_copies(dataset.part("train")[0], find_copies(dataset.statistics))
    patients = {case.id: case.patient or case.id for case in bound}
    folds = {
        patients[case]: number
        for number, split in enumerate(splits)
        for case, part in split.items()
        if part == "test" and case in patients
    }
    for number, case in enumerate(case for case in patients if not any(case in split for split in splits)):
        folds.setdefault(patients[case], number % len(splits))
    extended: list[Split] = []
    for number, split in enumerate(splits):
        new: Split = {
            case: "test" if len(splits) > 1 and folds.get(patients.get(case, "")) == number else part
            for case, part in dataset.split.items()
        }
        extended.append({case: split.get(case, part) for case, part in new.items()})
    return extended


def _write_split(file: Path, split: Split) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {part: [i for i, own in split.items() if own == part] for part in PARTS})


def _cascade(config: RunConfig) -> CascadeConfig:
    assert config.cascade is not None
    return config.cascade
