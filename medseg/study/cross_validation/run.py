"""``cross_validate``: train, predict and evaluate every fold, and make one model of all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.evaluation import Evaluation
from medseg.evaluation.output import REPORT_FILE, write_evaluation_report
from medseg.progress import ConsoleProgress, Progress
from medseg.study.cross_validation.budget import ScoringClocks, check_budget, noting, warn_if_exceeded
from medseg.study.cross_validation.ensemble import EnsembleScores, score_test_cases, write_ensemble
from medseg.study.cross_validation.folder import FoldFolder, StudyFolder
from medseg.study.cross_validation.folds import Folds, prepare_folds
from medseg.study.cross_validation.objects.run import ObjectRun
from medseg.study.cross_validation.options import CrossValidationConfig, CrossValidationResult, FailedFold
from medseg.study.cross_validation.output import Results, with_images, write_results
from medseg.study.cross_validation.predictions import (
    evaluate,
    load_fold,
    noting_failure,
    predict_cases,
    write_references,
)
from medseg.study.cross_validation.selection.probabilities import ProbabilityRecorder
from medseg.study.cross_validation.selection.steps import Selection, SettingSelector
from medseg.study.cross_validation.selection.tta import are_scored, choose_tta, tta_settings
from medseg.study.cross_validation.settings import Study, open_study
from medseg.study.cross_validation.tables import fold_rows, with_folds
from medseg.study.cross_validation.training import FoldTrainer
from medseg.study.executors import Executor, LocalExecutor
from medseg.system.locks import lock_folder
from medseg.training.pacing.budget_clock import TimeBudget


def cross_validate(
    config: CrossValidationConfig,
    output: Path | str,
    *,
    progress: Progress | None = None,
    executor: Executor | None = None,
    budget: TimeBudget | None = None,
) -> CrossValidationResult:
    """Train a network on each of several folds, and evaluate it on the cases that it was not trained on.

    The test part of the settings' split is left out of the folds; every other case is held out by one fold.
    Every case is predicted by the model of its fold. On these predictions, postprocessing steps are chosen, and
    the models of all folds become one file, an ensemble, whose mean Dice on the test cases is compared with
    that of its members. Networks that tell objects apart are scored by objects, and the thresholds of decoding
    are chosen; detectors have no ensemble.

    Started again with the same output folder, the study keeps what is finished and continues every training
    where it stopped; trainings of a number of epochs then end with the same weights as uninterrupted ones.

    Args:
        config: what is cross-validated, and how.
        output: folder of the study; one process at a time writes to it. Preprocessed cases are shared by the
            folds in ``cache``, unless ``data.cache`` is set.
        progress: receives the progress. By default it is shown on standard error.
        executor: runs the trainings; by default ``config.jobs`` at a time on this machine.
        budget: the time that the whole study may take; by default that of ``config.budget``, which then begins
            with this call.

    Raises:
        ConfigError: if settings are invalid or differ from those of the study in the folder, the budget is too
            short for the folds, or another process writes to the folder.
        DataError: if cases are faulty or changed, or there are fewer patients than folds.
        TrainingStopped: on SIGTERM or SIGINT, after the trainings saved their state.
        DiskFullError: if no space is left on the disk.

    Example:
        >>> from medseg.study import CrossValidationConfig, cross_validate  # doctest: +SKIP
        >>> result = cross_validate(CrossValidationConfig("config.yaml"), "studies/cv")  # doctest: +SKIP
        >>> print(result.markdown, result.model)  # doctest: +SKIP
    """
    if progress is None:
        with ConsoleProgress() as shown:
            return cross_validate(config, output, progress=shown, executor=executor, budget=budget)
    folder = StudyFolder(Path(output))
    if budget is None and config.budget is not None:
        budget = TimeBudget.of(config.budget)
    if budget is not None:
        check_budget(budget, config.folds, config.at_the_same_time)
    with lock_folder(folder.root, "Wait for it, or choose another --output folder."):
        if budget is not None:
            budget.follow(folder.clock)
        trained = all(folder.fold(number).is_trained for number in range(config.folds))
        with noting(budget):
            study = open_study(config, folder)
            kind = ObjectRun if study.config.task.name == "instances" else _Run
            result = kind(study, executor or LocalExecutor(config.jobs), budget, progress).run()
        if budget is not None and not trained:
            warn_if_exceeded(budget)
        return result


@dataclass
class _Run:
    """One start of a cross-validation.

    Attributes:
        study: the study.
        executor: runs the trainings.
        budget: of the whole study.
        progress: receives the progress.
        failed: the folds that failed.
        clocks: time of predictions and evaluations.
        tta: chosen settings of test-time augmentation.
    """

    study: Study
    executor: Executor
    budget: TimeBudget | None
    progress: Progress
    failed: list[FailedFold] = field(default_factory=list[FailedFold])
    clocks: ScoringClocks = field(default_factory=ScoringClocks)
    tta: dict[str, Any] = field(default_factory=dict[str, Any])

    def run(self) -> CrossValidationResult:
        """Do everything that is not done yet."""
        study = self.study
        folds = prepare_folds(study, self.progress)
        predicted: list[int] = []
        trainer = FoldTrainer(study, folds, self.executor, self.budget, self.clocks, self.progress)
        waiting = {fold.number for fold in trainer.waiting}
        if study.request.tta and not waiting and are_scored(study):
            self.tta = tta_settings(choose_tta(study, folds, self.progress))
        trained = [study.folder.fold(n) for n in range(study.request.folds) if n not in waiting]
        self._predict(folds, trained, predicted)
        for failed in trainer.rounds():
            self.failed += failed
            new = [fold for fold in map(study.folder.fold, sorted(waiting)) if fold.is_trained]
            waiting -= {fold.number for fold in new}
            self._predict(folds, new, predicted)
            if self.budget is not None and predicted and waiting and not self.clocks.evaluation.cases:
                self._evaluate(predicted, folds)
        if not predicted:
            return self._write(folds, [])
        if study.request.tta and len(predicted) == study.request.folds:
            self._predict_with_tta(folds, predicted)
        evaluation = self._evaluate(predicted, folds)
        write_evaluation_report(study.folder.out_of_fold.metrics / REPORT_FILE, with_images(evaluation, folds))
        rows = with_folds(evaluation.rows, folds.fold_of)
        rows = [row for row in rows if row["fold"] in predicted]  # a failed fold may have some predictions
        if len(predicted) < study.request.folds:
            return self._write(folds, rows)
        return self._finish(folds, rows)

    def _predict(self, folds: Folds, trained: list[FoldFolder], predicted: list[int]) -> None:
        """Predict the held-out cases of folds; a fold whose cases cannot be predicted has failed."""
        study, scored = self.study, self.study.folder.out_of_fold
        for fold in trained:
            with noting_failure(fold, self.failed):
                predictor = load_fold(study, fold, **self.tta)
                cases = folds.held_out(fold.number)
                write_references(cases, predictor, scored.references)
                segmenter = predictor
                if predictor.header.thresholded and not study.config.inference.thresholds:
                    images = {case.image: case.id for case in cases}
                    segmenter = ProbabilityRecorder(predictor, images, scored.probabilities)
                predict_cases(segmenter, cases, scored.predictions, self.progress, self.clocks.prediction)
                predicted.append(fold.number)

    def _predict_with_tta(self, folds: Folds, predicted: list[int]) -> None:
        """Choose test-time augmentation, and predict the held-out cases with it if they are not yet."""
        study = self.study
        chosen = tta_settings(choose_tta(study, folds, self.progress))
        if chosen != self.tta:
            self.tta = chosen
            predicted.clear()
            self._predict(folds, [study.folder.fold(n) for n in range(study.request.folds)], predicted)

    def _evaluate(self, predicted: list[int], folds: Folds) -> Evaluation:
        """Evaluate the predictions of the held-out cases, and measure how long it takes."""
        scored, began = self.study.folder.out_of_fold, time.monotonic()
        evaluation = evaluate(scored.predictions, scored.references, scored.metrics, self.progress)
        cases = sum(len(folds.held_out(fold)) for fold in predicted)
        self.clocks.evaluation.add(time.monotonic() - began, cases)
        return evaluation

    def _finish(self, folds: Folds, rows: list[dict[str, Any]]) -> CrossValidationResult:
        """Choose the postprocessing, write the ensemble, and score it on the test cases."""
        study = self.study
        selection = Selection(tta=self.tta)
        if not (study.config.inference.postprocess.names or study.config.inference.thresholds):
            header = load_fold(study, study.folder.fold(0)).header
            selector = SettingSelector(folds, header, study.folder.out_of_fold, self.progress)
            selection = replace(selector.select(), tta=self.tta)
        table = fold_rows(rows, folds.fold_of)
        write_ensemble(
            study, selection.inference, {"folds": study.request.folds, "out_of_fold_dice": table[-1]["dice"]}
        )
        return self._write(folds, rows, selection, score_test_cases(study, folds, self.progress))

    def _write(
        self,
        folds: Folds,
        rows: list[dict[str, Any]],
        selection: Selection | None = None,
        test: EnsembleScores | None = None,
    ) -> CrossValidationResult:
        results = Results(rows, selection or Selection(tta=self.tta), test, self.failed)
        return write_results(self.study, folds, results)
