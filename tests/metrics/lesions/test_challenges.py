import numpy as np
import pytest

from medseg.metrics import autopet_volumes, brats_lesion_scores


def volume(*boxes):
    mask = np.zeros((30, 20, 20), np.uint8)
    for low, high in boxes:
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


BIG = ((2, 2, 2), (7, 7, 7))  # 125 voxels
FAR = ((20, 2, 2), (25, 7, 7))
SPECK = ((2, 15, 15), (4, 18, 18))  # 18 voxels: at most 50 mm³


def test_brats_found_missed_and_false():
    reference, prediction = volume(BIG, FAR), volume(BIG, ((20, 15, 15), (21, 16, 16)))
    scores = brats_lesion_scores(reference, prediction, (1, 1, 1), "GLI")
    # Dice 1, missed 0, false 0; distances 0, 374, 374
    assert (scores["brats_tp"], scores["brats_fn"], scores["brats_fp"]) == (1, 1, 1)
    assert scores["brats_dice"] == pytest.approx(1 / 3)
    assert scores["brats_hd95"] == pytest.approx(2 * 374 / 3)


def test_brats_leaves_small_lesions_out():
    scores = brats_lesion_scores(volume(BIG, SPECK), volume(BIG), (1, 1, 1), "GLI")
    assert (scores["brats_dice"], scores["brats_fn"]) == (1.0, 0)
    assert brats_lesion_scores(volume(BIG, SPECK), volume(BIG), (1, 1, 1), "MET")["brats_fn"] == 1
    # a prediction of the small lesion claims nothing that counts, and is no false positive
    both = brats_lesion_scores(volume(BIG, SPECK), volume(BIG, SPECK), (1, 1, 1), "GLI")
    assert (both["brats_dice"], both["brats_fp"]) == (1.0, 0)


def test_brats_joins_what_touches_after_dilation():
    # a gap of 4 voxels closes after 3 dilations of each side, not after 1
    near = ((11, 2, 2), (16, 7, 7))
    scores = brats_lesion_scores(volume(BIG, near), volume(BIG), (1, 1, 1), "GLI")
    assert (scores["brats_tp"], scores["brats_fn"]) == (1, 0)
    assert scores["brats_dice"] == pytest.approx(2 * 125 / (250 + 125))
    assert brats_lesion_scores(volume(BIG, near), volume(BIG), (1, 1, 1), "MEN")["brats_fn"] == 1


def test_brats_without_lesions():
    empty = volume()
    assert brats_lesion_scores(empty, empty, (1, 1, 1), "PED")["brats_dice"] == 1.0
    false = brats_lesion_scores(empty, volume(BIG), (1, 1, 1), "PED")
    assert (false["brats_dice"], false["brats_hd95"], false["brats_fp"]) == (0.0, 374.0, 1)


def test_brats_errors():
    with pytest.raises(ValueError, match="2 axes"):
        brats_lesion_scores(np.ones((3, 3)), np.ones((3, 3)), (1, 1), "GLI")
    with pytest.raises(ValueError, match="challenge is 'XYZ'"):
        brats_lesion_scores(volume(), volume(), (1, 1, 1), "XYZ")


def test_autopet_counts_whole_components_without_overlap():
    assert autopet_volumes(volume(BIG, FAR), volume(BIG, SPECK)) == (18, 125)
    # neighbors across a corner are two components: one of them overlaps, the other is false-positive
    reference, prediction = np.zeros((3, 3, 3)), np.zeros((3, 3, 3))
    reference[0, 0, 0] = prediction[0, 0, 0] = prediction[1, 1, 1] = 1
    assert autopet_volumes(reference, prediction) == (1, 0)
    prediction[1, 1, 1], prediction[1, 1, 0] = 0, 1  # across an edge: one component
    assert autopet_volumes(reference, prediction) == (0, 0)
