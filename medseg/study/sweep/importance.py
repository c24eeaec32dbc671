"""Importance of the settings of a sweep, by PED-ANOVA."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medseg.study.sweep.records import TrialRecord
from medseg.study.sweep.search_space.space import SearchSpace, Setting
from medseg.study.sweep.storage import import_optuna

if TYPE_CHECKING:
    import optuna

FEWEST_TRIALS = 6
"""Complete trials from which an importance is computed."""
_FEWEST_GOOD = 5
"""Complete trials that count as good, as the authors of the evaluator advise; at most half of them."""


def measure_importance(
    trials: Sequence[TrialRecord], space: SearchSpace, objective: int, *, higher: bool
) -> dict[str, float]:
    """Return how much each setting decides whether a trial is among the good ones.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255) compares the distribution of a setting among the good
    trials with that among all of them. It needs no model of the score.

    Args:
        trials: the trials; only complete ones count.
        space: the varied settings.
        objective: index of the objective.
        higher: whether its higher values are better.

    Returns:
        Dotted key of each setting → its share of the importance, highest first; empty with fewer than 6
        complete trials, or if all scores are equal.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    if len(complete) < FEWEST_TRIALS or len({trial.scores[objective] for trial in complete}) == 1:
        return {}
    optuna = import_optuna()
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    settings = {one.key: one for one in space.settings}
    study.add_trials([_frozen(optuna, trial, settings, trial.scores[objective]) for trial in complete])
    share = max(0.1, min(0.5, _FEWEST_GOOD / len(complete)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # settings with a condition are reported as an experimental feature
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    total = sum(value for value in found.values() if math.isfinite(value))
    return {key: value / total for key, value in found.items()} if total > 0 else {}


def _frozen(
    optuna: Any, trial: TrialRecord, settings: dict[str, Setting], value: float
) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        params=dict(trial.changes),
        distributions={key: _distribution(optuna, settings[key]) for key in trial.changes},
        value=value,
    )


def _distribution(optuna: Any, setting: Setting) -> optuna.distributions.BaseDistribution:
    domain, distributions = setting.domain, optuna.distributions
    if setting.kind == "choice":
        return distributions.CategoricalDistribution(domain.names)
    if setting.kind == "int":
        step = int(domain.step or 1)
        return distributions.IntDistribution(
            int(domain.low or 0), int(domain.high or 0), log=domain.log, step=step
        )
    return distributions.FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
