"""Interactive evaluation: users prompt a model and baselines until their masks are right."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from medseg.data.parallel import Job, run_jobs
from medseg.errors import ConfigError, DataError
from medseg.evaluation.interactive.cases import CaseSource, InteractiveCase, TargetObject, stable_seed
from medseg.evaluation.interactive.evaluation import InteractiveEvaluation, ObjectResult
from medseg.evaluation.interactive.options import DEFAULT_INTERACTIVE, HUMAN, InteractiveOptions
from medseg.evaluation.interactive.simulation import Prompter, Replayed, Simulated, Trace, prompt_object
from medseg.evaluation.interactive.snapshots import Gallery, take_snapshot
from medseg.evaluation.parallel_cases import describe_error
from medseg.progress import QUIET, Progress, stage
from medseg.prompts import Promptable, PromptSession
from medseg.prompts.users import user_by_name

_JOB_BYTES = 1 << 30


def evaluate_interactive(
    model: Promptable,
    cases: Sequence[CaseSource],
    options: InteractiveOptions = DEFAULT_INTERACTIVE,
    *,
    baselines: Sequence[Promptable] = (),
    progress: Progress = QUIET,
) -> InteractiveEvaluation:
    """Let users segment the objects of cases by prompting a model.

    Every method meets the same objects and the same users. A model that fails on an object gets a Dice of 0
    there; a case that cannot be read, or whose user fails, is listed as failed.

    Args:
        model: the model.
        cases: `InteractiveCase`, or sources that read one when its turn comes, as `find_interactive_cases`
            returns them.
        options: users, numbers of interactions, targets.
        baselines: methods to compare with, such as ``baseline_by_name("random-walker")``.
        progress: advances with each case.

    Raises:
        DataError: if no object can be evaluated.
        ConfigError: if two methods have the same name.

    Example:
        >>> from medseg.evaluation.interactive import InteractiveCase, TargetObject, baseline_by_name
        >>> image = np.zeros((32, 32), np.float32)
        >>> image[8:24, 8:24] = 1
        >>> case = InteractiveCase("square", image, [TargetObject("square", "square", image > 0)])
        >>> evaluation = evaluate_interactive(baseline_by_name("random-walker"), [case])
        >>> round(float(evaluation.results[0].trace.dice[0]), 2)
        1.0
    """
    methods = [model, *baselines]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ConfigError(f"methods {', '.join(names)}: expected different names", hint="Leave one out.")
    gallery = Gallery(options.pictures)
    with stage(progress, len(cases), "prompting"):
        outcomes = run_jobs(
            partial(_evaluate_case, methods=methods, options=options, gallery=gallery),
            [Job(case, _JOB_BYTES, 1.0) for case in cases],
            lambda case: progress.advance(case.id),
            processes=False,
            limit=options.jobs,
        )
    failed = {case.id: one.error for case, one in zip(cases, outcomes, strict=True) if one.error is not None}
    results = [result for one in outcomes for result in one.results]
    if not results:
        reason = next(iter(failed.values()), "there is no object")
        raise DataError(f"no object can be evaluated: {reason}")
    skipped = sum(one.skipped for one in outcomes)
    return InteractiveEvaluation(results, options, names, failed, skipped, worst=gallery.shown())


@dataclass
class _Outcome:
    """Results of one case, or why there are none."""

    results: list[ObjectResult] = field(default_factory=list[ObjectResult])
    error: str | None = None
    skipped: int = 0


def _evaluate_case(
    source: CaseSource, methods: Sequence[Promptable], options: InteractiveOptions, gallery: Gallery
) -> _Outcome:
    try:
        case = source.read(options)
        outcome = _Outcome(skipped=case.skipped)
        for method in methods:
            shown = gallery if method is methods[0] else None
            outcome.results += _evaluate_method(case, method, options, shown)
    except Exception as error:  # a damaged file can make a library raise anything; the case is listed
        return _Outcome(error=describe_error(error))
    return outcome


def _evaluate_method(
    case: InteractiveCase, method: Promptable, options: InteractiveOptions, gallery: Gallery | None
) -> list[ObjectResult]:
    """Prompt a method for each object, by each user; a gallery takes the worst object of each user."""
    begin = time.perf_counter()
    session, fault = _open(case, method)
    opening = time.perf_counter() - begin
    results: list[ObjectResult] = []
    worst: dict[str, tuple[ObjectResult, TargetObject, Trace]] = {}
    for target in case.objects:
        for user, who, prompter in _prompters(case, target, options):
            trace = Trace(error=fault)
            if session is not None:
                trace = prompt_object(session, target.mask, prompter, options.most)
            result = ObjectResult(
                case=case.id,
                group=case.group,
                object=target.name,
                label=target.label,
                method=method.name,
                user=user,
                who=who,
                voxels=int(np.count_nonzero(target.mask)),
                opening_seconds=opening,
                trace=replace(trace, mask=None),
            )
            results.append(result)
            if gallery is not None and (user not in worst or trace.final < worst[user][2].final):
                worst[user] = result, target, trace
    if gallery is not None:
        for result, target, trace in worst.values():
            gallery.offer(result, partial(take_snapshot, case, target, trace))
    return results


def _open(case: InteractiveCase, method: Promptable) -> tuple[PromptSession | None, str | None]:
    scan: Any = case.scan  # models and baselines of medseg open scans in memory, too
    try:
        return method.open(scan, case.spacing), None
    except Exception as error:  # the model's failure is its result
        return None, describe_error(error)


def _prompters(
    case: InteractiveCase, target: TargetObject, options: InteractiveOptions
) -> Iterator[tuple[str, str, Prompter]]:
    """Yield users; their draws depend on seed, case, object and habit, not on the order."""
    for name in options.users_for(bool(target.recorded)):
        if name == HUMAN:
            for who, prompts in target.recorded.items():
                yield HUMAN, who, Replayed(prompts)
        else:
            seed = stable_seed(options.seed, case.id, target.name, name)
            yield name, "", Simulated(user_by_name(name), np.random.default_rng(seed))
