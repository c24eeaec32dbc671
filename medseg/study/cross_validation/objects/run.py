"""Cross-validation of networks that tell objects apart: train, predict, compare objects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from medseg.evaluation.objects import ObjectEvaluation, write_objects_report
from medseg.evaluation.output import REPORT_FILE
from medseg.instances.options import InstanceDecoding
from medseg.progress import Progress
from medseg.study.cross_validation.budget import ScoringClocks
from medseg.study.cross_validation.ensemble import write_ensemble
from medseg.study.cross_validation.folds import Folds, prepare_folds
from medseg.study.cross_validation.objects.decoding import (
    decoding_of_others,
    median_decoding,
    read_decoding,
)
from medseg.study.cross_validation.objects.output import ObjectResults, write_object_results
from medseg.study.cross_validation.objects.scores import compare_cases, score_test_objects
from medseg.study.cross_validation.options import CrossValidationResult, FailedFold
from medseg.study.cross_validation.predictions import load_fold, noting_failure, predict_cases
from medseg.study.cross_validation.settings import Study
from medseg.study.cross_validation.training import FoldTrainer
from medseg.study.executors import Executor
from medseg.training.pacing.budget_clock import TimeBudget


@dataclass
class ObjectRun:
    """One start of a cross-validation of objects.

    Held-out cases are predicted after all trainings, because their thresholds are those of the other folds.

    Attributes:
        study: the study.
        executor: runs the trainings.
        budget: of the whole study.
        progress: receives the progress.
        failed: the folds that failed.
    """

    study: Study
    executor: Executor
    budget: TimeBudget | None
    progress: Progress
    failed: list[FailedFold] = field(default_factory=list[FailedFold])

    def run(self) -> CrossValidationResult:
        """Do everything that is not done yet."""
        study, clocks = self.study, ScoringClocks()
        folds = prepare_folds(study, self.progress)
        for failed in FoldTrainer(study, folds, self.executor, self.budget, clocks, self.progress).rounds():
            self.failed += failed
        trained = [fold for fold in map(study.folder.fold, range(study.request.folds)) if fold.is_trained]
        chosen = {fold.number: read_decoding(fold) for fold in trained}
        predicted = self._predict(folds, chosen)
        if not predicted:
            return write_object_results(study, folds, ObjectResults(failed=self.failed))
        results = ObjectResults(self._evaluate(folds, predicted), failed=self.failed)
        if len(predicted) == study.request.folds:
            results = self._finish(folds, results, median_decoding(list(chosen.values())))
        return write_object_results(study, folds, results)

    def _predict(self, folds: Folds, chosen: dict[int, InstanceDecoding]) -> list[int]:
        """Predict the held-out cases of trained folds, and return the folds; others have failed."""
        study, predicted = self.study, list[int]()
        for number in chosen:
            fold = study.folder.fold(number)
            decoding = decoding_of_others(chosen, number, study.config.inference.instances)
            with noting_failure(fold, self.failed):
                predictor = load_fold(study, fold, instances=decoding.model_dump())
                cases = folds.held_out(number)
                predict_cases(predictor, cases, study.folder.out_of_fold.predictions, self.progress)
                predicted.append(number)
        return predicted

    def _evaluate(self, folds: Folds, predicted: list[int]) -> ObjectEvaluation:
        """Compare the objects of the held-out cases of folds, and write the report."""
        scored = self.study.folder.out_of_fold
        cases = [case for number in predicted for case in folds.held_out(number)]
        evaluation = compare_cases(folds, cases, scored, "out-of-fold predictions", self.progress)
        write_objects_report(scored.metrics / REPORT_FILE, evaluation)
        return evaluation

    def _finish(self, folds: Folds, results: ObjectResults, decoding: InstanceDecoding) -> ObjectResults:
        """Write the ensemble, unless the models are detectors, and score the test cases."""
        study, evaluation = self.study, results.evaluation
        assert evaluation is not None
        if study.config.task.name == "instances" and study.config.task.decoder != "boxes":
            summary = {
                "folds": study.request.folds,
                "out_of_fold_f1_50": evaluation.summary["scores"]["f1_50"],
            }
            write_ensemble(study, {"instances": decoding}, summary)
        test = score_test_objects(study, folds, decoding, self.progress)
        return replace(results, decoding=decoding, test=test)
