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
BRIGHTNESS = Distribution(cases=100, low=10, q25=20, median=25, q75=30, high=50)


def fingerprint(kind="picture", **changes):
    features = {"object_size:nucleus": SIZES, "middle": BRIGHTNESS}
    return TrainingFingerprint(
        **{"cases": 100, "kind": kind, "lowest": 0.0, "features": features, "objects": {}} | changes
    )


def test_distances_are_measured_from_the_range_in_interquartile_ranges():
    assert distance("middle", 70, BRIGHTNESS) == 2  # (70 - 50) / (30 - 20)
    assert distance("middle", 5, BRIGHTNESS) == 0.5
    assert distance("middle", 50, BRIGHTNESS) == 0
    # log(48 / 24) / log(18 / 14)
    assert distance("object_size:nucleus", 48, SIZES) == pytest.approx(np.log(2) / np.log(18 / 14))


def test_training_cases_that_are_all_alike_do_not_make_others_infinitely_far():
    alike = Distribution.of([1.0] * 20)
    assert distance("spacing:right", 1.05, alike) == pytest.approx(np.log(1.05) / 0.1)


def test_a_feature_that_is_far_outside_is_reported_by_name_and_number():
    report = compare({"object_size:nucleus": 38.4, "middle": 30.0}, fingerprint(), raw=True)
    assert [one.feature for one in report.warnings] == ["object_size:nucleus"]
    assert report.score == report.warnings[0].distance
    assert report.warnings[0].describe() == (
        "median object size (nucleus) 2.4 × the training's (38.4 pixels; training 9 to 24 pixels): "
        "try --rescale auto"
    )
    content = report.as_dict()
    assert content["score"] == pytest.approx(np.log(38.4 / 24) / np.log(18 / 14), abs=1e-3)
    assert content["warnings"][0]["training"] == "9 to 24 pixels"
    assert content["features"] == {"object_size:nucleus": 38.4, "middle": 30.0}


def test_raw_intensities_count_only_if_the_network_sees_them():
    assert compare({"middle": 200.0}, fingerprint(), raw=True).warnings
    assert compare({"middle": 200.0}, fingerprint(), raw=False).score == 0


def test_few_training_cases_tolerate_more():
    assert tolerance(4) > tolerance(20) > tolerance(1000)
    few = fingerprint(features={"middle": BRIGHTNESS.model_copy(update={"cases": 4})})
    assert compare({"middle": 70.0}, fingerprint(), raw=True).warnings
    assert not compare({"middle": 70.0}, few, raw=True).warnings


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
