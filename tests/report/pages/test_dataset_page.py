import math
import re

import numpy as np
import pytest
from conftest import write_volume

from medseg.cli.main import run
from medseg.report.pages.dataset_measures import CaseMeasures, Measure, compare_measures


def measure(values, name="x"):
    return Measure("grid", name, "", {f"c{i}": float(value) for i, value in enumerate(values)})


def test_unusual_values_are_far_from_the_median_in_robust_deviations():
    # median 10, absolute deviations 0 to 2 with median 1: z = 9 / 1.4826
    one = measure([8, 9, 9, 10, 10, 11, 11, 12, 19])
    assert one.scores["c8"] == pytest.approx(9 / 1.4826)
    assert [m.name for m in CaseMeasures([one]).unusual("c8")] == ["x"]
    assert CaseMeasures([one]).unusual("c0") == []
    assert CaseMeasures([one]).outliers_first(["c0", "c3", "c8"])[0] == "c8"


def test_a_rare_other_value_is_unusual_where_the_rest_is_equal():
    one = measure([1] * 11 + [2])
    assert one.scores["c11"] == math.inf
    assert one.scores["c0"] == 0
    assert set(measure([1] * 8 + [2] * 4).scores.values()) == {0.0}  # four of twelve are not rare


def test_groups_of_cases_are_not_unusual_cases():
    # 70 values about 100 (robust deviation about 1.5), 30 about 10,000: almost a third is not unusual
    values = [*(100 + i % 5 for i in range(70)), *(10_000 + i for i in range(30))]
    measures = CaseMeasures([measure(values, "intensity"), measure([*(i % 7 for i in range(99)), 90], "size")])
    assert [one.name for one in measures.grouped] == ["intensity"]
    assert measures.unusual("c80") == []
    assert [one.name for one in measures.unusual("c99")] == ["size"]
    assert measures.outliers_first(["c80", "c99"]) == ["c99", "c80"]


def test_few_cases_have_no_outliers():
    assert set(measure([1, 1, 1, 50]).scores.values()) == {0.0}


def test_differences_of_two_datasets():
    first = CaseMeasures([measure(range(10), "moved"), measure(range(10), "same"), measure([1, 2], "few")])
    second = CaseMeasures([measure(range(20, 30), "moved"), measure(range(10), "same"), measure([1, 2], "few")])
    moved, same = compare_measures(first, second)
    assert (moved.first.name, moved.higher, moved.established) == ("moved", 1.0, True)
    assert (same.first.name, same.higher, same.established) == ("same", 0.5, False)
    # two-sided exact test of 10 and 10 separated values: 2 / C(20, 10), times 2 tests
    assert moved.p == pytest.approx(2 * 2 / math.comb(20, 10))


def dataset(root, spacing, count=9):
    rng = np.random.default_rng(1)
    for index in range(count):
        label = np.zeros((8, 9, 10), np.uint8)
        label[2:5, 2:5, 2:6] = 1
        image = rng.normal(100 + 50 * label, 5).astype(np.float32)
        affine = np.diag([*(5.0 if index == count - 1 else spacing,) * 3, 1.0])
        write_volume(root / "images" / f"c{index}.nii.gz", image, affine)
        write_volume(root / "labels" / f"c{index}.nii.gz", label, affine)
    return root


def test_the_page_shows_outliers_first_and_what_differs(tmp_path):
    ours, theirs = dataset(tmp_path / "ours", 1.0, 11), dataset(tmp_path / "theirs", 2.0, 11)
    out = tmp_path / "out"
    arguments = ["data", "summary", str(ours), "--labels", "ball=1", "--output", str(out), "--pictures", "4"]
    assert run([*arguments, "--compare", str(theirs)]) == 0
    page = (out / "summary.html").read_text()
    text = re.sub("<[^>]*>", "", page.partition("<main")[2])
    assert "ours against theirs" in text
    assert "1 case is unusual: c10 (spacing, right" in text
    assert "What differs from theirs, by median: " in text
    assert "spacing, right (1 against 2 mm)" in text
    assert page.count("data:image/jpeg") == 4
    thumbnails = page.partition('class="thumbnails"')[2]
    assert thumbnails.index('id="case-c10"') < thumbnails.index('id="case-c0"')
    assert "Histogram of volume, ball" in page


def test_the_page_names_files_without_their_folders(tmp_path):
    root, out = dataset(tmp_path / "Smith John" / "ours", 1.0, 3), tmp_path / "out"
    (root / "images" / "c1.nii.gz").write_bytes(b"no volume")
    run(["data", "summary", str(root), "--labels", "ball=1", "--output", str(out), "--pictures", "1"])
    page = (out / "summary.html").read_text()
    assert "c1.nii.gz: " in page
    assert "Smith" not in page
    assert str(tmp_path) not in page


def test_comparing_needs_an_output_folder(tmp_path):
    assert run(["data", "summary", str(tmp_path), "--compare", str(tmp_path)]) == 2
