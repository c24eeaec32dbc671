"""The folder of a cross-validation: its file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.training.run_folder.layout import RunFolder


@dataclass(frozen=True)
class Scored:
    """Predictions of a set of cases, and their scores.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def predictions(self) -> Path:
        """Label maps, with their provenance."""
        return self.root / "predictions"

    @property
    def metrics(self) -> Path:
        """Tables and report of ``medseg evaluate``."""
        return self.root / "metrics"

    @property
    def probabilities(self) -> Path:
        """Rounded probabilities of labels that can have a threshold."""
        return self.root / "probabilities"

    @property
    def references(self) -> Path:
        """Label maps that the predictions are compared with."""
        return self.root / "references"


@dataclass(frozen=True)
class FoldFolder:
    """The files of one fold.

    Attributes:
        root: the folder.
        number: of the fold, from 0.
    """

    root: Path
    number: int

    @property
    def name(self) -> str:
        """Name of the fold in messages and tables."""
        return f"fold {self.number}"

    @property
    def split(self) -> Path:
        """Case id → part, for ``data.split.file``."""
        return self.root / "split.json"

    @property
    def config(self) -> Path:
        """Settings of the training."""
        return self.root / "config.yaml"

    @property
    def run(self) -> RunFolder:
        """The run folder."""
        return RunFolder(self.root / "run")

    @property
    def is_trained(self) -> bool:
        """Whether the training is finished."""
        return self.run.model.is_file()


@dataclass(frozen=True)
class StudyFolder:
    """The files of a cross-validation.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings that all folds share."""
        return self.root / "settings.yaml"

    @property
    def record(self) -> Path:
        """Number of folds and other options of the study."""
        return self.root / "study.json"

    @property
    def cases(self) -> Path:
        """The cases with their folds and hashes; the part is ``test`` for those of no fold."""
        return self.root / "cases.json"

    @property
    def splits(self) -> Path:
        """Ids of the training, validation and test cases of every fold."""
        return self.root / "splits.json"

    @property
    def clock(self) -> Path:
        """Time used by a study with a budget."""
        return self.root / "clock.json"

    @property
    def cache(self) -> Path:
        """Preprocessed cases, shared by the folds."""
        return self.root / "cache"

    @property
    def out_of_fold(self) -> Scored:
        """Predictions of each case by the model of the fold that did not train on it."""
        return Scored(self.root / "out_of_fold")

    @property
    def model(self) -> Path:
        """The ensemble of the models of all folds, in one file."""
        return self.root / "model.safetensors"

    @property
    def table(self) -> Path:
        """One row per fold."""
        return self.root / "table.csv"

    @property
    def markdown(self) -> Path:
        """All tables for people."""
        return self.root / "table.md"

    @property
    def case_table(self) -> Path:
        """Scores of the out-of-fold predictions of every case, with its fold."""
        return self.root / "cases.csv"

    @property
    def summary(self) -> Path:
        """Everything that the tables and the report show."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    def fold(self, number: int) -> FoldFolder:
        """Return the files of a fold."""
        return FoldFolder(self.root / "folds" / f"fold_{number}", number)

    @property
    def test(self) -> Scored:
        """Predictions of the test cases by the ensemble."""
        return Scored(self.root / "test")

    def test_of_member(self, fold: int) -> Scored:
        """Return the folder of the test cases as the model of one fold predicts them."""
        return Scored(self.root / "test" / "members" / f"fold_{fold}")
