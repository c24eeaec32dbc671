"""COCO panoptic files from two folders of results, and their comparison."""

import json
import re
import shutil
from contextlib import suppress

import numpy as np
import pytest
from conftest import write_picture
from PIL import Image

from medseg.cli.main import run
from medseg.data.io.coco_panoptic import (
    PanopticCategory,
    PanopticIndex,
    PanopticWriter,
    read_panoptic_index,
    read_panoptic_png,
)
from medseg.errors import ConfigError, DataError, ExistingFileError
from medseg.evaluation.objects import evaluate_panoptic, panoptic
from medseg.instances.panoptic import PanopticOptions
from medseg.interop.panoptic import merge_panoptic_folders


@pytest.fixture
def results(tmp_path):
    """Two cells on tissue and glass."""
    cells, tissue = np.zeros((6, 8), np.uint16), np.ones((6, 8), np.uint8)
    cells[1:3, 1:3], cells[1:3, 3:5] = 7, 9
    tissue[:, 6:] = 2
    write_picture(tmp_path / "things" / "a.png", cells)
    write_picture(tmp_path / "stuff" / "a.png", tissue)
    (tmp_path / "things" / "instances").mkdir()
    table = "case,instance,class,score\na,7,cell,0.9\na,9,mitosis,0.8\n"
    (tmp_path / "things" / "instances" / "a.csv").write_text(table)
    labels = {
        "things": {"background": [0], "cell": [1], "mitosis": [2]},
        "stuff": {"background": [0], "tissue": [1], "glass": [2]},
    }
    for folder, names in labels.items():
        (tmp_path / folder / "medseg.json").write_text(json.dumps({"labels": {"names": names}}))
    return tmp_path


def test_things_and_stuff_become_coco_panoptic_files(results):
    assert merge_panoptic_folders(results / "things", results / "stuff", results / "out").cases == ["a"]
    # 64 pixels are the least for stuff: all of it is void here
    index = read_panoptic_index(results / "out" / "panoptic.json")
    assert [(one.name, one.is_thing) for one in index.categories.values()] == [
        ("cell", True), ("mitosis", True), ("tissue", False), ("glass", False),
    ]  # fmt: skip
    assert index.entries["a"].classes == {1: 1, 2: 2}
    assert run(["panoptic", *(str(results / one) for one in ("things", "stuff")), "--smallest", "1",
                "--output", str(results / "out")]) == 0  # fmt: skip
    index = read_panoptic_index(results / "out" / "panoptic.json")
    numbers = index.read("a")
    assert numbers[1].tolist() == [3, 1, 1, 2, 2, 3, 4, 4]
    assert index.entries["a"].classes == {1: 1, 2: 2, 3: 3, 4: 4}
    content = json.loads((results / "out" / "panoptic.json").read_text())
    [annotation] = content["annotations"]
    assert annotation["segments_info"][0] == {
        "id": 1, "category_id": 1, "iscrowd": 0, "area": 4, "bbox": [1, 1, 2, 2]
    }  # fmt: skip


def test_numbers_above_255_use_all_channels(tmp_path):
    writer = PanopticWriter(tmp_path / "panoptic.json", [PanopticCategory(1, "cell", True)])
    segments = np.array([[0, 255, 256, 70000]], np.int32)
    writer.add("a", segments, {255: 1, 256: 1, 70000: 1})
    writer.finish()
    assert read_panoptic_index(tmp_path / "panoptic.json").read("a").tolist() == segments.tolist()


def test_quality_of_each_class(results, capsys):
    for folder in ("one", "two"):
        merge = ["panoptic", *(str(results / one) for one in ("things", "stuff")), "--smallest", "1"]
        assert run([*merge, "--output", str(results / folder)]) == 0
    files = [results / folder / "panoptic.json" for folder in ("one", "two")]
    assert evaluate_panoptic(*files).summary["scores"]["all"]["pq"] == 1
    content = json.loads(files[0].read_text())
    content["annotations"][0]["segments_info"][1]["category_id"] = 1  # a mitosis taken for a cell
    files[0].write_text(json.dumps(content))
    found = evaluate_panoptic(*files, results / "one")  # beside what is compared
    assert json.loads(files[0].read_text()) == content
    assert (results / "one" / "panoptic_scores.json").is_file()
    assert found.summary["classes"]["mitosis"]["pq"] == 0
    assert found.summary["classes"]["cell"]["rq"] == pytest.approx(1 / 1.5)
    assert found.summary["scores"]["stuff"]["pq"] == 1
    capsys.readouterr()
    assert run(["evaluate", *map(str, files), "--panoptic"]) == 0
    assert "mitosis" in capsys.readouterr().out


def test_files_that_do_not_fit(results):
    with pytest.raises(DataError, match="expected COCO's panoptic JSON"):
        read_panoptic_index(results / "things" / "medseg.json")
    (results / "stuff" / "a.png").unlink()
    with pytest.raises(DataError, match="no picture is in both folders"):
        merge_panoptic_folders(results / "things", results / "stuff", results / "out")


def test_pictures_in_one_folder_only_are_listed(results, capsys):
    for name in ("stuff/b.png", "things/c.png"):
        write_picture(results / name, np.ones((6, 8), np.uint8))
    command = [
        "panoptic",
        *(str(results / one) for one in ("things", "stuff")),
        "--output",
        str(results / "out"),
    ]
    assert run([*command, "--json"]) == 4
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    assert (content["cases"], list(content["failed"])) == (["a"], ["b", "c"])
    assert f"failed: b: there is no picture of this name in {results / 'things'}\n" in shown.err
    assert f"failed: c: there is no picture of this name in {results / 'stuff'}\n" in shown.err


def test_folders_in_the_wrong_order_are_an_error(results):
    with pytest.raises(DataError, match=r"stuff: expected results of a model that tells objects apart"):
        merge_panoptic_folders(results / "stuff", results / "things", results / "out")
    with pytest.raises(DataError, match=r"things: expected results of a model of classes"):
        merge_panoptic_folders(results / "things", results / "things", results / "out")


def test_an_object_without_a_class_is_an_error(results):
    (results / "things" / "instances" / "a.csv").write_text("case,instance,class,score\na,7,cell,0.9\n")
    with pytest.raises(DataError, match="object 9 of a has no row"):
        merge_panoptic_folders(results / "things", results / "stuff", results / "out")


def test_stuff_without_a_background_keeps_its_first_class(results):
    labels = {"names": {"sky": [1], "road": [2]}, "background": False}
    (results / "stuff" / "medseg.json").write_text(json.dumps({"labels": labels}))
    merge_panoptic_folders(results / "things", results / "stuff", results / "out", PanopticOptions(smallest=1))
    index = read_panoptic_index(results / "out" / "panoptic.json")
    assert [one.name for one in index.categories.values()] == ["cell", "mitosis", "sky", "road"]
    assert index.read("a")[0].tolist() == [3, 3, 3, 3, 3, 3, 4, 4]


def test_images_are_matched_by_name_also_those_of_cityscapes(tmp_path):
    segments, category = np.ones((2, 2), np.int32), [PanopticCategory(1, "cell", True)]
    names = {"one": ["a_leftImg8bit"], "two": ["a_gtFine_panoptic", "b_gtFine_panoptic"], "three": ["c"]}
    for folder, images in names.items():
        writer = PanopticWriter(tmp_path / folder / "panoptic.json", category)
        for image in images:
            writer.add(image, segments, {1: 1})
        writer.finish()
    one, two, three = (tmp_path / folder / "panoptic.json" for folder in names)
    with pytest.raises(DataError, match="1 of 2 pictures has no prediction"):
        evaluate_panoptic(one, two)
    left_out = evaluate_panoptic(one, two, missing="ignore")
    assert left_out.summary["scores"]["all"]["pq"] == 1
    assert "every segment is matched exactly" in left_out.table()
    found = evaluate_panoptic(one, two, missing="worst")
    assert found.summary["missing"] == ["b"]
    assert found.summary["scores"]["all"]["rq"] == pytest.approx(1 / 1.5)  # one found, one missed
    assert "pictures without a prediction, counted as without segments (1):\n  b" in found.table()
    with pytest.raises(DataError, match=r"pictures without a reference in .*one"):
        evaluate_panoptic(two, one)
    left_out = evaluate_panoptic(two, one, extra="ignore")
    assert left_out.summary["extra"] == ["b"]
    assert "predictions without a reference, left out (1):\n  b" in left_out.table()
    with pytest.raises(ConfigError, match="every prediction is the same file"):
        evaluate_panoptic(one, one)
    with pytest.raises(DataError, match="no picture is in both files; the first ones are c, a"):
        evaluate_panoptic(three, two, missing="worst")


def write_panoptic(path, names=("a",)):
    """Images of a thing and of stuff; returns the content of the JSON."""
    writer = PanopticWriter(path, [PanopticCategory(1, "cell", True), PanopticCategory(2, "tissue", False)])
    for name in names:
        writer.add(name, np.array([[1, 1, 2, 2]]), {1: 1, 2: 2})
    writer.finish()
    return json.loads(path.read_text())


def test_odd_panoptic_files_are_refused(tmp_path):
    path = tmp_path / "odd.json"
    content = write_panoptic(path)
    [annotation] = content["annotations"]
    categories = [one | {"name": "cell"} for one in content["categories"]]
    path.write_text(json.dumps(content | {"categories": categories}))
    with pytest.raises(DataError, match=r"odd.json: two categories have the name 'cell'"):
        evaluate_panoptic(path, shutil.copy(path, tmp_path / "copy.json"))
    path.write_text(json.dumps(content | {"annotations": [annotation, annotation | {"file_name": "b/a.png"}]}))
    with pytest.raises(DataError, match="the image a has two annotations"):
        read_panoptic_index(path)
    annotation["segments_info"][1]["category_id"] = 17
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"segment 2 of a.png has the category 17, .* \[1, 2\]"):
        read_panoptic_index(path)
    for number in (0, -1, 1 << 24):
        annotation["segments_info"][1] = {"id": number, "category_id": 2}
        path.write_text(json.dumps(content))
        with pytest.raises(
            DataError, match=rf"odd.json: a segment of a.png has the id {number}, expected 1 to"
        ):
            read_panoptic_index(path)
    annotation["segments_info"][1] = annotation["segments_info"][0] | {"category_id": 2}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"two segments of a.png have the same id"):
        read_panoptic_index(path)


def test_a_damaged_png_is_refused(tmp_path, monkeypatch):
    png = tmp_path / "p" / "a.png"
    write_panoptic(tmp_path / "p.json")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # four pixels are too many
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a picture"):
        read_panoptic_png(png)
    monkeypatch.undo()
    content = png.read_bytes()
    for at in range(8, len(content)):
        png.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        with suppress(DataError):  # no other error
            read_panoptic_png(png)


def test_annotations_of_others_are_not_replaced(results, capsys):
    command = ["panoptic", str(results / "things"), str(results / "stuff"), "--output", str(results)]
    (results / "panoptic").mkdir()
    (results / "panoptic" / "a.png").write_bytes(b"drawn by hand")
    assert run(command) == 3
    (results / "panoptic.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert run(command) == 3
    assert "was not written by medseg" in capsys.readouterr().err
    assert (results / "panoptic" / "a.png").read_bytes() == b"drawn by hand"
    assert len((results / "panoptic.json").read_text()) < 60


def test_a_png_of_the_user_beside_merged_ones_is_kept(tmp_path):
    path = tmp_path / "panoptic.json"
    write_panoptic(path)
    write_picture(tmp_path / "panoptic" / "b.png", np.full((1, 4), 7, np.uint8))
    before = (tmp_path / "panoptic" / "b.png").read_bytes()
    with pytest.raises(ExistingFileError, match=r"b\.png: exists and was not written by medseg"):
        write_panoptic(path, ("b",))
    assert (tmp_path / "panoptic" / "b.png").read_bytes() == before
    assert list(read_panoptic_index(path).entries) == ["a"]
    (tmp_path / "panoptic.json").unlink()
    (tmp_path / "panoptic" / "b.png").unlink()
    (tmp_path / "panoptic" / "a.png").rename(tmp_path / "a.png")
    write_panoptic(path, ("c",))
    (tmp_path / "a.png").rename(tmp_path / "panoptic" / "a.png")  # of a merge that was interrupted
    write_panoptic(path, ("a",))


def test_an_interrupted_merge_leaves_no_json_of_other_pictures(tmp_path):
    write_panoptic(tmp_path / "panoptic.json")
    PanopticWriter(tmp_path / "panoptic.json", [PanopticCategory(1, "cell", True)]).add(
        "a", np.array([[1, 2, 3, 4]]), dict.fromkeys(range(1, 5), 1)
    )
    assert read_panoptic_index(tmp_path / "panoptic.json").entries == {}


def add_case(results, name, size=(6, 8)):
    """Another picture of both models, of one cell on tissue."""
    write_picture(results / "things" / f"{name}.png", np.ones((6, 8), np.uint16))
    write_picture(results / "stuff" / f"{name}.png", np.ones(size, np.uint8))
    table = f"case,instance,class,score\n{name},1,cell,0.9\n"
    (results / "things" / "instances" / f"{name}.csv").write_text(table)


def test_a_picture_of_another_size_fails_alone_and_is_named(results, capsys):
    add_case(results, "b", size=(6, 10))
    command = ["panoptic", *(str(results / one) for one in ("things", "stuff"))]
    assert run([*command, "--output", str(results / "out"), "--json"]) == 4
    shown = capsys.readouterr()
    assert json.loads(shown.out)["cases"] == ["a"]
    files = [results / one / "b.png" for one in ("things", "stuff")]
    assert f"failed: b: {files[0]} and {files[1]}: shapes differ: 6×8 and 6×10" in shown.err
    assert list(read_panoptic_index(results / "out" / "panoptic.json").entries) == ["a"]
    assert not (results / "out" / "panoptic" / "b.png").exists()


def test_if_no_picture_can_be_merged_the_earlier_result_stays(results, capsys):
    merge_panoptic_folders(results / "things", results / "stuff", results / "out")
    before = (results / "out" / "panoptic.json").read_bytes()
    write_picture(results / "stuff" / "a.png", np.ones((6, 10), np.uint8))
    command = ["panoptic", *(str(results / one) for one in ("things", "stuff"))]
    assert run([*command, "--output", str(results / "out")]) == 3
    assert f"{results / 'stuff' / 'a.png'}: shapes differ" in capsys.readouterr().err
    assert (results / "out" / "panoptic.json").read_bytes() == before


def test_pictures_of_an_earlier_merge_are_removed_and_others_are_kept(results):
    add_case(results, "b")
    folders = results / "things", results / "stuff", results / "out"
    merge_panoptic_folders(*folders)
    pictures = results / "out" / "panoptic"
    (pictures / "mine.png").write_bytes(b"drawn by hand")
    content = json.loads((results / "out" / "panoptic.json").read_text())
    content["annotations"].append({"file_name": "../mine.png"})  # no name of a PNG in the folder
    (results / "out" / "panoptic.json").write_text(json.dumps(content))
    (results / "out" / "mine.png").write_bytes(b"drawn by hand")
    for folder in folders[:2]:
        (folder / "b.png").unlink()
    writer = PanopticWriter(results / "out" / "panoptic.json", [PanopticCategory(1, "cell", True)])
    writer.add("a", np.ones((2, 2), np.int32), {1: 1})  # interrupted
    merge_panoptic_folders(*folders)
    assert sorted(path.name for path in pictures.iterdir()) == ["a.png", "mine.png"]
    assert (results / "out" / "mine.png").is_file()
    assert list(json.loads((results / "out" / "panoptic.json").read_text())) == list(content)


def test_stuff_with_objects_in_any_picture_is_refused(results):
    add_case(results, "b")
    (results / "stuff" / "instances").mkdir()
    shutil.copy(results / "things" / "instances" / "b.csv", results / "stuff" / "instances" / "b.csv")
    with pytest.raises(DataError, match=r"stuff: expected results of a model of classes: .*b\.csv exists"):
        merge_panoptic_folders(results / "things", results / "stuff", results / "out")


def test_images_are_read_one_by_one(tmp_path, monkeypatch):
    for name in ("p.json", "q.json"):
        write_panoptic(tmp_path / name, ("a", "b", "c"))
    events = []
    read, count = PanopticIndex.read, panoptic.count_panoptic
    monkeypatch.setattr(PanopticIndex, "read", lambda index, name: events.append(name) or read(index, name))
    monkeypatch.setattr(panoptic, "count_panoptic", lambda pairs: events.append("count") or count(pairs))
    evaluate_panoptic(tmp_path / "p.json", tmp_path / "q.json")
    assert events == ["a", "a", "count", "b", "b", "count", "c", "c", "count"]


def test_the_report_of_panoptic_segmentations(tmp_path, capsys):
    write_panoptic(tmp_path / "labels.json", ("a", "b", "c"))
    content = write_panoptic(tmp_path / "found.json", ("a", "b"))
    content["annotations"][1]["segments_info"][0]["category_id"] = 2  # the cell of b taken for tissue
    (tmp_path / "found.json").write_text(json.dumps(content))
    files = [str(tmp_path / f"{name}.json") for name in ("found", "labels")]
    files.append("--missing=worst")
    assert run(["evaluate", *files, "--panoptic", "--output", str(tmp_path / "out")]) == 0
    assert f"report: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.html").read_text()
    rows = re.findall(r"<tr[^>]*><th scope=\"row\"[^>]*>(\w+)</th>(.*?)</tr>", text)
    shown = {name: re.findall(r'<data value="([^"]*)"', cells) for name, cells in rows}
    # cell: 1 found of 3, none false: 1 / (1 + 2 / 2); tissue: 2 found of 3, 1 false: 2 / (2 + 1)
    assert shown["cell"] == ["3", "1", "2", "0", "0.5", "1", "0.5"]
    assert shown["tissue"] == ["3", "2", "1", "1", "0.666666667", "1", "0.666666667"]
    assert shown["all"][0] == "0.583333333"
    # b: the cell is missed (0), tissue is found beside a false one: 1 / 1.5
    assert [name for name, _ in rows][-3:] == ["c", "b", "a"]
    assert shown["b"] == ["2", "1", "1", "1", "0.333333333", "0.5", "0.333333333", "0", "0.666666667"]
    table = (tmp_path / "out" / "panoptic_cases.csv").read_text().splitlines()
    assert table[0] == "case,reference,found,missed,false,pq,sq,rq,pq_things,pq_stuff"
    (tmp_path / "out" / "report.html").write_text("mine")
    assert run(["evaluate", *files, "--panoptic", "--output", str(tmp_path / "out")]) == 3
    assert run(["evaluate", *files, "--panoptic", "--no-report", "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").read_text() == "mine"
