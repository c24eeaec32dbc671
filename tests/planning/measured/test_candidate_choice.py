"""The choice of a candidate, with a timer that knows the answer."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from medseg.planning.measured.candidate_choice import Budget, Workload, choose_candidate
from medseg.planning.measured.step_timer import StepCost
from medseg.planning.network_candidates import LadderLimits, candidate_ladder
from medseg.planning.nnunet_rules import DatasetSizes, plan_dataset_sizes

WORKLOAD = Workload(channels=1, classes=3)
GB = 1e9


@dataclass
class FakeTimer:
    """Updates take a time in proportion to their multiplications."""

    rate: float
    memory: int | None = None
    limit: float = float("inf")
    measured: list = field(default_factory=list)

    def measure(self, candidate):
        self.measured.append(candidate)
        if candidate.feature_elements(3) > self.limit:
            return None
        return StepCost(candidate.work(1, 3) / self.rate, self.memory)


def ladder(shape=(36.0, 50.0, 35.0)):
    sizes = DatasetSizes(np.ones((200, 3)), np.tile(shape, (200, 1)), 200, 3)
    return candidate_ladder(
        plan_dataset_sizes(sizes).full_resolution, LadderLimits(max_levels=5, max_coarsening=2)
    )


def smallest_comfortable(candidates):
    return [one for one in candidates if one.comfortable][-1]


def test_a_small_machine_gets_the_small_network():
    candidates = ladder()
    small = smallest_comfortable(candidates)
    timer = FakeTimer(small.work(1, 3) / 0.5)  # 0.5 s an update
    choice = choose_candidate(candidates, WORKLOAD, Budget(16 * 60, 8 * GB), timer)
    assert choice.candidate == small
    assert choice.cost.seconds == pytest.approx(0.5)
    larger, seconds = choice.rejected
    assert larger.topology.features[0] == 24
    assert 16 * 60 / seconds < 0.9 * 1342  # 1500 · √0.8 updates are wanted
    assert len(timer.measured) == 1


def test_a_fast_machine_gets_nnunets_network():
    candidates = ladder()
    choice = choose_candidate(candidates, WORKLOAD, Budget(3600, 80 * GB), FakeTimer(1e14))
    assert choice.candidate == candidates[0]
    assert choice.rejected is None


def test_a_very_short_time_leaves_the_comfortable_candidates():
    candidates = ladder((155.0, 240.0, 240.0))
    small = smallest_comfortable(candidates)
    choice = choose_candidate(candidates, WORKLOAD, Budget(60, 8 * GB), FakeTimer(small.work(1, 3) / 1.0))
    assert not choice.candidate.comfortable
    assert 60 / choice.cost.seconds >= 540


def test_more_time_goes_into_larger_networks_and_more_updates():
    candidates = ladder((155.0, 240.0, 240.0))
    rate = smallest_comfortable(candidates).work(1, 3) / 0.7
    chosen = [
        choose_candidate(candidates, WORKLOAD, Budget(s, 64 * GB), FakeTimer(rate)) for s in (900, 90_000)
    ]
    work = [one.candidate.work(1, 3) for one in chosen]
    updates = [s / one.cost.seconds for s, one in zip((900, 90_000), chosen, strict=True)]
    assert work[1] > 3 * work[0]
    assert updates[1] > 3 * updates[0]


def test_memory_excludes_large_candidates():
    candidates = ladder()
    limit = candidates[2].feature_elements(3)  # batch 2, the widest network
    timer = FakeTimer(1e14, limit=limit)
    assert (
        choose_candidate(candidates, WORKLOAD, Budget(3600, 80 * GB, "cuda"), timer).candidate == candidates[2]
    )
    estimated = Budget(3600, 16.0 * limit)
    assert choose_candidate(candidates, WORKLOAD, estimated, FakeTimer(1e14)).candidate == candidates[2]


def test_at_most_four_candidates_are_measured():
    class Erratic(FakeTimer):
        def measure(self, candidate):
            self.measured.append(candidate)
            return StepCost([0.001, 5.0, 0.002, 4.0, 0.003][len(self.measured) - 1])

    timer = Erratic(1.0)
    choice = choose_candidate(ladder((155.0, 240.0, 240.0)), WORKLOAD, Budget(900, 80 * GB), timer)
    assert len(timer.measured) <= 4
    assert choice.candidate in timer.measured


def test_no_memory_at_all():
    with pytest.raises(MemoryError):
        choose_candidate(ladder(), WORKLOAD, Budget(900, 8 * GB, "cuda"), FakeTimer(1.0, memory=int(9 * GB)))
