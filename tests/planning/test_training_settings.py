"""Settings that follow from a fingerprint."""

import pytest

from medseg.planning.draft import Draft
from medseg.planning.fingerprint import ClassFingerprint, Fingerprint
from medseg.planning.training_settings import (
    chance_of_class,
    choose_augmentation,
    choose_loss,
    choose_mirror_images,
    choose_normalization,
    choose_sampling,
)


def one_class(name="lesion", share=0.01, **fields):
    return ClassFingerprint(name=name, voxel_share=share, case_share=1.0, **fields)


def fingerprint(*classes, **fields):
    values = {
        "kind": "volume", "modality": "other", "cases": 20, "channels": 1, "spacings": ((1.0, 1.0, 1.0),),
        "shapes": ((64, 64, 64),), "intensities": (0.0, 1.0, 2.0), "nonzero_share": 1.0,
        "classes": classes or (one_class(),), "sampled": 12,
    }  # fmt: skip
    return Fingerprint(**(values | fields))


def chosen(function, *arguments):
    draft = Draft()
    function(*arguments, draft)
    return draft


@pytest.mark.parametrize(
    ("fields", "name", "reason"),
    [
        ({"modality": "ct"}, "ct", "0 to 2 HU"),
        ({"nonzero_share": 0.5}, "zscore_nonzero", "50% of a scan's voxels are 0"),
        ({}, "zscore", "no fixed unit"),
        ({"kind": "picture", "modality": "gray", "nonzero_share": 0.5}, "zscore", "no fixed unit"),
    ],
)
def test_normalization(fields, name, reason):
    draft = chosen(choose_normalization, fingerprint(**fields))
    assert draft.settings["preprocess"]["normalize"] == {"name": name}
    assert reason in draft.reasons["preprocess.normalize"]


def test_the_chance_that_a_patch_contains_a_class():
    lesion = one_class(extent=(0.2, 0.4, 1.0))
    assert chance_of_class(lesion, (0.3, 0.5, 0.5)) == pytest.approx(0.5 * 0.9 * 1)
    assert chance_of_class(one_class(), (1.0, 0.5)) == 0.5


@pytest.mark.parametrize(("covered", "share"), [(1.0, 1 / 3), (0.5, 1 / 2), (0.4, 2 / 3)])
def test_rarely_hit_classes_are_forced_more_often(covered, share):
    # chances of 100%, 0.6³ = 22% and 0.5³ = 13%
    lesion = one_class(extent=(0.1,) * 3)
    draft = chosen(choose_sampling, fingerprint(lesion), (covered,) * 3)
    assert draft.settings["sampling"]["forced_share"] == pytest.approx(share, abs=1e-3)


def test_pictures_continue_beyond_their_border():
    for kind, border in (("picture", "reflect"), ("volume", None)):
        draft = chosen(choose_sampling, fingerprint(one_class(), kind=kind), (1.0, 1.0))
        assert draft.settings["sampling"].get("border") == border


def test_many_unequal_classes_are_forced():
    classes = [one_class(str(i), share) for i, share in enumerate((0.4, 0.3, 0.2, 0.01))]
    draft = chosen(choose_sampling, fingerprint(*classes), (1.0,) * 3)
    assert draft.settings["sampling"]["forced_share"] == pytest.approx(2 / 3, abs=1e-3)
    assert "40 times as frequent" in draft.reasons["sampling.forced_share"]


def test_scenes_of_unequal_classes_weigh_the_cross_entropy():
    classes = [one_class("sky", 0.5), one_class("pole", 0.01)]
    terms = chosen(choose_loss, fingerprint(*classes, background=False)).settings["loss"]["terms"]
    assert terms[0]["loss"] == {"name": "ce", "class_weights": "sqrt"}
    terms = chosen(choose_loss, fingerprint(*classes)).settings["loss"]["terms"]
    assert [term["loss"] for term in terms] == [{"name": "dice"}, {"name": "ce"}]


def test_thin_structures_are_named():
    draft = chosen(choose_loss, fingerprint(one_class("vessel", radius=1.8)))
    assert "vessel is thin (radius 1.8 voxels)" in draft.reasons["loss"]
    assert "thin" not in chosen(choose_loss, fingerprint(one_class(radius=6.0))).reasons["loss"]


def test_upright_pictures_are_not_turned():
    sky = one_class("sky", center=(0.15, 0.5), center_spread=(0.05, 0.1))
    draft = chosen(choose_augmentation, fingerprint(sky, kind="picture", modality="color"), 2)
    assert draft.settings["augment"] == {"preset": "2d", "flip": {"axes": [1]}, "affine": {"rotate": 10.0}}
    assert "sky is always above the middle (mean height 85%)" in draft.reasons["augment"]
    anywhere = one_class("nucleus", center=(0.4, 0.5), center_spread=(0.2, 0.2))
    draft = chosen(choose_augmentation, fingerprint(anywhere, kind="picture", modality="gray"), 2)
    assert draft.settings["augment"] == {"preset": "2d_robust"}


def test_pictures_of_thin_structures_keep_the_plain_preset():
    """In trainings of minutes, 2d_robust took 0.045 from the Dice of retinal vessels."""
    vessels = fingerprint(one_class("vessel", radius=2.8), kind="picture", modality="color")
    draft = chosen(choose_augmentation, vessels, 2)
    assert draft.settings["augment"]["preset"] == "2d"
    assert "thin structures (here radius 2.8 pixels)" in draft.reasons["augment"]
    assert chosen(choose_mirror_images, vessels).settings["inference"] == {"flips": [0, 1]}
    street = [one_class("sky", center=(0.15, 0.5), center_spread=(0.05, 0.1)), one_class("pole", radius=1.5)]
    draft = chosen(choose_mirror_images, fingerprint(*street, kind="picture", modality="color"))
    assert draft.settings["inference"] == {"flips": [1]}  # as in the training: poles stand upright
    nuclei = fingerprint(one_class("nucleus", radius=6.0), kind="picture", modality="gray")
    assert "inference" not in chosen(choose_mirror_images, nuclei).settings


def test_objects_of_unequal_size_are_scaled():
    draft = chosen(choose_augmentation, fingerprint(one_class(radius_ratio=2.0)), 3)
    assert draft.settings["augment"]["affine"] == {"scale": [0.6, 1.7]}
