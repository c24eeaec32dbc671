import pytest
import torch
from pydantic import ValidationError

from medseg.cli.main import run as command
from medseg.data.loading.sampling.class_shares import SamplingStats
from medseg.errors import ConfigError
from medseg.system.processes.launch import Launch
from medseg.training.distributed import launch
from medseg.training.distributed.launch import join_ranks, rank_device
from medseg.training.distributed.options import DistributedConfig
from medseg.training.distributed.ranks import ONE_PROCESS, Ranks
from medseg.training.distributed.shared_pace import SharedPace
from medseg.training.options import TrainConfig
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.end_within_budget import BudgetPace
from medseg.training.run_folder.state import TrainState


class Rank(Ranks):
    """One of several ranks, which receives what the others would send."""

    def __init__(self, rank, size, received=()):
        super().__init__(Launch(rank, size, rank, size))
        self.received = list(received)
        self.waited = 0

    def gather(self, value):
        return self.received

    def broadcast(self, value):
        return self.received.pop(0)

    def wait(self):
        self.waited += 1


def test_shares_together_are_all_items_in_order():
    shares = [Rank(rank, 3).share("abcdefg") for rank in range(3)]
    assert shares == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    assert Rank(1, 3, shares).gather_shares(shares[1]) == list("abcdefg")
    assert ONE_PROCESS.gather_shares([1, 2]) == [1, 2]


def test_divided_work_leaves_errors_to_what_follows():
    done = []

    def work(part):
        done.extend(part)
        raise ConfigError("the third case is faulty")

    other = Rank(1, 2)
    other.divide([1, 2, 3], work)
    assert done == [2]
    assert other.waited == 1
    ONE_PROCESS.divide([1, 2, 3], work)  # a single process has no share to prepare for the others
    assert done == [2]


def test_only_rank_0_calls_a_function_for_all():
    assert Rank(1, 2, ["from rank 0"]).on_main(lambda: pytest.fail("called")) == "from rank 0"
    assert ONE_PROCESS.on_main(lambda: 3) == 3


def test_counts_of_drawn_voxels_are_added():
    one, two = SamplingStats(2, [0, 1], [5, 3]), SamplingStats(1, [1, 1], [2, 2])
    assert SamplingStats.merged([one, SamplingStats(), two]) == SamplingStats(3, [1, 2], [7, 5])


def test_a_single_process_joins_nobody(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join_ranks(DistributedConfig(), "cpu") as ranks:
        assert ranks is ONE_PROCESS


@pytest.mark.parametrize(
    ("name", "count", "match"), [("cuda:0", 4, "cannot use one GPU"), ("cuda", 1, "1 GPUs")]
)
def test_every_process_needs_a_gpu(monkeypatch, name, count, match):
    monkeypatch.setattr(launch, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ConfigError, match=match):
        rank_device(name, Launch(1, 2, 1, 2))
    assert rank_device("cpu", Launch(1, 2, 1, 2)) == torch.device("cpu")


def test_the_gpu_is_that_of_the_local_rank(monkeypatch):
    monkeypatch.setattr(launch, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert rank_device("cuda", Launch(3, 4, 1, 2)) == torch.device("cuda", 1)


def test_fsdp_refuses_what_it_cannot_do():
    with pytest.raises(ValidationError, match="amp=fp16 and compile=true"):
        TrainConfig(amp="fp16", compile=True, distributed=DistributedConfig(strategy="fsdp"))


def test_a_plan_is_not_made_by_several_processes(monkeypatch, tmp_path, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert command(["train", str(tmp_path)]) == 2
    assert "medseg plan" in capsys.readouterr().err


def test_a_time_budget_is_decided_by_rank_0():
    def pace():
        network = torch.nn.Linear(1, 1)
        state = TrainState(network, torch.optim.SGD(network.parameters(), 0.1), torch.amp.GradScaler("cpu"))
        return BudgetPace(TimeBudget(60.0), TrainConfig(budget=1), state.pace, lambda updates: 0.0), state

    decided, first = pace()
    decided.begin(0)
    followed, other = pace()
    selected = []
    shared = SharedPace(followed, Rank(1, 2, [(None, decided.record, ["case"])]), other, selected.append)
    shared.begin(0)
    assert other.pace == first.pace
    assert shared.total == decided.total
    assert shared.learning_rate(0, []) == decided.learning_rate(0, [])
    assert other.validated == ["case"]
    assert selected == [["case"]]
