"""Properties that hold for every pair of masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.metrics import LesionOptions, MeasureOptions, measure_case, metric_info

SPACINGS = st.sampled_from([(0.5, 2.0), (1.0, 1.0), (0.7, 1.0, 2.5)])
SURFACES = st.sampled_from(["surfel", "voxel"])
GROUPS = ("overlap", "boundary", "lesions")
DISTANCES = ("hd", "hd95", "hd50", "assd", "masd")
SYMMETRIC = ("dice", "iou", "accuracy", "volume_similarity", "kappa", "mcc", *DISTANCES, "nsd", "boundary_iou")


@st.composite
def cases(draw):
    spacing = draw(SPACINGS)
    masks = hnp.arrays(np.uint8, (5, 4, 3)[: len(spacing)], elements=st.integers(0, 1))
    return draw(masks), draw(masks), spacing, draw(SURFACES)


def measure(reference, prediction, spacing, surface, tolerance=1.0):
    options = MeasureOptions(tolerance, surface, groups=GROUPS, percentiles=(95, 50))
    return measure_case(reference, prediction, {"x": [1]}, spacing, options)[0]


def assert_equal(one, two, keys=None):
    for key in keys or one:
        if key not in ("label", "name", "tn", "accuracy", "specificity", "kappa", "mcc") or keys:
            assert one[key] == pytest.approx(two[key], rel=1e-9, nan_ok=True), key


@settings(max_examples=25, deadline=None)
@given(cases())
def test_swapping_the_masks(case):
    reference, prediction, spacing, surface = case
    one, two = measure(*case), measure(prediction, reference, spacing, surface)
    assert_equal(one, two, SYMMETRIC)
    assert one["precision"] == pytest.approx(two["recall"], nan_ok=True)
    assert one["lesion_f1"] == pytest.approx(two["lesion_f1"], nan_ok=True)
    assert one["fp_volume"] == pytest.approx(two["fn_volume"])


@settings(max_examples=25, deadline=None)
@given(cases(), st.sampled_from([0.25, 3.0]))
def test_distances_scale_with_the_spacing(case, factor):
    reference, prediction, spacing, surface = case
    one = measure(*case)
    scaled = measure(reference, prediction, tuple(factor * mm for mm in spacing), surface, factor)
    for key in DISTANCES:
        assert scaled[key] == pytest.approx(factor * one[key], rel=1e-9, nan_ok=True)
    assert_equal(one, scaled, ("dice", "nsd", "boundary_iou", "lesion_f1"))


@settings(max_examples=25, deadline=None)
@given(cases(), st.integers(0, 2))
def test_flips_and_padding_change_nothing(case, axis):
    reference, prediction, spacing, surface = case
    one = measure(*case)
    axis = min(axis, reference.ndim - 1)
    assert_equal(one, measure(np.flip(reference, axis), np.flip(prediction, axis), spacing, surface))
    padded = (np.pad(mask, [(3, 1)] * mask.ndim) for mask in (reference, prediction))
    assert_equal(one, measure(*padded, spacing, surface))
    turned = (np.asfortranarray(mask) for mask in (reference, prediction))
    assert_equal(one, measure(*turned, spacing, surface))


@settings(max_examples=25, deadline=None)
@given(cases())
def test_bounds(case):
    row = measure(*case)
    for key, value in row.items():
        if key in ("label", "name") or np.isnan(value):
            continue
        info = metric_info(key)
        if info.unit == "" and info.better == "higher":
            low = -1 if key in ("kappa", "mcc") else 0
            assert low - 1e-12 <= value <= 1 + 1e-12 or key == "lesion_tp", key
        elif info.better == "lower":
            assert value >= 0, key
    if not np.isnan(row["hd"]):
        assert row["hd50"] <= row["hd95"] <= row["hd"]
        assert row["masd"] <= row["hd"]
        assert row["iou"] <= row["dice"]


@settings(max_examples=20, deadline=None)
@given(cases())
def test_a_mask_equals_itself(case):
    reference, _, spacing, surface = case
    row = measure(reference, reference, spacing, surface)
    if reference.any():
        assert all(row[key] == 1 for key in ("dice", "iou", "nsd", "boundary_iou", "lesion_f1"))
        assert all(row[key] == 0 for key in DISTANCES)


@settings(max_examples=15, deadline=None)
@given(hnp.arrays(np.uint8, (6, 5, 4), elements=st.integers(0, 1)))
def test_brats_of_a_mask_with_itself(mask):
    options = MeasureOptions(groups=("lesions",), lesions=LesionOptions(brats="MET"))
    row = measure_case(mask, mask, {"x": [1]}, (1, 1, 1), options)[0]
    assert (row["brats_dice"], row["brats_hd95"], row["brats_fn"]) == (1, 0, 0)
