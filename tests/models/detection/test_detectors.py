"""What every detector does: learn, in 2D and 3D, also from empty pictures, and find objects."""

import numpy as np
import pytest
import torch

from medseg.models.backbones import ResNetConfig
from medseg.models.detection import MaskRCNNConfig, RetinaUNetConfig, detection_targets
from medseg.models.detection.anchors import AnchorOptions
from medseg.models.detection.heads import BoxHeadOptions, MaskHeadOptions
from medseg.models.detection.pyramid import LayerOptions
from medseg.models.detection.rpn import RPNOptions
from medseg.task import Task

LAYERS = LayerOptions(channels=8)
ANCHORS = AnchorOptions(sizes=(6, 12), ratios=(1.0,))
CONFIGS = [
    MaskRCNNConfig(
        backbone=ResNetConfig(depth=18, width=0.125, norm="group", stem_stride=1, stages=2),
        feature_maps=2,
        extra_level=False,
        pyramid=LAYERS,
        anchors=ANCHORS,
        rpn=RPNOptions(proposals=(16, 16), samples=32),
        box_head=BoxHeadOptions(channels=16, size=3, samples=16, detections=8),
        mask_head=MaskHeadOptions(channels=8, size=4, convs=1),
    ),
    RetinaUNetConfig(
        backbone=ResNetConfig(depth=18, width=0.125, norm="group", stem_stride=1, stages=2),
        feature_maps=2,
        pyramid=LAYERS,
        anchors=ANCHORS,
        convs=1,
        mask_size=8,
        detections=8,
    ),
]

configs = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
dims = pytest.mark.parametrize("spatial_dims", [2, 3])


def sample(spatial_dims):
    """A bright block on a dark image, of class 2."""
    size = (24, 20) if spatial_dims == 2 else (16, 14, 16)
    label_map = np.zeros(size, int)
    label_map[(slice(5, 13),) * spatial_dims] = 5
    return torch.from_numpy(label_map > 0).float()[None, None], [detection_targets(label_map[None], {5: 2})]


@configs
@dims
def test_losses_are_finite_and_reach_every_parameter(config, spatial_dims):
    torch.manual_seed(0)
    network = config.build(Task(spatial_dims, 1, 3))
    image, targets = sample(spatial_dims)
    losses = network(image, targets)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@configs
@dims
def test_empty_pictures_train(config, spatial_dims):
    network = config.build(Task(spatial_dims, 1, 3))
    image, _ = sample(spatial_dims)
    losses = network(image, [detection_targets(np.zeros((1, *image.shape[2:]), int))])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert total > 0


@configs
@dims
def test_results_are_on_the_images_grid_whatever_its_size(config, spatial_dims):
    network = config.build(Task(spatial_dims, 1, 3)).eval()
    size = (17, 9, 11)[:spatial_dims]
    with torch.inference_mode():
        found = network(torch.zeros(2, 1, *size))
    assert [one.size for one in found] == [size, size]
    assert found[0].label_map()[0].shape == size
    assert found[0].boxes.shape == (len(found[0]), 2 * spatial_dims)
    assert (found[0].boxes >= 0).all()


@configs
def test_images_are_needed_with_their_objects(config):
    with pytest.raises(ValueError, match="needs the objects"):
        config.build(Task(2, 1, 2))(torch.zeros(1, 1, 16, 16))


@pytest.mark.slow
@configs
@dims
def test_an_object_is_learned(config, spatial_dims):
    torch.manual_seed(0)
    network = config.build(Task(spatial_dims, 1, 3))
    image, targets = sample(spatial_dims)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(50):
        loss = torch.stack(list(network(image, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        [found] = network.eval()(image)
    assert found.classes[0] == 2
    label_map = found.label_map()[0] == 1
    truth = image[0, 0] > 0
    assert (label_map & truth).sum() / (label_map | truth).sum() > 0.6


def test_the_box_head_in_3d_is_small():
    # flattened, fc6 alone would have 7 x 7 x 7 x 256 x 1024 = 90 million weights
    network = MaskRCNNConfig(backbone=ResNetConfig(depth=18)).build(Task(3, 1, 2))
    assert sum(parameter.numel() for parameter in network.box_head.parameters()) < 4e6


@configs
def test_pictures_without_voxels_that_count_train(config):
    network = config.build(Task(2, 1, 3))
    image, _ = sample(2)
    losses = network(image, [detection_targets(np.full((1, *image.shape[2:]), -1))])
    assert torch.stack(list(losses.values())).sum().isfinite()
