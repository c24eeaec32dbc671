import pytest
import torch
from pydantic import ValidationError

from medseg.models import UNetConfig, parameter_count
from medseg.models.layers.attention import AttentionGate
from medseg.models.layers.factory import LayerFactory
from medseg.task import Task


def test_a_gate_by_hand():
    # one channel each: theta sums blocks of 2x2, phi and psi double; relu keeps what is above 0
    gate = AttentionGate(LayerFactory(2), 1, 1, (2, 2))
    with torch.no_grad():
        gate.theta.weight.fill_(1.0)
        for layer in (gate.phi, gate.psi):
            layer.weight.fill_(2.0)
            layer.bias.zero_()
    skip, below = torch.ones(1, 1, 2, 4), torch.tensor([[[[-3.0, -1.0]]]])
    # theta 4, 4; plus phi -6, -2: -2, 2; relu 0, 2; psi 0, 4
    coarse = torch.tensor([0.0, 4.0]).sigmoid()
    # interpolated to 4: the outermost, then a quarter of the way in from either side
    row = torch.stack(
        [coarse[0], 0.75 * coarse[0] + 0.25 * coarse[1], 0.25 * coarse[0] + 0.75 * coarse[1], coarse[1]]
    )
    torch.testing.assert_close(gate(2 * skip, below - 2)[0, 0], 2 * row.expand(2, 4))


def test_new_gates_are_open():
    torch.manual_seed(0)
    network = UNetConfig(channels=(4, 8, 8), attention=True).build(Task(2, 1, 2))
    for level in network.decoder:
        assert level.gate.psi.bias.item() == 3.0
    gate = network.decoder[0].gate
    shares = gate.coefficients(0.1 * torch.randn(1, 4, 8, 8), 0.1 * torch.randn(1, 8, 4, 4))
    assert shares.min() > 0.9


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("skip", ["concat", "add"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_unet_with_gates_trains_and_predicts_any_size(dims, skip, residual):
    config = UNetConfig(
        channels=(4, 6, 8),
        attention=True,
        skip=skip,
        residual=residual,
        stride=(1, (1,) * (dims - 1) + (2,), 2),
    )
    network = config.build(Task(dims, 1, 2))
    for size in ((7,) * dims, (4, 9, 5)[:dims]):
        logits = network(torch.randn(1, 1, *size))
        assert logits.shape == (1, 2, *size)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval()(torch.randn(1, 1, *(1,) * dims)).isfinite().all()


def test_gates_add_their_parameters_alone():
    plain, gated = (UNetConfig(channels=(4, 8), attention=on).build(Task(2, 1, 2)) for on in (False, True))
    # theta 4*4*4; phi 8*4 + 4; psi 4 + 1
    assert parameter_count(gated) - parameter_count(plain) == 64 + 36 + 5
    assert set(plain.state_dict()) == {key for key in gated.state_dict() if ".gate." not in key}


def test_without_skips_there_is_nothing_to_gate():
    with pytest.raises(ValidationError, match="attention weighs skips"):
        UNetConfig(attention=True, skip="none")


def test_a_network_with_gates_is_captured():
    network = UNetConfig(channels=(4, 8), attention=True).build(Task(2, 1, 2)).eval()
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        exported = torch.export.export(network, (image,)).module()
        torch.testing.assert_close(exported(image), network(image))
