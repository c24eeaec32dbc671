import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.augmentation import AugmentConfig, augmentation_preset
from medseg.data.augmentation.options import AffineConfig, CutMixConfig, FlipConfig, StyleConfig
from medseg.data.loading.cache.cached_cases import write_cached_case
from medseg.data.loading.loader import AddressSampler, LoaderOptions, patch_loader
from medseg.data.loading.sampling.lateral_swap import LateralSwap
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_dataset import PatchDataset, crop, paste_box
from medseg.data.loading.sampling.patch_sampler import PatchSampler, class_probabilities
from medseg.errors import ConfigError, DataError

NAMES = ("background", "organ", "lesion")
NONE = augmentation_preset("none")
MOVING = AugmentConfig(
    flip=FlipConfig(probability=0.5, axes=(0, 1, 2)),
    affine=AffineConfig(probability=0.5, rotate=30, scale=(0.8, 1.2)),
).model_copy(update={"noise": augmentation_preset("3d").noise, "gamma": augmentation_preset("3d").gamma})


def make_case(folder, codes, image=None, spacing=None):
    """A cached case of codes (*S); the image numbers the voxels from 1."""
    image = np.arange(1, codes.size + 1, dtype=np.float32).reshape(1, *codes.shape) if image is None else image
    return write_cached_case(folder, image, codes, len(NAMES), spacing or (1.0,) * codes.ndim)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Three cases of background and organ (code 2), two of which hold some lesion (code 3)."""
    root = tmp_path_factory.mktemp("cases")
    made = []
    for i, shape in enumerate([(14, 12, 10), (9, 20, 11), (12, 12, 12)]):
        codes = np.ones(shape, np.uint8)
        codes[2:6, 2:8, 1:7] = 2
        if i:
            codes[7, 8:10, 8] = 3
        codes[0, 0, 0] = 0
        made.append(make_case(root / f"case_{i}", codes))
    return made


def plan_of(cases, seed=0, **config):
    return PatchSampler(cases, NAMES, SamplingConfig(patch_size=(6, 7, 8)).model_copy(update=config), seed)


def dataset_of(cases, augment=NONE, length=20, seed=0, **config):
    return PatchDataset(cases, plan_of(cases, seed, **config), augment, length)


def same(a, b):
    return torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])


class TestAddress:
    def test_a_sample_follows_from_seed_epoch_and_position(self, cases):
        first, again = (dataset_of(cases, MOVING) for _ in range(2))
        order = list(range(45))
        forwards = [first[i] for i in order]
        backwards = [again[i] for i in order[::-1]][::-1]
        assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))

    def test_seeds_epochs_and_positions_differ(self, cases):
        dataset, other = dataset_of(cases, MOVING), dataset_of(cases, MOVING, seed=1)
        samples = [dataset[0], dataset[1], dataset[20], dataset[21], other[0], other[20]]
        assert not any(same(a, b) for a, b in itertools.combinations(samples, 2))

    def test_shapes_and_types(self, cases):
        for augment in (NONE, MOVING):
            sample = dataset_of(cases, augment)[3]
            assert sample["image"].shape == sample["label"].shape == (1, 6, 7, 8)
            assert (sample["image"].dtype, sample["label"].dtype) == (torch.float32, torch.int16)
            assert sample["image"].is_contiguous()
            assert sample["label"].is_contiguous()
            assert set(sample["label"].unique().tolist()) <= {-1, 0, 1, 2}

    def test_a_worker_counts_the_voxels_it_drew_not_the_training_process(self, cases):
        for batch in self.loader(cases):
            for label, drawn in zip(batch["label"], batch["class_counts"], strict=True):
                expected = [int((label == k).sum()) for k in (-1, 0, 1, 2)]
                assert drawn.tolist() == expected

    def loader(self, cases):
        return patch_loader(dataset_of(cases, MOVING), LoaderOptions(2, 0, 3, workers=1, timeout=0))


class TestLoader:
    def batches(self, cases, start=0, stop=8, workers=0):
        loader = patch_loader(dataset_of(cases, MOVING), LoaderOptions(3, start, stop, workers, timeout=0))
        return list(loader)

    def test_workers_change_no_bit(self, cases):
        alone, helped = self.batches(cases), self.batches(cases, workers=2)
        assert len(alone) == len(helped) == 8
        assert all(same(a, b) for a, b in zip(alone, helped, strict=True))
        assert alone[0]["image"].shape == (3, 1, 6, 7, 8)

    def test_resuming_gives_the_tail(self, cases):
        whole, tail = self.batches(cases), self.batches(cases, start=5)
        assert len(tail) == 3
        assert all(same(a, b) for a, b in zip(whole[5:], tail, strict=True))

    def test_the_global_random_state_does_not_matter_and_is_not_moved(self, cases):
        torch.manual_seed(1)
        np.random.seed(1)
        state = torch.get_rng_state()
        first = self.batches(cases, stop=2)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        np.random.seed(2)
        assert all(same(a, b) for a, b in zip(first, self.batches(cases, stop=2), strict=True))

    def test_the_number_of_threads_is_put_back(self, cases):
        before = torch.get_num_threads()
        assert dataset_of(cases)[0]
        assert torch.get_num_threads() == before

    def test_addresses(self):
        shares = [list(AddressSampler(5, 2, 4, rank, 2)) for rank in range(2)]
        assert [one + two for one, two in zip(*shares, strict=True)] == list(AddressSampler(5, 2, 4))
        assert [len(one) for one, _ in shares] == [2, 3]
        addresses = AddressSampler(3, 2, 4)
        assert list(addresses) == [[6, 7, 8], [9, 10, 11]]
        assert len(addresses) == 2


class TestPlan:
    @pytest.mark.parametrize("share", [0, 0.25, 1 / 3, 0.5, 0.9, 1])
    def test_forced_positions_are_spread_evenly(self, cases, share):
        plan = plan_of(cases, forced_share=share)
        forced = np.array([plan.draw(0, p).class_index is not None for p in range(60)])
        # of the first n positions, n · share are forced, rounded down
        assert np.array_equal(forced.cumsum(), [int(n * share + 1e-9) for n in range(1, 61)])

    @pytest.mark.parametrize("share", [0, 1 / 3, 0.5])
    def test_the_other_positions_visit_every_case_once_a_turn(self, cases, share):
        plan = plan_of(cases, forced_share=share)
        free = [d.case for d in (plan.draw(2, p) for p in range(60)) if d.class_index is None]
        turns = [tuple(free[i : i + 3]) for i in range(0, len(free) - 2, 3)]
        assert all(sorted(turn) == [0, 1, 2] for turn in turns)
        assert len(set(turns)) > 1  # in a new order each time

    def test_without_a_class_to_draw_every_position_is_free(self, tmp_path):
        cases = [make_case(tmp_path / str(i), np.ones((8, 8, 8), np.uint8)) for i in range(4)]
        drawn = [plan_of(cases, forced_share=0.5).draw(0, p) for p in range(16)]
        assert all(d.class_index is None for d in drawn)
        assert Counter(d.case for d in drawn) == dict.fromkeys(range(4), 4)

    def test_classes_are_drawn_as_often_as_asked(self, cases):
        plan = plan_of(cases, forced_share=1, balance={"organ": 1, "lesion": 3})
        number = 2000
        drawn = [plan.draw(0, p) for p in range(number)]
        for class_index, wanted in ((1, 0.25), (2, 0.75)):
            error = (wanted * (1 - wanted) / number) ** 0.5
            assert abs(np.mean([d.class_index == class_index for d in drawn]) - wanted) < 3 * error
        holders = Counter(d.case for d in drawn if d.class_index == 2)
        assert set(holders) == {1, 2}  # the cases that hold the lesion, evenly
        assert abs(holders[1] / holders.total() - 0.5) < 3 * (0.25 / holders.total()) ** 0.5

    def test_no_cases_raise(self):
        with pytest.raises(DataError, match="no cases to draw patches from"):
            plan_of([])


class TestBalance:
    def probabilities(self, cases, **config):
        return class_probabilities(cases, NAMES, SamplingConfig(patch_size=(4, 4, 4), **config))

    def test_by_hand(self, cases):
        # organ 3 · 4·6·6 = 432, lesion 2 · 2 = 4 voxels
        organ, lesion = 432, 4
        np.testing.assert_allclose(self.probabilities(cases), [0, 0.5, 0.5])
        inverse = self.probabilities(cases, balance="inverse")
        np.testing.assert_allclose(inverse, [0, lesion / (organ + lesion), organ / (organ + lesion)])
        root = self.probabilities(cases, balance="sqrt")
        assert root[2] / root[1] == pytest.approx((organ / lesion) ** 0.5)
        assert self.probabilities(cases, balance="effective")[2] > 0.9
        np.testing.assert_allclose(self.probabilities(cases, include_background=True), [1 / 3] * 3)
        weights = {"background": 1, "organ": 0, "lesion": 3}
        np.testing.assert_allclose(
            self.probabilities(cases, balance=weights, include_background=True), [0.25, 0, 0.75]
        )
        np.testing.assert_allclose(self.probabilities(cases, balance=weights), [0, 0, 1])

    def test_a_class_without_voxels_is_not_drawn(self, cases):
        np.testing.assert_allclose(self.probabilities(cases[:1]), [0, 1, 0])
        assert not self.probabilities(cases[:1], balance={"lesion": 1}).any()

    @pytest.mark.parametrize("balance", ["uniform", "inverse", "sqrt", "effective", {"organ": 1}])
    def test_cases_without_any_label_give_no_class(self, balance, tmp_path):
        empty = make_case(tmp_path / "empty", np.zeros((4, 4, 4), np.uint8))
        assert not self.probabilities([empty], balance=balance).any()

    @pytest.mark.parametrize(
        "balance", [{"tumor": 1}, {"organ": -1, "lesion": 1}, {}, {"organ": 0}, {"background": 1}]
    )
    def test_invalid_weights_raise(self, cases, balance):
        with pytest.raises(
            ConfigError, match=r"sampling\.balance: expected weights ≥ 0 for \['background', 'organ'"
        ):
            self.probabilities(cases, balance=balance)


class TestPatches:
    @pytest.mark.parametrize("augment", [NONE, AugmentConfig(flip=FlipConfig(probability=0.5, axes=(0, 1, 2)))])
    def test_forced_patches_contain_their_class(self, cases, augment):
        dataset = dataset_of(cases, augment, forced_share=1, length=200)
        for position in range(150):
            draw = dataset.sampler.draw(0, position)
            assert (dataset[position]["label"] == draw.class_index).any()

    def test_image_and_label_come_from_the_same_place(self, cases):
        dataset = dataset_of(cases, AugmentConfig(flip=FlipConfig(probability=0.5, axes=(0, 1, 2))), length=200)
        for position in range(40):
            case = cases[dataset.sampler.draw(0, position).case]
            sample = dataset[position]
            number = sample["image"].long()
            assert (number > 0).all()  # the cases are larger than the patch
            assert np.array_equal(case.label.ravel()[number.numpy() - 1].astype(int) - 1, sample["label"])

    def test_free_patches_reach_every_position(self, tmp_path):
        cases = [make_case(tmp_path / "a", np.ones((5, 3, 4), np.uint8))]
        dataset = dataset_of(cases, forced_share=0, patch_size=(3, 3, 3), length=200)
        corners = Counter(int(dataset[i]["image"][0, 0, 0, 0]) for i in range(200))
        # origins 0, 1, 2 along the first axis (steps of 12), 0 and 1 along the last: 6 positions, 33 times each
        assert set(corners) == {1, 2, 13, 14, 25, 26}
        assert all(abs(n - 200 / 6) < 4 * (200 * 5 / 36) ** 0.5 for n in corners.values())

    def test_left_and_right_are_exchanged_exactly_in_mirror_images(self, cases):
        augment = AugmentConfig(flip=FlipConfig(probability=0.5, axes=(0, 1, 2)))
        plain = dataset_of(cases, augment, length=200)
        sided = dataset_of(cases, augment, length=200)
        sided.lateral_pairs = LateralSwap(labels=(0, 2, 1), channels=(0, 2, 1))  # organ: left, lesion: right
        table = torch.tensor([0, 2, 1, -1])
        seen = set()
        for position in range(60):
            draw = plain.sampler.draw(0, position)
            transform = plain.augmenter.draw_transform(draw.rng, (1.0, 1.0, 1.0))
            before, after = plain[position]["label"].long(), sided[position]["label"].long()
            assert torch.equal(after, table[before] if len(transform.flips) % 2 else before)
            seen.add(transform.flips)
        assert len(seen) == 8

    def test_small_cases_are_padded_with_ignored_voxels(self, tmp_path):
        codes = np.full((3, 20, 4), 2, np.uint8)
        dataset = dataset_of([make_case(tmp_path / "a", codes)], patch_size=(8, 8, 8))
        for position in range(10):
            sample = dataset[position]
            held = sample["label"] != -1
            assert held.sum() == 3 * 8 * 4
            assert (sample["label"][held] == 1).all()
            assert (sample["image"][held] > 0).all()
            assert not sample["image"][~held].any()
            assert held[0, 2:5, :, 2:6].all()  # in the middle: (8 - 3) // 2 = 2, (8 - 4) // 2 = 2

    def test_pictures(self, tmp_path):
        codes = np.ones((30, 40), np.uint8)
        codes[10:20, 5:9] = 2
        image = np.stack([np.arange(1200, dtype=np.float32).reshape(30, 40)] * 3)
        config = SamplingConfig(patch_size=(16, 12), forced_share=1)
        plan = PatchSampler([make_case(tmp_path / "a", codes, image)], NAMES, config, 0)
        dataset = PatchDataset([make_case(tmp_path / "b", codes, image)], plan, augmentation_preset("2d"), 10)
        for position in range(10):
            sample = dataset[position]
            assert sample["image"].shape == (3, 16, 12)
            assert sample["label"].shape == (1, 16, 12)


def padded_crop(array, start, size):
    """The same by padding with zeros on every side first."""
    far = 40
    padded = np.pad(array, [(0, 0)] + [(far, far)] * (array.ndim - 1))
    return padded[(slice(None), *(slice(s + far, s + far + n) for s, n in zip(start, size, strict=True)))]


@given(data=st.data(), dims=st.sampled_from([2, 3]))
@settings(deadline=None)
def test_cropping_is_cutting_from_a_padded_array(data, dims):
    def sizes(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(dims))

    shape, patch, origin, more = sizes(1, 7), sizes(1, 9), sizes(-12, 12), sizes(0, 5)
    array = np.arange(1, 2 * np.prod(shape) + 1).reshape(2, *shape)
    assert np.array_equal(crop(array, origin, patch, patch), padded_crop(array, origin, patch))
    # a larger region lies about the same center
    reach = tuple(p + 2 * m for p, m in zip(patch, more, strict=True))
    start = tuple(o - m for o, m in zip(origin, more, strict=True))
    assert np.array_equal(crop(array, origin, patch, reach), padded_crop(array, start, reach))


def test_a_crop_is_a_copy():
    array = np.zeros((1, 4, 4))
    crop(array, (0, 0), (2, 2), (2, 2))[:] = 1
    assert not array.any()


class TestMixing:
    def test_cutmix_replaces_a_box_by_that_of_another_position(self, cases):
        plain = dataset_of(cases, length=30)
        mixed = dataset_of(cases, AugmentConfig(cutmix=CutMixConfig(probability=1, size=(0.5, 0.5))), length=30)
        others = [plain[i] for i in range(30)]
        changed = 0
        for position in range(10):
            sample, before = mixed[position], plain[position]
            differs = sample["image"] != before["image"]
            if not differs.any():
                continue
            box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in differs.nonzero(as_tuple=True))
            changed += 1
            assert all(
                s.stop - s.start <= n for s, n in zip(box[1:], (3, 4, 4), strict=True)
            )  # half of 6, 7, 8
            sources = [o for o in others if torch.equal(o["image"][box], sample["image"][box])]
            assert any(torch.equal(o["label"][box], sample["label"][box]) for o in sources)
            counts = [int((sample["label"] == k).sum()) for k in (-1, 0, 1, 2)]
            assert sample["class_counts"].tolist() == counts
        assert changed >= 8

    def test_a_channel_is_annotated_in_a_mixed_sample_if_it_is_in_both(self):
        def sample(*annotated):
            return {
                "image": torch.zeros(1, 4),
                "label": torch.zeros(1, 4, dtype=torch.int16),
                "annotated": torch.tensor(annotated),
            }

        mixed = paste_box(sample(True, True, False), sample(True, False, False), (slice(1, 2),))
        assert mixed["annotated"].tolist() == [True, False, False]

    def test_style_comes_from_a_drawn_case_and_keeps_labels(self, cases):
        config = AugmentConfig(style=StyleConfig(probability=1, kind="histogram"))
        styled, again, plain = dataset_of(cases, config), dataset_of(cases, config), dataset_of(cases)
        for position in range(5):
            sample = styled[position]
            assert same(sample, again[position])
            assert torch.equal(sample["label"], plain[position]["label"])
            assert not torch.allclose(sample["image"], plain[position]["image"])
            order = plain[position]["image"].ravel().argsort()
            assert (sample["image"].ravel()[order].diff() >= -1e-2).all()  # the order of intensities stays
