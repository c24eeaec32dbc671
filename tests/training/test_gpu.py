import pytest
import torch
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.inference.model.predictor import Predictor
from medseg.training.fit import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.mark.parametrize("amp", ["bf16", "fp16", "off"])
def test_a_gpu_trains_and_predicts_as_the_cpu_does(balls, tmp_path, amp):
    settings = ball_settings(balls, epochs=1, iterations=200, batch_size=4, optimizer={"lr": 0.02})
    settings["model"]["dropout"] = 0
    settings["train"]["amp"] = amp
    result = fit(load_config(settings), tmp_path / "run")
    assert (result.best or 0) > 0.8
    scan = balls / "images" / "ball_0.nii.gz"
    maps = [Predictor(result.run, device=d, amp="off").predict(scan).label_map for d in ("cuda", "cpu")]
    assert (maps[0] == maps[1]).mean() > 0.999
