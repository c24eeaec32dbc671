"""The first training losses of every architecture, in 2D and 3D, equal those in ``losses.json``.

Update the file with ``python -m pytest tests/golden -m "" --update-golden``.
"""

import pytest
import torch
from architectures import IN_3D
from test_models_contract import CONFIGS, build, case

from medseg.losses import DeepSupervisionLoss, default_loss
from medseg.task import Task

STEPS = {2: 20, 3: 10}
COSTLY = {"unetpp 3D": 4, "swin_unetr 3D": 4, "vnet 3D": 4}
"""Architectures whose updates take about a second each get fewer updates."""
RATES = {
    **dict.fromkeys(["deeplabv2", "deeplabv3plus", "fcn"], 1e-3),
    **dict.fromkeys(["deeplabv3", "pspnet", "backbone_unet"], 5e-3),
}
"""Learning rates of architectures that amplify rounding errors, which depend on the number of threads."""
TOLERANCES = {"first": (1e-4, 0), "later": (2e-3, 0)}


def cases():
    """Yield every architecture in 2D and 3D: those but the U-Net are slow, in unusual dimensions exhaustive."""
    for config in CONFIGS:
        usual = 3 if config.name in IN_3D else 2
        for dims in (2, 3):
            marks = [*case(config).marks]
            if config.name != "unet":
                marks.append(pytest.mark.slow if dims == usual else pytest.mark.exhaustive)
            yield pytest.param(config, dims, marks=marks, id=named(config, dims))


def named(config, dims):
    return f"{config.name} {dims}D"


@pytest.mark.parametrize(("config", "dims"), list(cases()))
def test_losses_are_unchanged(config, dims, golden):
    side = 32 if dims == 2 or config.name == "unetr" else 16
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 2, *(side,) * dims, generator=generator)
    target = torch.randint(3, (2, 1, *(side,) * dims), generator=generator)
    network = build(config, dims).train()
    loss = DeepSupervisionLoss(default_loss().build(Task(dims, 2, 3), [1, 1, 1]))
    optimizer = torch.optim.SGD(network.parameters(), lr=RATES.get(config.name, 0.02), momentum=0.9)
    torch.manual_seed(2)  # for dropout
    losses = []
    for _ in range(COSTLY.get(named(config, dims), STEPS[dims])):
        value = loss(network(image), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(f"{value.item():.6g}"))
    golden.check_entry(
        "losses.json", named(config, dims), {"first": losses[0], "later": losses[1:]}, TOLERANCES
    )


def test_stored_losses_match_the_architectures(golden):
    golden.check_keys("losses.json", {named(config, dims) for config in CONFIGS for dims in (2, 3)})
