"""Classes, ignored voxels and datasets in the comparison of numbered objects."""

import json
import pickle

import numpy as np
import pytest
from conftest import write_picture

from medseg.cli.main import run
from medseg.errors import ConfigError, DataError
from medseg.evaluation.objects import evaluate_objects
from medseg.evaluation.objects.references import DatasetReferences


def write(path, label_map):
    write_picture(path, np.array(label_map, np.uint16))


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["case,instance,class,score", *(f"{path.stem},{n},{kind},{score}" for n, kind, score in rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folders(tmp_path):
    """Two objects of two classes; both are found, the second as the wrong class."""
    write(tmp_path / "labels" / "a.png", [[1, 1, 0, 2, 2]])
    write(tmp_path / "found" / "a.png", [[1, 1, 0, 2, 2]])
    write_table(tmp_path / "labels" / "instances" / "a.csv", [(1, "tumor", 1), (2, "immune", 1)])
    write_table(tmp_path / "found" / "instances" / "a.csv", [(1, "tumor", 0.9), (2, "tumor", 0.8)])
    return tmp_path


def test_each_class_has_its_own_scores(folders, capsys):
    found = evaluate_objects(folders / "found", folders / "labels")
    assert found.summary["scores"]["pooled_50"] == 1
    classes = found.summary["classes"]
    assert classes["tumor"]["pooled_50"] == 0.5  # one right, one wrong
    assert classes["tumor"]["ap50"] == pytest.approx(1)  # the wrong one has the lower score
    assert classes["immune"]["pooled_50"] == 0
    assert run(["evaluate", str(folders / "found"), str(folders / "labels"), "--objects"]) == 0
    assert "immune" in capsys.readouterr().out


def test_without_classes_on_both_sides_there_are_none(folders):
    (folders / "labels" / "instances" / "a.csv").unlink()
    assert evaluate_objects(folders / "found", folders / "labels").summary["classes"] == {}


def test_ignored_voxels_count_neither_as_found_nor_as_wrong(folders):
    write(folders / "labels" / "a.png", [[1, 1, 255, 255, 255]])
    write(folders / "found" / "a.png", [[1, 1, 0, 2, 0]])
    counted = evaluate_objects(folders / "found", folders / "labels").summary["scores"]["pooled_50"]
    assert counted == pytest.approx(1 / 3)  # one found, one missed, one wrong
    found = evaluate_objects(folders / "found", folders / "labels", ignore_value=255)
    assert found.summary["scores"]["pooled_50"] == 1
    assert found.summary["scores"]["ap"] == pytest.approx(1)
    assert found.rows[0]["predicted"] == 1


def test_a_dataset_of_geojson_gives_objects_and_classes(folders):
    def feature(name, first):
        ring = [[first, 0], [first + 2, 0], [first + 2, 1], [first, 1], [first, 0]]
        return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"classification": {"name": name}}}  # fmt: skip

    data = folders / "data"
    write_picture(data / "images" / "a.png", np.zeros((1, 5), np.uint8))
    (data / "labels").mkdir()
    features = [feature("tumor", 0), feature("immune", 3)]
    (data / "labels" / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    references = DatasetReferences.of(data)
    assert references.read("a").classes == {1: "tumor", 2: "immune"}
    sent = pickle.loads(pickle.dumps(references.only("a")))  # to another process
    assert sent.read("a").classes == {1: "tumor", 2: "immune"}
    found = evaluate_objects(folders / "found", data)
    assert found.summary["scores"]["pooled_50"] == 1
    assert found.summary["classes"]["immune"]["pooled_50"] == 0
    assert DatasetReferences.of(folders / "labels") is None


@pytest.fixture
def dataset(folders):
    """Two cases, of which the first is predicted."""
    for case in "ab":
        write_picture(folders / "data" / "images" / f"{case}.png", np.zeros((1, 5), np.uint8))
        write(folders / "data" / "labels" / f"{case}.png", [[1, 1, 0, 2, 2]])
    return folders / "data"


def test_cases_of_a_dataset_without_prediction_are_an_error_or_count_as_missed(folders, dataset):
    with pytest.raises(DataError, match="1 of 2 cases has no prediction"):
        evaluate_objects(folders / "found", dataset)
    left_out = evaluate_objects(folders / "found", dataset, missing="ignore")
    assert (left_out.summary["cases"], left_out.summary["scores"]["pooled_50"]) == (1, 1)
    assert "cases without a prediction, left out (1)" in left_out.table()
    found = evaluate_objects(folders / "found", dataset, missing="worst")
    assert found.summary["missing"] == {"b": "there is no label map"}
    assert found.summary["scores"]["pooled_50"] == 0.5
    assert "counted as without objects (1):\n  b: there is no label map" in found.table()


def test_predictions_that_are_no_case_of_a_dataset_are_not_dropped_in_silence(folders, dataset):
    write(folders / "found" / "z.png", [[1, 0, 0, 0, 0]])
    with pytest.raises(DataError, match=r"z\.png: no labeled case z in"):
        evaluate_objects(folders / "found", dataset)
    found = evaluate_objects(folders / "found", dataset, missing="worst", extra="ignore")
    assert (found.summary["extra"], found.summary["missing"].keys()) == (["z"], {"b"})
    (folders / "found" / "a.png").unlink()
    with pytest.raises(DataError, match=r"z\.png: no labeled case z in"):  # if none is one, nothing is compared
        evaluate_objects(folders / "found", dataset, missing="worst", extra="ignore")


def test_a_case_of_a_dataset_that_failed_has_no_prediction(folders, dataset):
    write(folders / "found" / "b.png", [[1, 1, 0, 2, 2]])  # of an earlier model
    (folders / "found" / "failures.csv").write_text("case,error\nb,not enough memory\n")
    found = evaluate_objects(folders / "found", dataset, missing="worst")
    assert found.summary["missing"] == {"b": "failures.csv: not enough memory"}
    assert found.summary["scores"]["pooled_50"] == 0.5


def test_two_predictions_of_one_case_of_a_dataset_are_refused(folders, dataset):
    write(folders / "found" / "a.tif", [[0, 0, 0, 0, 0]])
    with pytest.raises(DataError, match="several label maps of one name: a"):
        evaluate_objects(folders / "found", dataset)


def test_labels_of_a_dataset_are_not_compared_with_themselves(dataset):
    with pytest.raises(ConfigError, match="every prediction is the same file as its reference"):
        evaluate_objects(dataset / "labels", dataset)


def test_several_references_may_be_in_one_file(folders):
    """COCO's JSON has the objects of all pictures."""
    data = folders / "data"
    write_picture(data / "images" / "a.png", np.zeros((1, 5), np.uint8))
    corners = {1: [0, 0, 2, 0, 2, 1, 0, 1], 2: [3, 0, 5, 0, 5, 1, 3, 1]}
    annotations = [
        {"id": n, "image_id": 1, "category_id": n, "segmentation": [ring], "area": 2, "iscrowd": 0,
         "bbox": [ring[0], 0, 2, 1]}
        for n, ring in corners.items()
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 5, "height": 1}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "tumor"}, {"id": 2, "name": "immune"}],
    }
    (data / "annotations").mkdir()
    (data / "annotations" / "instances_all.json").write_text(json.dumps(content))
    found = evaluate_objects(folders / "found", data)
    assert found.summary["scores"]["pooled_50"] == 1
    assert found.summary["classes"]["immune"]["reference"] == 1


def test_ignoring_the_background_is_refused(folders, capsys):
    assert run(["evaluate", str(folders / "found"), str(folders / "labels"), "--objects", "--ignore", "0"]) == 2
    assert "--ignore 0: 0 is background" in capsys.readouterr().err


def test_copies_of_the_references_are_noted(folders):
    notes = evaluate_objects(folders / "found", folders / "labels").summary["notes"]
    assert notes == [
        "predictions are equal to the references in all cases: are these copies of the references?"
    ]
    write(folders / "found" / "a.png", [[2, 2, 0, 1, 1]])
    [note] = evaluate_objects(folders / "found", folders / "labels").summary["notes"]
    assert note.startswith("every object is matched exactly")


def test_masks_of_a_class_are_noted(folders):
    write(folders / "labels" / "a.png", [[255, 0, 255, 0, 255]])
    write(folders / "found" / "a.png", [[255, 0, 255, 0, 0]])
    found = evaluate_objects(folders / "found", folders / "labels")
    assert "no reference has more than one number, but they have 3 connected parts" in found.table()
