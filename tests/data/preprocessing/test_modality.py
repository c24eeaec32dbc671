"""Channel names: declared by the dataset or its files, otherwise derived from the lowest value."""

import json

import numpy as np
import pytest
from conftest import write_volume

from medseg.config.schema import load_config
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.curation.convert import convert_dataset
from medseg.data.labels.foreground_values import ForegroundValues
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import find_dataset
from medseg.data.preprocessing.modality import channel_names, is_ct
from medseg.planning.plan import plan_config
from medseg.training.dataset.preparation import prepare_dataset
from medseg.training.loop_setup import network_needs


def statistics(low=0.0, names=(), channels=1, kind="volume"):
    return CaseStatistics.model_construct(
        kind=kind, channels=channels, intensities=(low, 100.0), channel_names=names
    )


def test_a_declared_modality_takes_precedence_over_values():
    assert is_ct([statistics(0, ("CT",))])  # a CT whose air was cut off
    assert not is_ct([statistics(-1024, ("MRI",))])  # an MR that was standardized and scaled
    assert not is_ct([statistics(-1024, ("CT",)), statistics(-1024, ("MR",))])


def test_undeclared_ct_is_detected_by_its_air():
    assert is_ct([statistics(-1024), statistics(-1000, ("channel_0",)), statistics(0)])
    assert not is_ct([statistics(-200)])
    assert not is_ct([statistics(-1024, kind="picture")])
    assert not is_ct([statistics(-1024, channels=2)])


def test_declared_channel_names_are_used():
    assert channel_names([statistics(0, ("T1", "FLAIR"), 2)]) == ["T1", "FLAIR"]
    assert channel_names([statistics(0, ("ct",))]) == ["CT"]
    assert channel_names([statistics(-1024)]) == ["CT"]
    assert channel_names([statistics(0, ("T1",)), statistics(0, ("T2",))]) == ["channel_0"]
    assert channel_names([statistics(0, (), 2)]) == ["channel_0", "channel_1"]


def test_intensities_are_measured_in_the_labels_that_count():
    values = np.array([0, 1, 2, 3, 255])
    schema = LabelSchema(names={"air": (0,), "liver": (2,)}, ignore_value=255, others="ignore")
    assert ForegroundValues.of(schema).mask(values).tolist() == [False, False, True, False, False]
    assert ForegroundValues.of(None, 255).mask(values).tolist() == [False, True, True, True, False]
    collapsed = LabelSchema(names={"background": (0,), "cell": (1,)}, ignore_value=255, collapse_instances=True)
    assert ForegroundValues.of(collapsed).mask(values).tolist() == [False, True, True, True, False]


def write_ct(root, cases=4):
    """A liver (1) of 60 HU beside an ignored region (255) and an undeclared one (7) of 1000 HU, in air."""
    for i in range(cases):
        image = np.full((8, 8, 8), -1000, np.int16)
        label = np.zeros((8, 8, 8), np.uint8)
        image[:2], label[:2] = 60 + i, 1
        image[2:4], label[2:4] = 1000, 255
        image[4:6], label[4:6] = 1000, 7
        write_volume(root / "imagesTr" / f"c{i}_0000.nii.gz", image)
        write_volume(root / "labelsTr" / f"c{i}.nii.gz", label)
    return root


def test_the_ct_window_excludes_ignored_and_undeclared_regions(tmp_path):
    write_ct(tmp_path)
    labels = {"names": {"background": 0, "liver": 1}, "ignore_value": 255, "others": "background"}
    data = {"path": str(tmp_path), "labels": labels}
    config = load_config({"data": data, "preprocess": {"normalize": {"name": "ct"}}})
    window = prepare_dataset(
        config.data, config.preprocess, network_needs(config), tmp_path / "store"
    ).preprocess.normalize
    assert 59 < window.low <= window.mean <= window.high < 64  # with the others the mean is about 690


@pytest.mark.slow
@pytest.mark.parametrize(("declared", "scheme"), [("CT", "ct"), ("MRI", "zscore"), (None, "ct")])
def test_planning_and_conversion_use_the_declared_modality(declared, scheme, tmp_path):
    write_ct(tmp_path / "d")
    table = {"labels": {"background": 0, "liver": 1, "bone": 7, "ignore": 255}}
    table |= {"channel_names": {"0": declared}} if declared else {}
    (tmp_path / "d" / "dataset.json").write_text(json.dumps(table))
    assert find_dataset(tmp_path / "d").cases[0].channel_names == ((declared,) if declared else ())
    plan = plan_config(tmp_path / "d")
    assert plan.preprocess.normalize.name == scheme
    assert plan_config(tmp_path / "d", ["spatial_dims=2"]).preprocess.normalize.name == scheme
    for layout, table in (("nnunet", "channel_names"), ("msd", "modality")):
        convert_dataset(tmp_path / "d", tmp_path / layout, layout)
        written = json.loads((tmp_path / layout / "dataset.json").read_text())
        assert written[table] == {"0": declared or "CT"}
