"""Sessions with a network that segments what is bright: where windows lie, and what they change."""

import numpy as np
import pytest
import torch

from medseg.inference.interactive import object_session
from medseg.inference.interactive.object_session import ObjectSession
from medseg.inference.interactive.windows import ScanWindows, nearest_any
from medseg.prompts import Box, Point


class Bright:
    """Predicts where the image is above a half; remembers its inputs."""

    def __init__(self):
        self.inputs = []

    def __call__(self, batch):
        self.inputs.append(batch[0].numpy())
        bright = batch[:, :1] - 0.5
        return torch.cat([-bright, bright], dim=1)


def session_over(image, shape, network=None, refinements=4):
    dims = image.ndim
    windows = ScanWindows(image[None], lambda v: v, tuple(range(dims)), (False,) * dims, (1.0,) * dims, shape)
    return ObjectSession(windows, network or Bright(), np.zeros(image.shape, bool), refinements)


def box_image(shape, *parts):
    image = np.zeros(shape, np.float32)
    image[tuple(slice(a, b) for a, b in parts)] = 1
    return image


def test_a_small_object_takes_one_window():
    network = Bright()
    image = box_image((64, 64), (20, 26), (30, 36))
    session = session_over(image, (16, 16), network)
    session.add(Point((22.0, 32.0)))
    assert np.array_equal(session.mask, image > 0)
    assert len(network.inputs) == 1
    assert network.inputs[0].shape == (1 + 7, 16, 16)
    assert not network.inputs[0][1].any()  # there is no mask yet
    assert network.inputs[0][2].max() == 1
    session.add(Point((21.0, 31.0), positive=False))
    assert network.inputs[1][1].sum() == 36  # the mask of the first prompt
    assert network.inputs[1][2].max() == network.inputs[1][3].max() == 1


def test_the_window_zooms_out_until_it_contains_the_object():
    image = box_image((96, 96), (10, 60), (20, 70))
    session = session_over(image, (16, 16), refinements=64)
    session.add(Point((40.0, 40.0)))
    assert np.array_equal(session.mask, image > 0)  # exact, because the border was refined


def test_refinements_are_limited():
    network = Bright()
    session = session_over(box_image((96, 96), (10, 60), (20, 70)), (16, 16), network, refinements=2)
    session.add(Point((40.0, 40.0)))
    assert 4 < len(network.inputs) <= 8


def test_the_number_of_windows_does_not_depend_on_the_scan():
    counts = []
    for size in (96, 400):
        network = Bright()
        session = session_over(box_image((size, size), (20, 60), (20, 60)), (16, 16), network)
        session.add(Point((40.0, 40.0)))
        counts.append(len(network.inputs))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("size", [1, 15, 17, 30, 50, 90, 300])
def test_a_prompt_takes_six_windows_at_most(size):
    network = Bright()
    noise = np.random.default_rng(0).random((400, 400)).astype(np.float32)  # changes everything everywhere
    session = session_over(noise, (16, 16), network, refinements=3)
    session.add(Box((40, 40), (40 + size, 40 + size)))
    assert len(network.inputs) <= 3 + 3  # zooms of 1, 2 and 4, then the refinements


class CountedImage:
    """Counts the voxels that are read."""

    def __init__(self, array):
        self.array, self.shape, self.read = array, array.shape, 0

    def __getitem__(self, index):
        part = self.array[index]
        self.read += part.size
        return part


class WatchedMask(np.ndarray):
    """Notes the size of each part of the mask that is computed with."""

    sizes = ()

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        WatchedMask.sizes += tuple(one.size for one in inputs if isinstance(one, WatchedMask))
        plain = [one.view(np.ndarray) if isinstance(one, WatchedMask) else one for one in inputs]
        return getattr(ufunc, method)(*plain, **options)


def test_what_a_prompt_reads_does_not_depend_on_the_scan_and_the_mask(monkeypatch):
    work = []
    for size in (96, 400):
        image = np.ones((size, size), np.float32)
        image[30:50, 30:50] = 0  # a hole in a mask that is as large as the scan
        counted = CountedImage(image[None])
        windows = ScanWindows(counted, lambda v: v, (0, 1), (False, False), (1.0, 1.0), (16, 16))
        session = ObjectSession(windows, Bright(), np.ones((size, size), bool).view(WatchedMask))
        monkeypatch.setattr(WatchedMask, "sizes", ())
        session.add(Point((40.0, 40.0), positive=False))
        assert not session.mask[32:48, 32:48].any()
        session.undo()
        work.append((counted.read, WatchedMask.sizes))
    assert work[0] == work[1]


def test_no_more_windows_are_searched_for_a_border_than_are_refined(monkeypatch):
    searched = []

    def note(*arguments):
        searched.append(arguments)
        return nearest_any(*arguments)

    monkeypatch.setattr(object_session, "nearest_any", note)
    noise = np.random.default_rng(0).random((96, 96)).astype(np.float32)
    session_over(noise, (16, 16), refinements=3).add(Point((40.0, 40.0)))
    assert len(searched) == 3  # of 25


def test_a_box_is_covered_from_the_start():
    network = Bright()
    session = session_over(box_image((96, 96), (20, 40), (20, 40)), (16, 16), network, refinements=0)
    session.add(Box((18, 18), (42, 42)))
    assert len(network.inputs) == 1
    assert network.inputs[0][4].sum() >= 100  # of 256


def test_a_zoomed_out_prompt_keeps_the_details_of_what_it_does_not_change():
    def keeps_and_adds(batch):
        """Return the mask before with what is marked by an area."""
        wanted = torch.maximum(batch[:, 1:2], batch[:, 4:5]) - 0.5
        return torch.cat([-wanted, wanted], dim=1)

    image = np.zeros((128, 128), np.float32)
    fine = np.zeros((128, 128), bool)
    fine[10:60:2, 10:100] = True  # thinner than the voxels of the window
    windows = session_over(image, (32, 32)).windows
    session = ObjectSession(windows, keeps_and_adds, fine.copy())
    session.add(Box((70, 10), (120, 110)))
    assert session.mask[80:110, 20:100].all()
    assert np.array_equal(session.mask[:62], fine[:62])
    session.undo()
    assert np.array_equal(session.mask, fine)


def test_a_change_that_vanishes_in_the_zoomed_out_window_is_kept():
    class Detail(Bright):
        """Fills windows of full resolution, which have the point's spot at its full width; else nothing."""

        def __call__(self, batch):
            self.inputs.append(batch[0].numpy())
            wide = len(self.inputs) == 1
            wanted = batch[:, :1] * 0 + (1 if wide else -1)
            return torch.cat([-wanted, wanted], dim=1)

    session = session_over(np.zeros((96, 96), np.float32), (16, 16), Detail())
    session.add(Point((40.0, 40.0)))
    assert session.mask.sum() == 256


def test_undo_restores_the_mask_before():
    image = box_image((64, 64), (20, 26), (30, 36))
    image[50:54, 50:54] = 1
    session = session_over(image, (16, 16))
    session.add(Point((22.0, 32.0)))
    before = session.mask.copy()
    session.add(Point((52.0, 52.0)))
    assert np.array_equal(session.mask, image > 0)
    session.undo()
    assert np.array_equal(session.mask, before)
    assert len(session.prompts) == 1
    session.undo()
    session.undo()
    assert not session.mask.any()
    assert not session.prompts


def test_a_first_mask_is_seen_and_corrected():
    image = box_image((32, 32), (10, 14), (10, 14))
    session = session_over(image, (16, 16))
    network = Bright()
    wrong = np.zeros((32, 32), bool)
    wrong[8:12, 8:12] = True
    session = ObjectSession(session.windows, network, wrong)
    session.add(Point((13.0, 13.0)))
    assert network.inputs[0][1].sum() == 16
    assert np.array_equal(session.mask, image > 0)


def test_a_failed_prompt_leaves_the_session_as_it_was():
    def fails(batch):
        raise RuntimeError("no memory")

    session = session_over(box_image((16, 16), (4, 8), (4, 8)), (16, 16), fails)
    with pytest.raises(RuntimeError, match="no memory"):
        session.add(Point((5.0, 5.0)))
    assert not session.prompts
