from pathlib import Path

import numpy as np
import pytest

from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.geometry import Grid
from medseg.inference.shift.comparison import compare, distance, measure_prediction, tolerance
from medseg.inference.shift.fingerprint import Distribution, TrainingFingerprint
from medseg.inference.shift.modality import check_modality

SIZES = Distribution(cases=100, low=9, q25=14, median=16, q75=18, high=24)
SHARES = Distribution(cases=100, low=0.1, q25=0.2, median=0.25, q75=0.3, high=0.4)


def spread(low, high, cases=100):
    """Values of training cases, evenly spaced."""
    return tuple(np.linspace(low, high, cases).tolist())


def fingerprint(kind="picture", **changes):
    features = {"object_size:nucleus": spread(9, 24), "saturation": spread(0.1, 0.4)}
    return TrainingFingerprint(**{"cases": 100, "kind": kind, "lowest": 0.0, "features": features} | changes)


def test_distances_are_measured_from_the_range_in_interquartile_ranges():
    assert distance("saturation", 0.6, SHARES) == pytest.approx(2)  # (0.6 - 0.4) / (0.3 - 0.2)
    assert distance("saturation", 0.05, SHARES) == pytest.approx(0.5)
    assert distance("saturation", 0.4, SHARES) == 0
    # log(48 / 24) / log(18 / 14)
    assert distance("object_size:nucleus", 48, SIZES) == pytest.approx(np.log(2) / np.log(18 / 14))
    brightness = Distribution(cases=9, low=25, q25=50, median=75, q75=100, high=200)
    # the unit is 250: log(1.0 + 0.05) - log(0.8 + 0.05), divided by log(0.45 / 0.25)
    assert distance("middle", 250, brightness, 250) == pytest.approx(np.log(1.05 / 0.85) / np.log(0.45 / 0.25))


def test_training_cases_that_are_all_alike_do_not_make_others_infinitely_far():
    alike = Distribution.of([1.0] * 20)
    assert distance("spacing:right", 1.05, alike) == pytest.approx(np.log(1.05) / 0.1)


def test_a_feature_that_is_far_outside_is_reported_by_name_and_number():
    report = compare({"object_size:nucleus": 66.0, "saturation": 0.3}, fingerprint(), raw=True)
    (warning,) = report.warnings
    assert warning.feature == "object_size:nucleus"
    assert report.score == warning.distance > 1
    assert warning.describe() == (
        "median object size (nucleus) 4 × the training's (66 pixels; training 9.15 to 23.9 pixels): "
        "try --rescale auto"
    )
    (again,) = compare({"object_size:nucleus": 66.0}, fingerprint(), raw=True, rescaled=True).warnings
    assert again.advice == "look at the result (--overlays)"
    content = report.as_dict()
    assert content["score"] == round(report.score, 3)
    assert content["warnings"][0]["training"] == "9.15 to 23.9 pixels"
    assert content["features"] == {"object_size:nucleus": 66.0, "saturation": 0.3}
    assert compare({"object_size:nucleus": 16.0, "saturation": 0.2}, fingerprint(), raw=True).score == 0


def test_an_unusual_prediction_of_a_usual_scan_is_one_short_warning_without_advice_on_spacing():
    """The spacing is that of the training; an undertrained network labels too much of everything."""
    features = {f"spacing:{axis}": spread(0.9, 1.1) for axis in ("right", "anterior", "superior")}
    for label in ("head", "tail"):
        features |= {f"object_size:{label}": spread(9, 24), f"share:{label}": spread(0.01, 0.02)}
    trained = fingerprint("volume", features={**features, "contrast": spread(0.4, 0.6)})
    scan = {f"spacing:{axis}": 1.0 for axis in ("right", "anterior", "superior")}
    labeled = {"object_size:head": 160.0, "object_size:tail": 150.0, "share:head": 0.3, "share:tail": 0.2,
               "contrast": -0.9}  # fmt: skip
    report = compare({**scan, **labeled}, trained, raw=False)
    assert len(report.warnings) == 5
    (line,) = report.lines
    assert line.endswith(
        " and 3 more: the scan fits the training, its prediction does not: look at the result (--overlays)"
    )
    assert "spacing" not in line
    assert len(line) < 220
    stretched = {**scan, "spacing:superior": 9.0, "object_size:head": 160.0}
    lines = compare(stretched, trained, raw=False).lines
    assert any("check the scan's spacing" in line for line in lines)
    assert len(lines) == 2


def test_a_picture_is_compared_with_the_training_pictures_like_it():
    # 50 dark pictures with small objects, 50 bright ones with large objects
    features = {
        "middle": (*spread(5, 10, 50), *spread(180, 200, 50)),
        "high": (*spread(50, 60, 50), *spread(200, 210, 50)),
        "saturation": (*spread(0, 0.02, 50), *spread(0.2, 0.3, 50)),
        "object_size:nucleus": (*spread(9, 12, 50), *spread(40, 50, 50)),
    }
    mixed = fingerprint(features=features)
    dark = {"middle": 8.0, "high": 55.0, "saturation": 0.01}
    assert not compare({**dark, "object_size:nucleus": 11.0}, mixed, raw=True).warnings
    (warning,) = compare({**dark, "object_size:nucleus": 45.0}, mixed, raw=True).warnings
    assert warning.expected == "9.03 to 12 pixels in similar pictures"
    bright = {"middle": 190.0, "high": 205.0, "saturation": 0.25}
    assert not compare({**bright, "object_size:nucleus": 45.0}, mixed, raw=True).warnings


def test_cases_without_a_feature_do_not_count():
    partly = fingerprint(features={"object_size:nucleus": (None, *spread(9, 24, 20), None)})
    assert partly.distribution("object_size:nucleus").cases == 20
    assert compare({"object_size:nucleus": 15.0}, partly, raw=True).score == 0


def test_raw_intensities_of_volumes_count_only_if_the_network_sees_them():
    ct = fingerprint(
        "volume", features={"inside": spread(40, 60), "low": spread(-1000, -900), "high": spread(90, 99)}
    )
    assert [w.feature for w in compare({"inside": 900.0}, ct, raw=True).warnings] == ["inside"]
    assert compare({"inside": 900.0}, ct, raw=False).score == 0


def test_few_training_cases_tolerate_more():
    assert tolerance(4) > tolerance(20) > tolerance(1000)
    few = fingerprint(features={"saturation": spread(0.1, 0.4, 4)})
    assert compare({"saturation": 0.7}, fingerprint(), raw=True).warnings
    assert not compare({"saturation": 0.7}, few, raw=True).warnings


def test_axes_of_volumes_are_compared_by_their_direction():
    affine = np.array(
        [[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]]
    )  # anterior, superior, right
    scan = Scan(np.ones((1, 4, 5, 6)), Grid((4, 5, 6), affine), "volume", Path("a.nii.gz"))
    labels = LabelSchema(names={"background": (0,), "organ": (1,)})
    values = measure_prediction(scan, np.zeros((4, 5, 6), np.uint8), labels)
    assert [values[f"spacing:{axis}"] for axis in ("right", "anterior", "superior")] == [3, 1, 2]
    assert [values[f"extent:{axis}"] for axis in ("right", "anterior", "superior")] == [18, 4, 10]
    assert values["share:organ"] == 0
    assert "object_size:organ" not in values


def test_objects_of_a_resized_picture_are_measured_at_its_scale():
    pixels = np.zeros((1, 20, 20), np.uint8)
    pixels[:, 4:14, 4:14] = 200
    scan = Scan(pixels, Grid.picture(20, 20), "picture", Path("a.png"))
    labels = LabelSchema(names={"background": (0,), "nucleus": (255,)})
    label_map = np.where(pixels[0] > 0, 255, 0)
    values = measure_prediction(scan, label_map, labels)
    assert values["object_size:nucleus"] == pytest.approx(2 * np.sqrt(100 / np.pi))
    assert values["contrast"] == 1  # 200 - 0, of the range 0 to 200
    resized = measure_prediction(scan, label_map, labels, 0.5)
    assert resized["object_size:nucleus"] == pytest.approx(2 * np.sqrt(25 / np.pi))


def scan_of(lowest, modality=None):
    array = np.zeros((1, 4, 4, 4), np.int16)
    array[0, 0] = lowest
    return Scan(array, Grid((4, 4, 4), np.eye(4)), "volume", Path("a.nii.gz"), modality=modality)


@pytest.mark.parametrize(
    ("trained", "lowest", "scan", "message"),
    [
        ("MR", 0, scan_of(0, "CT"), "modality CT; the model was trained on MR"),
        ("CT", -1024, scan_of(0, "MR"), "modality MR; the model was trained on CT"),
        ("MR", 0, scan_of(-1000), "Hounsfield units"),
        (None, 0, scan_of(-1000), "Hounsfield units"),
        (None, 0, scan_of(-1000, "CT"), "Hounsfield units"),
    ],
)
def test_scans_of_another_modality_are_refused(trained, lowest, scan, message):
    with pytest.raises(DataError, match=message) as error:
        check_modality(scan, fingerprint("volume", modality=trained, lowest=lowest))
    assert "--force" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("trained", "lowest", "scan"),
    [
        ("CT", -1024, scan_of(-1000, "CT")),
        ("CT", 0, scan_of(-1000)),
        (None, -100, scan_of(-1000)),  # the training may be CT of soft tissue
        (None, 0, scan_of(-300)),
        ("MR", 0, scan_of(0)),
    ],
)
def test_scans_of_the_same_or_an_unknown_modality_are_accepted(trained, lowest, scan):
    check_modality(scan, fingerprint("volume", modality=trained, lowest=lowest))
