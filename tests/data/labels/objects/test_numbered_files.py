"""A file for each object, with names that differ only by a number and occur in every case."""

import numpy as np
import pytest
from conftest import write_picture

from medseg.data.curation.check import check_dataset
from medseg.data.io.multichannel import read_image
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.layouts import find_dataset
from medseg.data.options import DataConfig
from medseg.errors import DataError


def write_cases(root, names, values=(255,)):
    """Write ``labels/CASE/NAME.png`` of squares side by side: case → names of its files."""
    for case, files in names.items():
        write_picture(root / "images" / f"{case}.png", np.zeros((8, 32), np.uint8))
        for index, name in enumerate(files):
            mask = np.zeros((8, 32), np.uint8)
            for step, value in enumerate(values):
                mask[step, 4 * index : 4 * index + 3] = value
            write_picture(root / "labels" / case / f"{name}.png", mask)
    return root


def plan(root, instances="keep", **config):
    listing = find_dataset(root)
    declared = LabelDeclarations(LabelConfig(**config), layout=listing.labels, instances=instances)
    return plan_labels(listing.checked().cases, declared)


@pytest.mark.parametrize("pattern", ["mask_{}", "object-{:02}", "{:03}", "nucleus{}", "CASE_{}"])
def test_names_that_differ_by_a_number_are_objects_of_one_label(tmp_path, pattern):
    counts = {"a": 2, "b": 3, "c": 1}  # not every case has the last ones
    names = {
        case: [pattern.format(n).replace("CASE", case) for n in range(count)] for case, count in counts.items()
    }
    planned = plan(write_cases(tmp_path, names))
    assert list(planned.schema.names) == ["background", "object"]
    maps = [planned.reader.read(case, read_image(case)) for case in planned.cases]
    assert [one.objects.max() for one in maps] == [2, 3, 1]
    assert [set(np.unique(one.values)) for one in maps] == [{0, 1}] * 3
    note = planned.resolve([0, 1]).note
    assert "each file is taken for an object" in note
    assert f"({names['a'][0]}, {names['a'][1]}, …)" in note


def test_the_check_of_a_dataset_says_so(tmp_path):
    write_cases(tmp_path, {"a": ["mask_0", "mask_1"], "b": ["mask_0", "mask_1", "mask_2"]})
    report = check_dataset(tmp_path, DataConfig(instances="keep", duplicates="group"))
    assert not report.problems
    messages = [one.message for one in report.findings]
    assert any("5 objects in 2 cases" in text for text in messages)
    assert any("each file is taken for an object" in text for text in messages)


def test_files_that_number_objects_are_labels(tmp_path):
    planned = plan(write_cases(tmp_path, {"a": ["kind_1", "kind_2"], "b": ["kind_1", "kind_2"]}, values=(1, 2)))
    assert (list(planned.schema.names), planned.note) == (["background", "kind_1", "kind_2"], None)


@pytest.mark.parametrize(
    ("names", "options", "labels"),
    [
        (["liver_1", "spleen_1"], {}, ["liver_1", "spleen_1"]),  # they differ by more than a number
        (["mask_0", "mask_1"], {"instances": None}, ["mask_0", "mask_1"]),  # objects are not asked for
        (["mask_0", "mask_1"], {"instances": "components"}, ["mask_0", "mask_1"]),
        (["t_1", "t_2"], {"names": {"background": 0, "t_1": 1, "t_2": 2}}, ["t_1", "t_2"]),  # declared
    ],
)
def test_other_files_remain_labels(tmp_path, names, options, labels):
    planned = plan(write_cases(tmp_path, {"a": names, "b": names}), **options)
    assert (list(planned.schema.names)[1:], planned.note) == (labels, None)


def test_columns_of_a_manifest_are_labels(tmp_path):
    write_cases(tmp_path, {"a": ["x", "y"]})
    table = tmp_path / "cases.csv"
    table.write_text("image,label:part_1,label:part_2\nimages/a.png,labels/a/x.png,labels/a/y.png\n")
    planned = plan_labels(find_dataset(table).checked().cases, LabelDeclarations(instances="keep"))
    assert list(planned.schema.names) == ["background", "part_1", "part_2"]


def test_without_instances_files_that_are_missing_are_an_error(tmp_path):
    write_cases(tmp_path, {"a": ["mask_0", "mask_1"], "b": ["mask_0"]})
    with pytest.raises(DataError, match="no file of mask_1"):
        plan(tmp_path, instances=None)
