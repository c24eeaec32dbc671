"""``torch.export`` and ``torch.compile`` capture every architecture whole."""

import pytest
import torch
from architectures import build, each_in_usual_dims, image

from medseg.models import SwinUNETRConfig

pytestmark = pytest.mark.slow
COSTLY = ("hrnetv2", "lraspp", "unetpp", "unetr", "vnet")
"""Networks whose compilation takes longest; it is exhaustive."""


@pytest.mark.parametrize(("config", "spatial_dims"), list(each_in_usual_dims()))
def test_exported_network_gives_the_same_logits(config, spatial_dims):
    network = build(config, spatial_dims).eval()
    picture = image(*(32,) * spatial_dims)
    with torch.no_grad():
        exported = torch.export.export(network, (picture,)).module()
        torch.testing.assert_close(exported(picture), network(picture))


# MONAI's Swin attention branches on the window's mask, which breaks the graph: its config says so
@pytest.mark.parametrize(("config", "spatial_dims"), list(each_in_usual_dims(SwinUNETRConfig, costly=COSTLY)))
@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_compiled_network_is_one_graph(config, spatial_dims, training):
    torch.compiler.reset()
    network = build(config, spatial_dims).train(training)
    picture = image(*(32,) * spatial_dims, batch=2)
    with torch.no_grad():
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        result = compiled(picture)
        if not training:
            torch.testing.assert_close(result, network(picture))
