import pytest
import torch

from medseg.errors import ConfigError
from medseg.losses import CustomLoss, CustomLossConfig
from medseg.task import Task


def mean_error(logits, target):
    return (logits[:, 1:] - target).abs().mean()


def test_the_function_gets_float32_logits_and_the_target():
    logits = torch.tensor([[[0.0, 0.0], [1.0, 3.0]]], dtype=torch.bfloat16, requires_grad=True)
    target = torch.tensor([[[1, 1]]])
    loss = CustomLoss(mean_error, "softmax")
    value = loss(logits, target)
    assert value.item() == 1.0  # (|1 - 1| + |3 - 1|) / 2
    assert value.dtype == torch.float32


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda logits, target: logits, r"a tensor of shape \(1, 2, 3\); expected a scalar"),
        (lambda logits, target: 0.5, "returned 0.5"),
        (lambda logits, target: torch.tensor(1.0), "does not depend on the logits"),
    ],
)
def test_other_results_are_refused(function, message):
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    with pytest.raises(ConfigError, match=message):
        CustomLoss(function, "softmax")(logits, torch.zeros(1, 1, 3, dtype=torch.long))


def test_a_loss_with_parameters_is_refused():
    with pytest.raises(ConfigError, match="Linear: has parameters"):
        CustomLoss(torch.nn.Linear(1, 1), "softmax")


def test_it_cannot_be_built_from_a_file():
    with pytest.raises(ConfigError, match=r"the custom function lab\.loss.*--loss module:function"):
        CustomLossConfig(function="lab.loss").build(Task(2, 1, 2))
