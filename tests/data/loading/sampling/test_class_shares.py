import pytest
import torch
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.sampling.class_shares import SamplingStats
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_sampler import PatchSampler
from medseg.progress import QuietProgress
from medseg.training.fit import fit
from medseg.training.run_folder.log import read_log


def test_counts_by_hand():
    drawn = SamplingStats()
    # ignored, bg, a, b: patches [[0, 0], [1, -1]] and all background, then one full of a
    drawn.add({"class_counts": torch.tensor([[1, 2, 1, 0], [0, 4, 0, 0]])})
    drawn.add({"class_counts": torch.tensor([[0, 0, 4, 0]])})
    assert (drawn.patches, drawn.holding, drawn.voxels) == (3, [1, 2, 2, 0], [1, 6, 5, 0])
    assert drawn.shares(("bg", "a", "b")) == {
        "drawn_patches:bg": 0.6667,
        "drawn_voxels:bg": pytest.approx(6 / 11, abs=1e-6),
        "drawn_patches:a": 0.6667,
        "drawn_voxels:a": pytest.approx(5 / 11, abs=1e-6),
        "drawn_patches:b": 0.0,
        "drawn_voxels:b": 0.0,
    }
    assert SamplingStats(**drawn.to_checkpoint()) == drawn


def test_the_log_records_the_drawn_classes(balls, tmp_path):
    config = load_config(ball_settings(balls), ["sampling.forced_share=1", "sampling.balance={core: 1}"])
    fit(config, tmp_path / "run")
    for entry in read_log(tmp_path / "run" / "log.jsonl"):
        assert entry["drawn_patches:core"] == 1
        assert 0 < entry["drawn_voxels:core"] < entry["drawn_voxels:ball"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_an_adaptive_balance_resumes_exactly(balls, tmp_path, workers):
    """Weights, and what was drawn, are those of the unbroken run."""
    adaptive = ["sampling.balance=adaptive", "sampling.forced_share=1", f"data.workers={workers}"]
    whole = load_config(ball_settings(balls, epochs=4, iterations=3), adaptive)
    fit(whole, tmp_path / "whole")
    part = load_config(ball_settings(balls, epochs=4, iterations=3, save_every_steps=1), adaptive)

    class InterruptionError(Exception):
        pass

    class Stop(QuietProgress):
        updates = 0

        def advance(self, detail=""):
            self.updates += detail.startswith("loss")
            if self.updates == 8:
                raise InterruptionError

    with pytest.raises(InterruptionError):
        fit(part, tmp_path / "part", progress=Stop())
    fit(part, tmp_path / "part", resume="auto")
    first, second = (read_log(tmp_path / name / "log.jsonl") for name in ("whole", "part"))
    for a, b in zip(first, second, strict=True):
        assert {**a, "seconds": 0, "waiting": 0} == {**b, "seconds": 0, "waiting": 0}


def test_a_hard_class_is_drawn_more_often(tmp_path):
    folder = tmp_path / "case"
    case = CachedCase("case", folder, (8, 8, 8), (1, 1, 1), (0, 400, 60, 52, 0), (0, 0, 1, 2, 3, 3))
    config = SamplingConfig(patch_size=(4, 4, 4), balance="adaptive", forced_share=1)
    plan = PatchSampler([case], ("background", "easy", "hard", "absent"), config, seed=0)
    assert plan.class_probabilities.tolist() == pytest.approx([0, 0.5, 0.5, 0])
    plan.adapt({"easy": 0.99, "hard": 0.5, "absent": float("nan")})
    assert plan.class_probabilities.tolist() == pytest.approx([0, 0.1 / 0.6, 0.5 / 0.6, 0])
    drawn = [plan.draw(0, i).class_index for i in range(600)]
    assert drawn.count(2) / 600 == pytest.approx(5 / 6, abs=3 * (5 / 36 / 600) ** 0.5)
    plan.adapt({"easy": float("nan"), "hard": 0.0})
    assert plan.class_probabilities.tolist() == pytest.approx([0, 0.5, 0.5, 0])
