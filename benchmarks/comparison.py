"""Intervals and tests of `medseg compare` on simulated studies: coverage, false positives, power.

    .venv/bin/python benchmarks/comparison.py                 # 2,000 studies of 50 cases each
    .venv/bin/python benchmarks/comparison.py --cases 20

Prints, for several distributions of paired Dice differences, and of the Dice of one method, how often 95%
intervals contain the true mean; how often tests report a difference where there is none; and how often they
find a planted one; how often the upper limit of a standard deviation is not below the true one, for pilot
studies of 2 to 30 cases. The last table compares whole tables of five labels as the command does, and counts
the studies with any wrong decision.
Exits with 1 if a figure is outside its limits: coverage 93.5 to 96.5% (97.5% where few cases differ by much,
90% where studies may lack the rare misses of one method), false positives at most 6.5%, limits of the
deviation of normal differences at least 93.5%.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from medseg.evaluation.comparison.method_pair import OVERALL, PairedResult, adjust, compare_pair
from medseg.evaluation.comparison.options import ComparisonOptions, resolve_metric
from medseg.evaluation.comparison.sample_size import bootstrap_limit, deviation_limit, paired_power
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.evaluation.comparison.significance import permutation_p, signed_rank_p
from medseg.metrics.tables.intervals import bca_interval, mean_interval

FloatArray = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]
Interval = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

COVERAGE = (0.935, 0.965)
RARE_COVERAGE = {
    "both miss 4%": (0.935, 0.975),
    "10% rescued by one": (0.935, 0.975),
    "Dice of one method, 4% missed": (0.9, 0.965),  # 13% of the studies of 50 cases have no miss to see
}
MOST_FALSE = 0.065
LABELS = ("a", "b", "c", "d", "e")


def dice(
    rng: np.random.Generator, shape: tuple[int, ...], gain: float = 0.0, misses: float = 0.0
) -> FloatArray:
    """Draw Dice (2 methods, *shape) with a shared difficulty of the case; the second gains, both miss some."""
    difficulty = rng.beta(12, 2, shape)
    scores = np.stack([difficulty + rng.normal(0, 0.02, shape) for _ in range(2)])
    scores[1] += gain * (1 - difficulty) / (1 - 12 / 14)  # hard cases gain more
    return np.clip(scores, 0, 1) * (rng.random(scores.shape) >= misses)


def difference(gain: float, misses: float) -> Draw:
    """Return a function that draws paired differences of the Dice."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        scores = dice(rng, shape, gain, misses)
        return scores[1] - scores[0]

    return draw


def unpaired(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Draw differences of methods whose scores are unrelated."""
    return rng.beta(12, 2, shape) - rng.beta(8, 2, shape)


def rescued(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Draw differences where one method finds a structure in 10% of the cases that the other misses."""
    return rng.normal(0, 0.01, shape) + (rng.random(shape) < 0.1) * rng.uniform(0.2, 0.9, shape)


def one_method(misses: float) -> Draw:
    """Return a function that draws the Dice of one method, of which `medseg evaluate` gives the mean."""
    return lambda rng, shape: dice(rng, shape, 0.0, misses)[0]


DISTRIBUTIONS: dict[str, Draw] = {
    "similar methods, no gain": difference(0.0, 0.0),
    "gain on hard cases": difference(0.02, 0.0),
    "both miss 4%": difference(0.02, 0.04),
    "unrelated scores": unpaired,
    "10% rescued by one": rescued,
    "exponential": lambda rng, shape: rng.exponential(0.02, shape),
    "normal": lambda rng, shape: rng.normal(0.01, 0.03, shape),
    "Dice of one method": one_method(0.0),
    "Dice of one method, 4% missed": one_method(0.04),
}


def student_interval(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute Student's t interval of each row."""
    cases = values.shape[-1]
    reach = scipy.stats.t.ppf(0.975, cases - 1) * values.std(axis=-1, ddof=1) / np.sqrt(cases)
    return values.mean(axis=-1) - reach, values.mean(axis=-1) + reach


def measure_coverage(repeats: int, cases: int) -> bool:
    """Print how often intervals contain the true mean; return whether medseg's are within the limits."""
    intervals: dict[str, Interval] = {"t": student_interval, "BCa": bca_interval, "medseg": mean_interval}
    print(f"coverage of 95% intervals, {repeats} studies of {cases} cases (width relative to Student's t)")
    print(f"{'':32}" + "".join(f"{name:>16}" for name in intervals))
    passed = True
    for name, draw in DISTRIBUTIONS.items():
        truth = draw(np.random.default_rng(1), (2_000_000,)).mean()
        values = draw(np.random.default_rng(0), (repeats, cases))
        cells: list[str] = []
        for kind, interval in intervals.items():
            low, high = interval(values)
            reference = np.subtract(*student_interval(values)[::-1])
            covered = float(((low <= truth) & (truth <= high)).mean())
            cells.append(f"{covered:.1%} ({np.mean((high - low) / reference):.2f})")
            least, most = RARE_COVERAGE.get(name, COVERAGE)
            passed &= kind != "medseg" or least <= covered <= most
        print(f"{name:32}" + "".join(f"{cell:>16}" for cell in cells))
    return passed


def measure_tests(repeats: int, cases: int) -> bool:
    """Print false positives and power of the tests; return whether false positives are within the limit."""
    print(f"\ntests at 0.05, {repeats} studies of {cases} cases")
    print(f"{'':32}{'permutation':>16}{'signed-rank':>16}{'t test expects':>16}")
    passed = True
    kinds = {"no difference": (0.0, 0.0), "no difference, 4% missed": (0.0, 0.04)}
    kinds |= {"gain of 0.008": (0.008, 0.0), "gain of 0.015": (0.015, 0.0), "0.015, 4% missed": (0.015, 0.04)}
    for name, (gain, misses) in kinds.items():
        draw = difference(gain, misses)
        many = draw(np.random.default_rng(1), (1_000_000,))
        expected = paired_power(float(many.std()), float(many.mean()), cases) if gain else 0.05
        values = draw(np.random.default_rng(0), (repeats, cases))
        permutation = float((permutation_p(values) < 0.05).mean())
        ranks = float(np.mean([signed_rank_p(row) < 0.05 for row in values]))
        print(f"{name:32}{permutation:>16.1%}{ranks:>16.1%}{expected:>16.1%}")
        passed &= bool(gain) or max(permutation, ranks) <= MOST_FALSE
    return passed


def measure_deviations(repeats: int, cases: int) -> bool:
    """Print how often the limit of the deviation is not below the true one; return whether it is often enough.

    Args:
        repeats: number of studies.
        cases: not used; pilot studies are smaller.
    """
    sizes = (2, 3, 5, 10, 30)
    print(f"\nupper 95% limit of the standard deviation, {repeats} pilot studies (the bootstrap alone)")
    print(f"{'cases':32}" + "".join(f"{size:>16}" for size in sizes))
    passed = True
    for name in ("normal", "exponential", "similar methods, no gain", "both miss 4%"):
        draw, cells = DISTRIBUTIONS[name], list[str]()
        truth = float(draw(np.random.default_rng(1), (2_000_000,)).std())
        for size in sizes:
            values = draw(np.random.default_rng(0), (repeats, size))
            covered = float(np.mean([deviation_limit(row) >= truth for row in values]))
            alone = float(np.mean([bootstrap_limit(row) >= truth for row in values]))
            cells.append(f"{covered:.1%} ({alone:.1%})")
            passed &= name != "normal" or covered >= COVERAGE[0]
        print(f"{name:32}" + "".join(f"{cell:>16}" for cell in cells))
    return passed


def compare_tables(repeats: int, cases: int, gain: float, misses: float) -> list[list[PairedResult]]:
    """Compare simulated tables of five labels, whose scores within a case are related, as the command does."""
    rng = np.random.default_rng(0)
    options = ComparisonOptions()
    names = tuple(map(str, range(cases)))
    results: list[list[PairedResult]] = []
    for _ in range(repeats):
        scores = dice(rng, (cases, len(LABELS)), gain, misses)
        scores = np.clip(scores + rng.normal(0, 0.01, (2, cases, 1)), 0, 1) * (scores > 0)
        table = ScoreTable(
            resolve_metric("dice"), ("old", "new"), names, LABELS, scores, scores, {"old": {}, "new": {}}, {},
            np.zeros(scores.shape, np.bool_),
        )  # fmt: skip
        results.append(adjust(compare_pair(table, "new", "old", options), options.alpha))
    return results


def measure_decisions(repeats: int, cases: int) -> bool:
    """Print family-wise errors and power of whole comparisons; return whether errors are within the limit."""
    print(
        f"\ncomparisons of {len(LABELS)} labels, {repeats} studies of {cases} cases: share of studies in which"
    )
    columns = ("overall decided", "any label raw", "any label Holm", "any decided", "CI covers 0")
    print(f"{'':32}" + "".join(f"{name:>16}" for name in columns))
    passed = True
    for name, gain, misses in (("no difference", 0.0, 0.0), ("no difference, 4% missed", 0.0, 0.04),
                               ("gain of 0.008", 0.008, 0.0)):  # fmt: skip
        results = compare_tables(repeats, cases, gain, misses)
        labels = [[one for one in study if one.label != OVERALL] for study in results]
        decided = np.mean([study[0].decision != "undecided" for study in results])
        raw = np.mean([any(one.p_permutation < 0.05 for one in own) for own in labels])
        holm = max(
            np.mean([any(one.p_permutation_holm < 0.05 for one in own) for own in labels]),
            np.mean([any(one.p_wilcoxon_holm < 0.05 for one in own) for own in labels]),
        )
        wrong = np.mean([any(one.decision != "undecided" for one in own) for own in labels])
        covers = np.mean([study[0].ci_low <= 0 <= study[0].ci_high for study in results])
        print(f"{name:32}" + "".join(f"{share:>16.1%}" for share in (decided, raw, holm, wrong, covers)))
        if not gain:
            passed &= max(decided, holm, wrong) <= MOST_FALSE
    return bool(passed)


def main() -> int:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--cases", type=int, default=50)
    given = parser.parse_args()
    passed = [
        measure(given.repeats, given.cases)
        for measure in (measure_coverage, measure_tests, measure_deviations, measure_decisions)
    ]
    print("\nwithin the limits" if all(passed) else "\noutside the limits: see above")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
