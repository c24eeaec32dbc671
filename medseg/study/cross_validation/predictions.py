"""Predictions of held-out and test cases, and their scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.data.io.readers import output_suffix
from medseg.errors import DiskFullError, MedsegError, TrainingStopped
from medseg.evaluation import Evaluation, EvaluationOptions, evaluate_cases
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.protocols import AnySegmenter
from medseg.progress import Progress
from medseg.study.cross_validation.budget import CaseClock
from medseg.study.cross_validation.folder import FoldFolder
from medseg.study.cross_validation.options import FailedFold
from medseg.study.cross_validation.settings import Study
from medseg.study.run_scores import check_predicted, predict_again, write_reference

_LOGGER = logging.getLogger(__name__)


def reference_path(references: Path, case: Case) -> Path:
    """Return the file of the reference label map of a case."""
    return references / f"{case.id}{output_suffix(case.image)}"


def load_fold(study: Study, fold: FoldFolder, **settings: Any) -> Predictor:
    """Load the model of a fold, with settings of ``inference`` that replace its own."""
    train = study.config.train
    return Predictor(fold.run.root, device=train.device, amp=train.amp, settings=settings)


@contextmanager
def noting_failure(fold: FoldFolder, failed: list[FailedFold]) -> Iterator[None]:
    """Add a fold to those that failed if the block, which predicts its cases, raises an error.

    Raises:
        TrainingStopped, DiskFullError: which concern all folds.
    """
    try:
        yield
    except (TrainingStopped, DiskFullError):
        raise
    except MedsegError as error:
        _LOGGER.warning("%s: %s", fold.name, error)
        failed.append(FailedFold(fold.number, str(error), fold.run.messages))


def predict_cases(
    predictor: AnySegmenter,
    cases: Sequence[Case],
    folder: Path,
    progress: Progress,
    clock: CaseClock | None = None,
) -> None:
    """Predict cases; results of the same model are kept, those of another one are replaced.

    Args:
        predictor: the model.
        cases: the cases.
        folder: of the label maps.
        progress: receives every case.
        clock: counts the time; None for none.

    Raises:
        DataError: that lists the cases that failed.
    """
    began = time.monotonic()
    outcomes = predict_again(predictor, cases, folder, progress)
    done = sum(outcome.status == "done" for outcome in outcomes)
    if clock is not None:
        clock.add(time.monotonic() - began, done * len(predictor.members))
    check_predicted(outcomes, folder)


def write_references(cases: Sequence[Case], predictor: Predictor, folder: Path) -> None:
    """Write the label maps of cases as the network's labels define them, unless they exist."""
    for case in cases:
        if not reference_path(folder, case).is_file():
            write_reference(case, predictor.header, folder)


def evaluate(predictions: Path, references: Path, output: Path, progress: Progress) -> Evaluation:
    """Compare predictions with all references; a case without a prediction gets the worst scores."""
    return evaluate_cases(
        predictions, references, output, EvaluationOptions(missing="worst"), progress=progress
    )
