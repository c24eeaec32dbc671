"""A few numbers of published implementations, with weights that follow from the published keys alone.

Each tensor is drawn from a generator seeded with the CRC-32 of its published key, so no weights need to
travel. The expected numbers (mean, deviation, projection on random signs, of all logits) were computed with
torchvision 0.27.1, segmentation_models_pytorch 0.6.0 and the official HRNet.
"""

import zlib

import numpy as np
import pytest
import torch

from medseg.models import BackboneUNetConfig, DeepLabV3Config, FCNConfig, HRNetV2Config
from medseg.task import Task


def generator(text):
    return np.random.RandomState(zlib.crc32(text.encode()))


def drawn(key, shape):
    """The weight of a published key."""
    rng = generator(key)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if key.endswith("running_mean"):
        values = 0.2 * rng.standard_normal(shape)
    elif key.endswith("running_var"):
        values = 0.5 + rng.random_sample(shape)
    elif len(shape) > 1:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = 0.5 + 0.5 * rng.random_sample(shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def smp_key(key):
    return key.replace("backbone.", "encoder.", 1).replace("score.", "segmentation_head.0.", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "classes", "size", "published", "expected"),
    [
        (FCNConfig(), 21, (65, 97), str, (-0.0151504, 0.3325689, -0.2860409)),
        (
            DeepLabV3Config(output_stride=8, auxiliary=True),
            21,
            (65, 97),
            str,
            (-0.0589904, 0.2053427, 0.0167820),
        ),
        (
            HRNetV2Config(),
            19,
            (65, 97),
            lambda key: key.removeprefix("backbone."),
            (0.5106002, 23.3756379, 3.0176083),
        ),
        (BackboneUNetConfig(full_skip=False), 5, (64, 96), smp_key, (-0.0451127, 0.1832725, -0.0876080)),
    ],
    ids=["fcn_resnet50", "deeplabv3_resnet50", "hrnetv2_w18", "smp_unet_resnet34"],
)
@torch.inference_mode()
def test_logits_are_the_published_networks(config, classes, size, published, expected):
    network = config.build(Task(2, 3, classes)).eval()
    state = {key: drawn(published(key), tuple(value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(state, strict=True)
    shape = (1, 3, *size)
    picture = generator("input:" + "x".join(map(str, shape))).standard_normal(shape)
    image = torch.from_numpy(picture.astype(np.float32))
    quarter = isinstance(config, HRNetV2Config)  # the official network leaves the logits at that size
    logits = network.raw_logits(image).logits if quarter else network(image)
    values = logits.double().flatten().numpy()
    signs = generator(f"sign:{values.size}").randint(0, 2, values.size) * 2 - 1
    found = (values.mean(), values.std(), (values * signs).sum() / np.sqrt(values.size))
    assert found == pytest.approx(expected, abs=1e-4 * expected[1])
