from collections import Counter

import pytest

from medseg.data.cases import Case, join_problems, list_images, match
from medseg.data.layouts import LayoutOptions, find_cases, find_dataset
from medseg.errors import DataError


def folder(root, images, labels):
    for name, files in (("images", images), ("labels", labels)):
        (root / name).mkdir(parents=True)
        for file in files:
            (root / name / file).parent.mkdir(exist_ok=True)
            (root / name / file).touch()
    return root


def names(cases):
    return {case.id: case.label.name if case.label else None for case in cases}


def problem(root, **options):
    with pytest.raises(DataError) as caught:
        find_cases(root, **options)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["", "_mask", "-label", "_1stHO", ".seg", "_a_b-c"])
def test_label_names_match_image_names_with_or_without_a_suffix(suffix, tmp_path):
    labels = [f"c.1{suffix}.nii.gz", f"c.2{suffix}.nii.gz"]
    cases = find_cases(folder(tmp_path, ["c.2.nii.gz", "c.1.nii"], labels))
    assert names(cases) == {"c.1": labels[0], "c.2": labels[1]}


def test_the_longest_name_wins(tmp_path):
    images = ["case_1.png", "case_1_2.png", "case_12.png"]
    cases = find_cases(folder(tmp_path, images, ["case_1_2_mask.png", "case_12_mask.png", "case_1_mask.png"]))
    assert names(cases) == {
        "case_1": "case_1_mask.png",
        "case_1_2": "case_1_2_mask.png",
        "case_12": "case_12_mask.png",
    }


def test_a_suffix_begins_with_a_separator(tmp_path):
    text = problem(folder(tmp_path, ["case1.png"], ["case12.png"]))
    assert "image" in text
    assert "case1.png has no label map" in text
    assert "case12.png has no image" in text


def test_every_file_without_partner_is_listed(tmp_path):
    text = problem(folder(tmp_path, ["a.png", "b.png", "c.png"], ["b_x.png", "b_y.png", "c.png", "d.png"]))
    assert text.startswith("files without exactly one partner (3):")
    assert "a.png has no label map" in text
    assert "d.png has no image" in text
    assert "b.png has 2 label maps: b_x.png, b_y.png (choose one with data.label_suffix)" in text


def test_the_suffix_chooses_among_several_labels(tmp_path):
    root = folder(tmp_path, ["a.jpg", "b.jpg"], ["a_1.png", "a_2.png", "b_1.png", "b_2.png", "b.png"])
    assert names(find_cases(root, label_suffix="_2")) == {"a": "a_2.png", "b": "b_2.png"}
    assert "a.jpg has no label map" in problem(root, label_suffix="")
    assert "a.jpg has no label map" in problem(root, label_suffix="_3")


def test_of_several_suffixes_the_first_counts(tmp_path):
    root = folder(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], ["a_1.png", "a_2.png", "b_2.png", "x_1.png"])
    found = find_dataset(root, LayoutOptions(("_1", "_2"))).labeled().checked()
    assert names(found.cases) == {"a": "a_1.png", "b": "b_2.png"}
    assert "c.jpg has no label map" in problem(root, label_suffix=("_1", "_2"))


def test_hidden_and_other_files_are_ignored(tmp_path):
    root = folder(tmp_path, ["a.png", ".a.png", "._a.png", "notes.txt"], ["a.png", ".DS_Store", "._a.png"])
    assert names(find_cases(root)) == {"a": "a.png"}
    (root / "images" / "b.png").mkdir()
    assert [p.name for p in list_images(root / "images")] == ["a.png"]


def test_parts_by_folder(tmp_path):
    images = ["train/a.png", "train/b.png", "val/c.png", "test/d.png"]
    root = folder(tmp_path, images, ["train/a.png", "train/b_m.png", "val/c.png"])
    cases = find_cases(root)
    assert [(c.id, c.part) for c in cases] == [("a", "train"), ("b", "train"), ("c", "val"), ("d", "test")]
    assert cases[3].label is None
    (root / "labels" / "test").mkdir()
    assert "d.png has no label map" in problem(root)


def test_labels_of_another_part_are_ignored(tmp_path):
    root = folder(tmp_path, ["train/a.png", "val/b.png"], ["train/a.png", "train/b.png"])
    assert "b.png has no image" in problem(root)


def test_images_with_the_same_name_raise(tmp_path):
    twice = folder(tmp_path / "1", ["train/a.png", "val/a.png"], ["train/a.png", "val/a.png"])
    assert problem(twice).startswith("images that share a name (1):\n  case a: ")
    kinds = folder(tmp_path / "2", ["a.png", "a.jpg"], ["a.png"])
    assert "a.jpg" in problem(kinds)
    assert "share a name" in problem(kinds)


def test_missing_or_empty_folders_raise(tmp_path):
    assert "does not exist" in problem(tmp_path / "none")
    (tmp_path / "pics").mkdir()
    assert "expected the folders images/ and labels/ in it, found pics/." in problem(tmp_path)
    assert "no image files" in problem(folder(tmp_path / "empty", [], []))
    assert "a.png has no image" in problem(folder(tmp_path / "labels", [], ["a.png"]))


def test_match_keeps_images_without_labels(tmp_path):
    a, b, label = (tmp_path / n for n in ("a.png", "b.png", "b_m.png"))
    assert match([a, b], [label]) == ({a: [], b: [label]}, [])
    assert match([a], [label]) == ({a: []}, [label])


def test_long_lists_of_problems_are_shortened():
    text = join_problems("wrong", [f"p{i}" for i in range(25)])
    assert text.startswith("wrong (25):\n  p0\n")
    assert text.endswith("p19\n  … and 5 more")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "number", "example"),
    [
        ("hippocampus", 200, ("hippocampus_001", "hippocampus_001.nii.gz")),
        ("nuclei", 120, None),
        ("retina_chase", 20, ("Image_01L", "Image_01L_1stHO.png")),
    ],
)
def test_real_folders(name, number, example, data_root):
    cases = find_cases(data_root / name)
    assert len(cases) == number
    assert all(case.label is not None and case.part is None for case in cases)
    assert example is None or example in names(cases).items()


@pytest.mark.data
def test_real_folders_of_parts(data_root):
    cases = find_cases(data_root / "camvid")
    assert Counter(case.part for case in cases) == {"train": 60, "val": 20}
    assert all(isinstance(case, Case) and case.label is not None for case in cases)
