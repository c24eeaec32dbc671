"""Measurements of numbered objects, and what ``medseg data check`` reports about them."""

import numpy as np
import pytest
from conftest import write_picture

from medseg.data.curation.check import check_dataset
from medseg.data.curation.object_facts import measure_object_facts
from medseg.data.options import DataConfig


def test_sizes_contacts_parts_and_holes():
    objects = np.zeros((8, 12), np.int32)
    objects[0:3, 0:3] = 1
    objects[1, 1] = 0  # a hole
    objects[0:3, 3:5] = 2  # touches 1
    objects[5:7, 0:2] = 3
    objects[5:7, 6:8] = 3  # a second part
    objects[4:7, 9:12] = 4
    objects[5, 10] = 5  # inside 4: no hole, but a contact
    facts = measure_object_facts(objects, (0.5, 2.0))
    assert facts.sizes == (1.0, 6.0, 8.0, 8.0, 8.0)
    assert facts.touching == 4
    assert facts.in_parts == ((5, 0),)
    assert facts.holes == 1


def test_a_case_without_objects():
    facts = measure_object_facts(np.zeros((2, 3, 4), np.int32), (1.0, 1.0, 1.0))
    assert (facts.sizes, facts.touching, facts.in_parts, facts.holes) == ((), 0, (), 0)


@pytest.fixture
def numbered(tmp_path):
    """Three pictures of numbered squares; those of the first have a second part and a speck."""
    for name in "abc":
        labels = np.zeros((40, 40), np.uint16)
        for number, (row, column) in enumerate([(2, 2), (2, 12), (20, 2), (20, 25)], start=1):
            labels[row : row + 10, column : column + 10] = number
        if name == "a":
            labels[35:38, 35:38] = 1
            labels[38, 0] = 9
        write_picture(tmp_path / "images" / f"{name}.png", (labels > 0).astype(np.uint8) * 100 + ord(name))
        write_picture(tmp_path / "labels" / f"{name}.png", labels)
    return tmp_path


def test_the_check_of_a_dataset_reports_parts_specks_and_contacts(numbered):
    report = check_dataset(numbered, DataConfig(instances="keep"))
    found = [one for one in report.findings if one.topic == "objects"]
    assert [one.status for one in found] == ["warning", "warning", "note"]
    messages = [one.message for one in found]
    assert "objects in several parts: 1 in 1 case (a: 1); the first one begins at voxel (2, 2)" in messages
    assert "objects below 2% of the median size (100): 1 in 1 case (a: 1)" in messages
    assert messages[2] == "13 objects in 3 cases, median size 100 (60.4 to 103.6); 46% touch another one"


def test_without_objects_nothing_is_reported(numbered):
    assert not [one for one in check_dataset(numbered).findings if one.topic == "objects"]
