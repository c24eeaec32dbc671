"""``Datastore``: labels land in the dataset's layout, earlier versions are kept."""

import errno
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import write_picture, write_volume
from server_doubles import SHAPE, TILTED, write_dataset

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import find_dataset
from medseg.errors import DataError, NotWritableError
from medseg.server.datastore import Author, Datastore
from medseg.server.datastore.cases import _create
from medseg.server.datastore.names import map_values
from medseg.server.errors import ConflictError, RefusedError, UnknownIdError

ANA, BEN = Author("ana", "page", {"tiny": "d" * 64}), Author("ben")
LABELS = LabelSchema(names={"background": (0,), "ball": (1,), "core": (2,)})


def cube(value=1, at=2):
    label = np.zeros(SHAPE, np.int64)
    label[at : at + 3, 4:7, 1:4] = value
    return label


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "data", labeled=1, unlabeled=2)


@pytest.mark.parametrize("place", ["data", "labels"])
def test_a_dataset_that_cannot_be_written_to_is_refused(root, monkeypatch, place):
    touch, folder = Path.touch, root if place == "data" else root / "labels"

    def refuse(path, *arguments, **options):
        if path.parent == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        touch(path, *arguments, **options)

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(NotWritableError, match=r"cannot be written.*denied\)\. Serve a copy of the dataset"):
        Datastore(root, suggested=LABELS)
    assert not (root / ".medseg").exists()


def test_a_saved_label_is_in_the_layout_on_the_grid_of_the_image(root):
    store = Datastore(root, suggested=LABELS)
    version = store.save("scan_1", cube(2), ANA)
    written = read_scan(root / "labels" / "scan_1.nii.gz")
    assert written.array.dtype == np.uint8
    assert np.array_equal(written.array[0], cube(2))
    assert written.grid.affine == pytest.approx(TILTED)
    assert find_dataset(root).cases[1].label == root / "labels" / "scan_1.nii.gz"
    assert (version.number, version.record["author"], version.record["models"]) == (
        1,
        "ana",
        {"tiny": "d" * 64},
    )
    assert version.record["time"].startswith("20")
    assert store.labeled() == ["scan_0", "scan_1"]
    assert json.loads((root / "labels.json").read_text()) == {"background": 0, "ball": 1, "core": 2}


def test_earlier_versions_are_kept_also_those_of_other_programs(root):
    store = Datastore(root, suggested=LABELS)
    before = read_scan(root / "labels" / "scan_0.nii.gz").array[0]
    store.save("scan_0", cube(1), ANA)
    write_volume(root / "labels" / "scan_0.nii.gz", cube(2, at=5).astype(np.uint8), TILTED)
    assert np.array_equal(store.read_label("scan_0"), cube(2, at=5))
    store.save("scan_0", cube(2), BEN)
    notes = [version.record["note"] for version in store.versions("scan_0")]
    assert notes == ["found in the dataset", "", "found in the dataset", ""]
    expected = [before, cube(1), cube(2, at=5), cube(2)]
    for number, values in enumerate(expected, 1):
        assert np.array_equal(store.read_label("scan_0", number=number), values)
    store.restore("scan_0", 1, ANA)
    assert np.array_equal(read_scan(root / "labels" / "scan_0.nii.gz").array[0], before)
    assert len(store.versions("scan_0")) == 5


def test_a_label_that_changed_meanwhile_is_not_replaced(root):
    store, other = Datastore(root, suggested=LABELS), Datastore(root, suggested=LABELS)
    read = store.label("scan_0")
    other.save("scan_0", cube(2), BEN)
    with pytest.raises(ConflictError):
        store.save("scan_0", cube(1), ANA, if_match=read.digest)
    assert np.array_equal(store.read_label("scan_0"), cube(2))
    store.save("scan_0", cube(1), ANA, if_match=store.label("scan_0").digest)
    store.save("scan_2", cube(1), ANA, if_match="")
    with pytest.raises(ConflictError):
        store.save("scan_2", cube(2), BEN, if_match="")


def test_clients_that_save_at_once_lose_nothing(root):
    store = Datastore(root, suggested=LABELS)
    threads = [
        threading.Thread(target=store.save, args=("scan_1", cube(1, at), Author(f"client {at}")))
        for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = store.versions("scan_1")
    assert [version.number for version in versions] == list(range(1, 9))
    assert {version.record["author"] for version in versions} == {f"client {at}" for at in range(8)}
    assert read_scan(root / "labels" / "scan_1.nii.gz").array.sum() == 27


def test_what_a_killed_process_left_is_finished(root, monkeypatch):
    store = Datastore(root, suggested=LABELS)
    store.save("scan_1", cube(1), ANA)
    monkeypatch.setattr(store, "_publish", lambda case, version: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.save("scan_1", cube(2), ANA)
    folder = root / ".medseg" / "labels" / "scan_1" / "final"
    (folder / "0003.nii.gz").write_bytes(b"without a record")
    assert np.array_equal(read_scan(root / "labels" / "scan_1.nii.gz").array[0], cube(1))
    again = Datastore(root)
    assert np.array_equal(read_scan(root / "labels" / "scan_1.nii.gz").array[0], cube(2))
    again.save("scan_1", cube(1), ANA)
    assert sorted(path.name for path in folder.glob("*.gz")) == ["0001.nii.gz", "0002.nii.gz", "0003.nii.gz"]
    assert np.array_equal(again.read_label("scan_1", number=3), cube(1))


def test_a_removed_label_can_be_restored(root):
    store = Datastore(root, suggested=LABELS)
    store.remove_label("scan_0", ANA)
    assert not (root / "labels" / "scan_0.nii.gz").exists()
    assert store.label("scan_0") is None
    assert store.labeled() == []
    store.restore("scan_0", 1, ANA)
    assert store.labeled() == ["scan_0"]
    with pytest.raises(UnknownIdError):
        store.remove_label("scan_1", ANA)


def test_other_tags_stay_out_of_the_layout(root):
    store = Datastore(root, suggested=LABELS)
    store.save("scan_1", cube(1), ANA, tag="original")
    assert store.labeled() == ["scan_0"]
    assert store.tags("scan_1") == ["original"]
    assert store.status() == {"total": 3, "completed": 1, "label_tags": {"final": 1, "original": 1}}
    for tag in ("../../x", "", "a/b", "." * 3):
        with pytest.raises(RefusedError):
            store.save("scan_1", cube(1), ANA, tag=tag)


@pytest.mark.parametrize(
    "label", [cube()[:-1], cube().astype(np.float32), cube(9)], ids=["shape", "type", "value"]
)
def test_label_maps_that_do_not_fit_are_refused(root, label):
    (root / "labels.json").write_text('{"background": 0, "ball": 1}')
    with pytest.raises(DataError):
        Datastore(root).save("scan_1", label, ANA)


def test_new_names_get_new_values(root):
    store = Datastore(root, suggested=LABELS)
    assert store.add_labels(["Ball", "cyst"]) == {"ball": 1, "core": 2, "cyst": 3}
    assert json.loads((root / "labels.json").read_text())["cyst"] == 3
    assert Datastore(root).labels() == {"ball": 1, "core": 2, "cyst": 3}
    with pytest.raises(RefusedError):
        store.add_labels(["a\nb"])


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (20, 30), dtype=np.uint8)


def images(folder, names, suffix=".png"):
    for seed, name in enumerate(names):
        write_picture(folder / f"{name}{suffix}", picture(seed))


def mask():
    label = np.zeros((20, 30), np.uint8)
    label[5:10, 5:10] = 1
    return label


LAYOUTS = {
    "beside": ([("a.png", 0), ("b.png", 0)], "a_label.png"),
    "suffix": ([("a.png", 0), ("a_mask.png", 1), ("b.png", 0)], "b_mask.png"),
    "folders": ([("images/a.png", 0), ("images/b.png", 0)], "labels/a.png"),
    "masks": ([("imgs/a.png", 0), ("imgs/b.png", 0), ("masks/a_seg.png", 1)], "masks/b_seg.png"),
    "numbered": ([("images/img1.png", 0), ("images/img2.png", 0), ("images/img3.png", 0),
                  ("masks/mask1.png", 1), ("masks/mask2.png", 1)], "masks/mask3.png"),
    "parts below": ([("images/train/a.png", 0), ("images/val/b.png", 0)], "labels/train/a.png"),
    "parts above": ([("train/images/a.png", 0), ("val/images/b.png", 0)], "train/labels/a.png"),
    "nnunet": ([("imagesTr/a_0000.png", 0), ("imagesTr/b_0000.png", 0)], "labelsTr/a.png"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_new_labels_land_where_each_layout_finds_them(tmp_path, layout):
    files, expected = LAYOUTS[layout]
    for seed, (name, value) in enumerate(files):
        write_picture(tmp_path / name, mask() * value if value else picture(seed))
    store = Datastore(tmp_path)
    name = store.unlabeled()[0]
    store.save(name, mask(), ANA)
    assert (tmp_path / expected).is_file()
    found = {case.id: case for case in find_dataset(tmp_path).cases}
    assert found[name].label == tmp_path / expected
    assert sum(bool(case.label_files) for case in found.values()) == 1 + sum(value for _, value in files)
    assert store.labeled() == sorted(id for id, case in found.items() if case.label_files)


def test_labels_are_entered_into_tables_of_cases(tmp_path):
    images(tmp_path / "scans", ["a", "b"])
    (tmp_path / "manifest.csv").write_text("image,site\nscans/a.png,1\nscans/b.png,2\n")
    Datastore(tmp_path).save("b", mask(), ANA)
    assert (
        tmp_path / "manifest.csv"
    ).read_text() == "image,site,label\nscans/a.png,1,\nscans/b.png,2,labels/b.png\n"
    assert [case.label for case in find_dataset(tmp_path).cases] == [None, tmp_path / "labels" / "b.png"]


def test_labels_are_entered_into_the_decathlon_table(tmp_path):
    write_volume(tmp_path / "imagesTr" / "a.nii.gz", np.zeros(SHAPE, np.int16))
    content = {"training": ["./imagesTr/a.nii.gz"], "labels": {"0": "background", "1": "x"}, "name": "kept"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    store = Datastore(tmp_path)
    store.add_labels(["y"])
    store.save("a", cube(2), ANA)
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["training"] == [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    assert (content["labels"], content["name"]) == ({"0": "background", "1": "x", "2": "y"}, "kept")
    assert find_dataset(tmp_path).cases[0].label == tmp_path / "labelsTr" / "a.nii.gz"


def test_a_label_of_another_format_is_replaced_by_one_file(tmp_path):
    images(tmp_path / "images", ["a"], ".bmp")
    write_picture(tmp_path / "labels" / "a.bmp", mask())
    store = Datastore(tmp_path)
    store.save("a", 1 - mask(), ANA)
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["a.png"]
    assert np.array_equal(store.read_label("a", number=1), mask())


def test_images_are_added_under_plain_names(root, tmp_path):
    file = write_volume(tmp_path / "sent" / "x.nii.gz", np.ones(SHAPE, np.int16))
    store = Datastore(root)
    assert store.add_image("CT: chest/1", file) == "CT_ chest_1"
    assert store.add_image("CT: chest/1", file) == "CT_ chest_1"
    assert store.case("CT: chest/1").id == "CT_ chest_1"
    assert (root / "images" / "CT_ chest_1.nii.gz").is_file()
    store.save("CT: chest/1", cube(1), ANA)
    assert (root / "labels" / "CT_ chest_1.nii.gz").is_file()
    with pytest.raises(ConflictError):
        store.add_image("scan_0", file)
    for name in ("", ".", "..", "  "):
        with pytest.raises((DataError, ConflictError)):
            store.add_image(name, file)
    assert len(list((root / "images").iterdir())) == 4


def test_an_image_that_fills_a_disk_without_hard_links_leaves_no_part_of_it(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    class FullDisk(io.FileIO):
        def write(self, content):
            super().write(content[:2])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.link", refuse)
    source, target = tmp_path / "sent.png", tmp_path / "image.png"
    source.write_bytes(b"whole")
    _create(source, target)
    assert target.read_bytes() == b"whole"
    target.unlink()
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *a, **k: FullDisk(path, mode) if "x" in mode else opened(path, mode, *a, **k),
    )
    with pytest.raises(OSError, match="No space"):
        _create(source, target)
    assert list(tmp_path.iterdir()) == [source]


def test_an_added_image_replaces_no_file_of_the_dataset(tmp_path):
    """Names of labels beside images, and of further channels, are taken."""
    sent = write_volume(tmp_path / "sent.nii.gz", np.ones(SHAPE, np.int16))
    folders = {
        "beside": (["a", "a_label"], ["a", "a_label", "a_mask"]),
        "nnunet/imagesTr": (["a_0000", "a_0001"], ["a", "a_0000", "a_0001", "a_0002", "b"]),
    }
    for folder, (names, taken) in folders.items():
        for name in names:
            write_volume(tmp_path / folder / f"{name}.nii.gz", np.zeros(SHAPE, np.int16))
        root = tmp_path / folder.split("/")[0]
        before = {path: path.read_bytes() for path in (tmp_path / folder).glob("*.gz")}
        store = Datastore(root)
        for name in taken:
            with pytest.raises((ConflictError, RefusedError)):
                store.add_image(name, sent)
        assert {path: path.read_bytes() for path in (tmp_path / folder).glob("*.gz")} == before
        assert Datastore(root).ids() == ["a"]


def test_clients_that_add_names_at_once_get_different_values(root):
    first, second = Datastore(root, suggested=LABELS), Datastore(root, suggested=LABELS)
    _ = first.labels(), second.labels()
    threads = [
        threading.Thread(target=store.add_labels, args=([f"new {index}"],))
        for index, store in enumerate([first, second] * 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = json.loads((root / "labels.json").read_text())
    assert len(set(names.values())) == len(names) == 3 + 8
    assert first.add_labels(["new 1"])["new 1"] == names["new 1"]


def test_a_label_of_another_program_in_the_last_seconds_is_noticed(root):
    store = Datastore(root, suggested=LABELS)
    assert "scan_1" in store.unlabeled()
    write_volume(root / "labels" / "scan_1.nii.gz", cube(2).astype(np.uint8), TILTED)
    with pytest.raises(ConflictError):
        store.save("scan_1", cube(1), ANA, if_match="")
    store.save("scan_1", cube(1), ANA)
    assert np.array_equal(store.read_label("scan_1", number=1), cube(2))
    (root / "labels" / "scan_1.nii.gz").unlink()
    write_volume(root / "labels" / "scan_1.nii", cube(2).astype(np.uint8), TILTED)
    store.save("scan_1", cube(1), ANA)
    assert len(list((root / "labels").glob("scan_1*"))) == 1


def test_a_value_that_few_label_maps_hold_is_a_label(tmp_path):
    root = write_dataset(tmp_path / "data", labeled=10, unlabeled=0)
    write_volume(root / "labels" / "scan_9.nii.gz", cube(2).astype(np.uint8), TILTED)
    store = Datastore(root)
    store.save("scan_0", cube(1), ANA)
    assert not (root / "labels.json").exists()  # a training finds the values itself
    store.save("scan_9", cube(2), ANA)
    assert store.add_labels(["cyst"])["cyst"] == 3
    assert json.loads((root / "labels.json").read_text()) == {
        "background": 0,
        "label_1": 1,
        "label_2": 2,
        "cyst": 3,
    }


TABLES = {
    "labels.json": ('{"background": 0, "ball": 1}', '"cyst": 2'),
    "dataset.json": ('{"name": "x", "labels": {"0": "background", "1": "ball"}}', '"2": "cyst"'),
    "labels.txt": ("0: background\n1: ball\n", "2: cyst"),
}


@pytest.mark.parametrize("name", TABLES)
def test_names_are_added_in_the_form_of_the_file(root, name):
    text, added = TABLES[name]
    (root / name).write_text(text)
    assert Datastore(root).add_labels(["cyst"]) == {"ball": 1, "cyst": 2}
    assert added in (root / name).read_text()
    assert "ball" in (root / name).read_text()
    assert sorted(p.name for p in root.iterdir() if p.is_file()) == [name]


def test_a_color_table_is_kept_and_labels_json_has_its_colors(root):
    (root / "colors.ctbl").write_text("0 background 0 0 0 0\n1 ball 255 0 7 255\n9 other 1 1 1 255\n")
    store = Datastore(root)
    assert store.add_labels(["cyst"]) == {"ball": 1, "cyst": 2}
    assert Datastore(root).labels() == {"ball": 1, "cyst": 2}
    assert store.colors()["ball"] == (255, 0, 7)


def test_colors_stay_when_a_name_is_added(root):
    rows = [{"value": 0, "name": "background"}, {"value": 1, "name": "ball", "color": [1, 2, 3]}]
    (root / "labels.json").write_text(json.dumps(rows))
    store = Datastore(root)
    store.add_labels(["cyst"])
    assert json.loads((root / "labels.json").read_text()) == [*rows, {"value": 2, "name": "cyst"}]
    assert store.colors()["ball"] == (1, 2, 3)


def test_new_values_fit_into_a_byte(tmp_path):
    write_picture(tmp_path / "images" / "a.png", picture())
    write_picture(tmp_path / "labels" / "a.png", 255 * mask())
    assert Datastore(tmp_path).add_labels(["cyst", "scar"]) == {"foreground": 255, "cyst": 1, "scar": 2}


def test_bids_without_labels_can_be_annotated(tmp_path):
    write_volume(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz", np.zeros(SHAPE, np.int16))
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    store = Datastore(tmp_path)
    assert store.unlabeled() == ["sub-01"]
    store.save("sub-01", cube(1), ANA)
    assert find_dataset(tmp_path).cases[0].label is not None
    assert store.labeled() == ["sub-01"]


def test_brats_without_labels_can_be_annotated(tmp_path):
    case = tmp_path / "BraTS-GLI-00001-000"
    for kind in ("t1n", "t1c", "t2w", "t2f"):
        write_volume(case / f"{case.name}-{kind}.nii.gz", np.zeros(SHAPE, np.int16))
    store = Datastore(tmp_path)
    assert store.unlabeled() == [case.name]
    store.save(case.name, cube(2), ANA)
    assert find_dataset(tmp_path).cases[0].label == case / f"{case.name}-seg.nii.gz"


def test_folders_of_no_layout_say_what_to_do(tmp_path):
    write_volume(tmp_path / "data" / "pat1" / "image.nii.gz", np.zeros(SHAPE, np.int16))
    with pytest.raises(DataError, match=r"manifest\.csv"):
        Datastore(tmp_path / "data")
    (tmp_path / "data" / "manifest.csv").write_text("id,image\npat1,pat1/image.nii.gz\n")
    Datastore(tmp_path / "data").save("pat1", cube(1), ANA)
    assert (tmp_path / "data" / "labels" / "pat1.nii.gz").is_file()


def test_a_case_that_is_being_copied_does_not_stop_the_others(tmp_path):
    for name in ("a_0000", "a_0001"):
        write_volume(tmp_path / "imagesTr" / f"{name}.nii.gz", np.zeros(SHAPE, np.int16))
    store = Datastore(tmp_path)
    write_volume(tmp_path / "imagesTr" / "b_0000.nii.gz", np.zeros(SHAPE, np.int16))
    store.save("a", cube(1), ANA)
    store._list.refresh()
    assert (store.ids(), store.labeled()) == (["a"], ["a"])
    write_volume(tmp_path / "imagesTr" / "b_0001.nii.gz", np.zeros(SHAPE, np.int16))
    store._list.refresh()
    assert store.ids() == ["a", "b"]


def test_version_numbers_grow_beyond_four_digits(root):
    store = Datastore(root, suggested=LABELS)
    store.save("scan_1", cube(1), ANA)
    folder = root / ".medseg" / "labels" / "scan_1" / "final"
    for path in list(folder.glob("0001*")):
        path.rename(path.with_name(path.name.replace("0001", "9999")))
    record = json.loads((folder / "9999.json").read_text())
    (folder / "9999.json").write_text(json.dumps(record | {"file": "9999.nii.gz"}))
    for number in (10000, 10001):
        assert store.save("scan_1", cube(2), ANA).number == number
    assert [version.number for version in store.versions("scan_1")] == [9999, 10000, 10001]


@pytest.mark.parametrize(
    ("indices", "present", "expected"),
    [
        ((1, 2), {1, 2}, {1: "a", 2: "b"}),
        ((2, 1), {1, 2}, {2: "a", 1: "b"}),
        ((2, 3), {1, 2}, {1: "a", 2: "b"}),
        ((1, 3), {1, 3}, {1: "a", 3: "b"}),
        ((1, 3), {1}, {1: "a"}),
        ((2, 3), {2}, None),
        ((1, 2), {3}, None),
    ],
)
def test_values_are_indices_or_the_positions_of_3d_slicer(root, indices, present, expected):
    names = Datastore(root).names
    info = [{"name": name, "idx": index} for name, index in zip("ab", indices, strict=True)]
    if expected is None:
        with pytest.raises(RefusedError):
            map_values(info, present, names)
        return
    mapped = map_values(info, present, names)
    assert {value: mapped[value] for value in expected} == {v: names.values[n] for v, n in expected.items()}


def objects(count):
    """Single voxels with the values 1 to ``count``."""
    label = np.zeros(SHAPE, np.uint8)
    for value in range(1, count + 1):
        label[2 * (value % 6), 2 * (value // 6), 3] = value
    return label


@pytest.mark.parametrize(("counts", "numbered"), [((6, 9), True), ((6, 6), False), ((6, 4, 9), True)])
def test_label_maps_that_number_objects_are_not_taken_as_classes(tmp_path, counts, numbered):
    root = write_dataset(tmp_path / "data", labeled=len(counts), unlabeled=1)
    for index, count in enumerate(counts):
        write_volume(root / "labels" / f"scan_{index}.nii.gz", objects(count), TILTED)
    store = Datastore(root)
    assert store.names.schema.collapse_instances is numbered
    assert set(store.labels()) == ({"foreground"} if numbered else {f"label_{v}" for v in range(1, 7)})
    store.save(f"scan_{len(counts)}", objects(6), ANA)
    (root / "labels.json").write_text(json.dumps({f"organ {v}": v for v in range(10)}))
    assert "organ 4" in Datastore(root).labels()


def test_values_in_several_pieces_are_classes(tmp_path):
    root = write_dataset(tmp_path / "data", labeled=2, unlabeled=0)
    for index, count in enumerate((6, 9)):
        label = objects(count)
        label[-1, -1, -1] = 2
        write_volume(root / "labels" / f"scan_{index}.nii.gz", label, TILTED)
    assert len(Datastore(root).labels()) == 9
