"""Contract of the dense heads: what every decoder must do."""

import time

import numpy as np
import pytest
import torch

from medseg.demo.cells import draw_cells
from medseg.instances.heads.base import build_head
from medseg.instances.matching import match_objects, pooled_score
from medseg.instances.options import InstanceDecoding, InstanceTask

DECODERS = ("flows", "distance", "rays")
LOGIT = {"flows": None, "distance": 1, "rays": 0}
"""The map that is a logit in the output of a network, and a probability in the targets."""


def as_predicted(decoder: str, maps: np.ndarray) -> np.ndarray:
    """Return targets as a perfect network predicts them."""
    index = LOGIT[decoder]
    if index is not None:
        share = np.clip(maps[index], 1e-4, 1 - 1e-4)
        maps[index] = np.log(share / (1 - share))
    return maps


def round_trip(decoder: str, label_map: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    head = build_head(InstanceTask(decoder=decoder), label_map.ndim)
    maps = as_predicted(decoder, head.targets(label_map, spacing))
    foreground = (label_map > 0).astype(np.float32)
    return head.decode(foreground, maps, spacing, InstanceDecoding()).label_map


@pytest.mark.parametrize("decoder", DECODERS)
def test_touching_cells_in_2d_come_back(decoder):
    cells = draw_cells((96, 96), (1.0, 1.0), np.random.default_rng(0))
    matched = match_objects(cells, round_trip(decoder, cells, (1.0, 1.0)))
    assert matched.reference >= 10
    assert matched.counts() == (matched.reference, 0, 0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_touching_cells_in_3d_come_back_where_voxels_are_anisotropic(decoder):
    spacing = (1.0, 1.0, 3.0)
    cells = draw_cells((32, 32, 16), spacing, np.random.default_rng(1))
    matched = match_objects(cells, round_trip(decoder, cells, spacing))
    assert matched.reference >= 8
    assert matched.counts() == (matched.reference, 0, 0)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_real_nuclei_come_back(decoder, data_root):
    from PIL import Image

    files = sorted((data_root / "nuclei" / "labels").glob("*.png"))[::10]
    matches = [match_objects(label, round_trip(decoder, label, (1.0, 1.0))) for label in
               (np.asarray(Image.open(file)).astype(np.int32) for file in files)]  # fmt: skip
    assert pooled_score(matches) >= 0.97


@pytest.mark.parametrize("decoder", DECODERS)
def test_noise_is_decoded_in_bounded_time(decoder):
    rng = np.random.default_rng(0)
    head = build_head(InstanceTask(decoder=decoder), 2)
    foreground = rng.uniform(0, 1, (64, 64)).astype(np.float32)
    maps = rng.normal(0, 5, (head.channels, 64, 64)).astype(np.float32)
    began = time.process_time()
    decoded = head.decode(foreground, maps, (1.0, 1.0), InstanceDecoding())
    assert time.process_time() - began < 5
    assert len(decoded.scores) == decoded.label_map.max()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("dims", [2, 3])
def test_empty_images(decoder, dims):
    shape, spacing = (8,) * dims, (1.0,) * dims
    head = build_head(InstanceTask(decoder=decoder), dims)
    maps = head.targets(np.zeros(shape, np.int32), spacing)
    assert maps.shape == (head.channels, *shape)
    assert not maps.any()
    decoded = head.decode(np.zeros(shape, np.float32), as_predicted(decoder, maps), spacing, InstanceDecoding())
    assert not decoded.label_map.any()
    assert len(decoded.scores) == 0


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_maps_of_a_mirror_image_are_restored(decoder, axes):
    cells = draw_cells((48, 48), (1.0, 1.0), np.random.default_rng(2)).astype(np.int32)
    head = build_head(InstanceTask(decoder=decoder), 2)
    maps = head.targets(cells, (1.0, 1.0))
    of_mirror = head.targets(np.flip(cells, axes), (1.0, 1.0))
    unflipped = torch.from_numpy(np.flip(of_mirror, [1 + axis for axis in axes]).copy())[None]
    restored = head.mirror(unflipped, axes)[0].numpy()
    inside = cells > 0  # rays on a grid are rounded to a step of at most √2; centers may be tied
    assert np.mean(np.abs(restored - maps)[:, inside] < 1.5) > 0.95


@pytest.mark.parametrize("decoder", DECODERS)
def test_loss_is_smallest_at_the_targets_and_skips_ignored_voxels(decoder):
    cells = draw_cells((32, 32), (1.0, 1.0), np.random.default_rng(3)).astype(np.int32)
    head = build_head(InstanceTask(decoder=decoder), 2)
    target = torch.from_numpy(head.targets(cells, (1.0, 1.0)))[None]
    best = torch.from_numpy(as_predicted(decoder, target[0].numpy().copy()))[None]
    counted = torch.ones(1, 1, 32, 32)
    counted[..., :16] = 0
    wrong = best.clone()
    wrong[..., :16] += 3  # ignored
    assert head.loss(best, target, counted) == head.loss(wrong, target, counted)
    assert head.loss(best, target, counted) < head.loss(best + 1, target, counted)
