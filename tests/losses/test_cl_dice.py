import numpy as np
import pytest
import torch
from scipy import ndimage

from medseg.losses import ClDiceLoss
from medseg.losses.cl_dice import soft_skeleton

GENERATOR = torch.Generator().manual_seed(0)


def numpy_skeleton(image, iterations):
    """Algorithm 1 of Shit et al. 2021 with SciPy's minimum over direct neighbors and maximum over all."""
    cross = ndimage.generate_binary_structure(image.ndim, 1)
    cube = np.ones((3,) * image.ndim, bool)

    def erode(x):
        return ndimage.grey_erosion(x, footprint=cross, mode="nearest")

    def opened(x):
        return ndimage.grey_dilation(erode(x), footprint=cube, mode="nearest")

    skeleton = np.maximum(image - opened(image), 0)
    for _ in range(iterations):
        image = erode(image)
        delta = np.maximum(image - opened(image), 0)
        skeleton = skeleton + np.maximum(delta - skeleton * delta, 0)
    return skeleton


def certain(mask):
    """Logits of a sigmoid that are sure of a mask (*S)."""
    return (40.0 * mask - 20.0)[None, None]


@pytest.mark.parametrize("shape", [(9, 11), (6, 7, 8), (1, 5), (2, 2, 2)])
def test_the_skeleton_equals_the_algorithm_in_numpy(shape):
    image = torch.rand(shape, generator=GENERATOR, dtype=torch.float64)
    got = soft_skeleton(image[None, None], 3)[0, 0]
    np.testing.assert_allclose(got.numpy(), numpy_skeleton(image.numpy(), 3), atol=1e-12)


def test_a_bar_has_its_central_line_as_skeleton():
    bar = torch.zeros(9, 15)
    bar[3:6, 3:12] = 1  # 3 pixels wide: one erosion leaves the line of 1 x 7 pixels
    skeleton = soft_skeleton(bar[None, None], 2)[0, 0]
    assert skeleton[4, 4:11].tolist() == [1] * 7
    assert skeleton.sum() == 7


def test_by_hand():
    # target: a line of 6 pixels, prediction: the first 3 of them. Both are their own skeletons; smooth = 1.
    # precision (3 + 1) / (3 + 1) = 1, sensitivity (3 + 1) / (6 + 1) = 4/7: 1 - 2 (4/7) / (11/7) = 3/11
    target, guess = torch.zeros(5, 8), torch.zeros(5, 8)
    target[2, 1:7], guess[2, 1:4] = 1, 1
    loss = ClDiceLoss("sigmoid")(certain(guess), target[None, None])
    assert loss.item() == pytest.approx(3 / 11, abs=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_equals_numpy(spatial_dims):
    shape = (7,) * spatial_dims
    logits = torch.randn(1, 2, *shape, generator=GENERATOR, dtype=torch.float64)
    target = torch.randint(0, 2, (1, 1, *shape), generator=GENERATOR)
    p, g = logits.softmax(1)[0, 1].numpy(), target[0, 0].double().numpy()
    skeleton, true_skeleton = numpy_skeleton(p, 3), numpy_skeleton(g, 3)
    precision = ((skeleton * g).sum() + 1) / (skeleton.sum() + 1)
    sensitivity = ((true_skeleton * p).sum() + 1) / (true_skeleton.sum() + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    assert ClDiceLoss()(logits, target).item() == pytest.approx(expected)


def test_an_interrupted_line_costs_more_than_a_thin_one():
    target = torch.zeros(9, 20)
    target[3:6, 1:19] = 1
    gap, thin = target.clone(), torch.zeros(9, 20)
    gap[:, 8:12] = 0  # 12 pixels are missing
    thin[4, 1:19] = 1  # 36 pixels are missing
    costs = [ClDiceLoss("sigmoid")(certain(guess), target[None, None]).item() for guess in (gap, thin)]
    assert costs[0] > 2 * costs[1]
