"""Predictions of runs before they are scored."""

import pytest

from medseg.data.cases import Case
from medseg.errors import DataError
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.progress import QuietProgress
from medseg.study import run_scores


def test_predictions_of_another_model_are_replaced_and_failures_are_errors(tmp_path, monkeypatch):
    """The first case has a prediction of another model; the second runs out of memory."""
    calls = []

    def infer(predictor, cases, folder, options=None, *, progress):
        names = [case.id for case in cases]
        calls.append((names, options is not None and options.overwrite))
        if options is not None:
            return [CaseOutcome("a", "done", 1.0)]
        return [CaseOutcome("a", "kept", 0.0), CaseOutcome("b", "failed", 1.0, error="out of memory")]

    monkeypatch.setattr(run_scores, "infer_cases", infer)
    cases = [Case(name, tmp_path / f"{name}.nii.gz") for name in "ab"]
    outcomes = run_scores.predict_again(None, cases, tmp_path, QuietProgress())
    assert calls == [(["a", "b"], False), (["a"], True)]
    assert {one.case: one.status for one in outcomes} == {"a": "done", "b": "failed"}
    with pytest.raises(DataError, match="b: out of memory"):
        run_scores.check_predicted(outcomes, tmp_path)
    run_scores.check_predicted(outcomes[1:], tmp_path)
