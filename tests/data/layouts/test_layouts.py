"""Every layout: what it finds, what it declares, and what it reports."""

import json
import time

import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg.config.schema import load_config
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.layouts import LayoutOptions, find_dataset
from medseg.errors import ConfigError, DataError

VOLUME = np.zeros((3, 4, 5), np.uint8)
PICTURE = np.zeros((4, 5), np.uint8)


def volumes(root, *names):
    for name in names:
        write_volume(root / f"{name}.nii.gz", VOLUME)


def pictures(root, *names):
    for name in names:
        write_picture(root / f"{name}.png", PICTURE)


def ids(found):
    return [case.id for case in found.cases]


def test_four_digits_are_channels_where_all_images_have_them(tmp_path):
    volumes(tmp_path / "images", "a_0000", "a_0001", "b_0000", "b_0001")
    volumes(tmp_path / "labels", "a", "b")
    found = find_dataset(tmp_path).checked()
    assert ids(found) == ["a", "b"]
    assert [p.name for p in found.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert found.describe() == "layout: images/ and labels/; 2 cases, 2 files of channels each"


def test_four_digits_are_part_of_the_name_where_the_labels_have_them(tmp_path):
    pictures(tmp_path / "images", "frame_0000", "frame_0001")
    pictures(tmp_path / "labels", "frame_0000", "frame_0001")
    assert ids(find_dataset(tmp_path).checked()) == ["frame_0000", "frame_0001"]


def test_a_case_without_a_channel_raises(tmp_path):
    volumes(tmp_path / "images", "a_0000", "a_0001", "b_0000")
    volumes(tmp_path / "labels", "a", "b")
    with pytest.raises(DataError, match=r"case b: lacks the channels \['0001'\]"):
        find_dataset(tmp_path)


def test_label_names_may_omit_a_word_for_image(tmp_path):
    volumes(tmp_path / "images", "brain1_image", "brain2_image")
    volumes(tmp_path / "labels", "brain1_label", "brain2_image_label")
    found = find_dataset(tmp_path).checked()
    assert [(c.id, c.label.name) for c in found.cases] == [
        ("brain1_image", "brain1_label.nii.gz"),
        ("brain2_image", "brain2_image_label.nii.gz"),
    ]


def test_images_without_labels_are_reported(tmp_path):
    volumes(tmp_path, "a", "b")
    found = find_dataset(tmp_path)
    assert found.layout == "images without labels"
    assert [p.topic for p in found.findings] == ["unlabeled"]
    with pytest.raises(DataError, match="expected the folders images/ and labels/ in it, found 2 images"):
        found.checked()


def test_nnunet_raw(tmp_path):
    volumes(tmp_path / "imagesTr", "a_0000", "b_0000")
    volumes(tmp_path / "labelsTr", "a", "b")
    volumes(tmp_path / "imagesTs", "c_0000")
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {"labels": {"background": 0, "organ": 1, "tumor": 2, "ignore": 3}, "channel_names": {"0": "CT"}}
        )
    )
    found = find_dataset(tmp_path).checked()
    assert found.layout == "nnU-Net raw"
    assert [(c.id, c.part, c.label is not None) for c in found.cases] == [
        ("a", None, True),
        ("b", None, True),
        ("c", "test", False),
    ]
    assert found.labels.names == {"background": (0,), "organ": (1,), "tumor": (2,)}
    assert found.labels.ignore_value == 3


def test_nnunet_regions(tmp_path):
    volumes(tmp_path / "imagesTr", "a_0000")
    volumes(tmp_path / "labelsTr", "a")
    table = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": table}))
    labels = find_dataset(tmp_path).labels
    assert labels.evaluated == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    without = load_config(overrides=["data.labels.regions={}"]).data.labels
    assert plan_labels([], LabelDeclarations(without, layout=labels)).schema.class_names == (*labels.names,)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: not valid JSON"):
        find_dataset(tmp_path)


def test_msd(tmp_path):
    volumes(tmp_path / "imagesTr", "a", "b")
    volumes(tmp_path / "labelsTr", "a", "b")
    content = {
        "labels": {"0": "background", "1": "cancer"},
        "training": [
            {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("b", "a", "gone")
        ],
        "test": ["./imagesTs/x.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = find_dataset(tmp_path)
    assert (found.layout, ids(found)) == ("Medical Segmentation Decathlon", ["a", "b"])
    assert found.labels.names == {"background": (0,), "cancer": (1,)}
    assert [p.subject for p in found.findings] == ["gone"]


@pytest.mark.parametrize("labels", ["tumor", 3, ["background", "tumor"], {"0": "background", "one": "x"}])
@pytest.mark.parametrize("training", [False, True], ids=["nnunet", "msd"])
def test_invalid_label_tables_raise(tmp_path, labels, training):
    volumes(tmp_path / "imagesTr", "a_0000")
    volumes(tmp_path / "labelsTr", "a")
    content = {"labels": labels if training or not isinstance(labels, dict) else {"tumor": "one"}}
    if training:
        volumes(tmp_path / "imagesTr", "a")
        content["training"] = [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]
        (tmp_path / "imagesTr" / "a_0000.nii.gz").unlink()
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"dataset\.json: not a valid table of labels"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(
    ("mark", "contrasts", "enhancing"),
    [("_", ("t1", "t1ce", "t2", "flair"), 4), ("-", ("t1n", "t1c", "t2w", "t2f"), 3)],
)
def test_brats(tmp_path, mark, contrasts, enhancing):
    for case in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS-GLI-00006-000"):
        volumes(tmp_path / "training" / case, *(f"{case}{mark}{c}" for c in (*contrasts, "seg")))
    found = find_dataset(tmp_path).checked()
    assert found.layout == "BraTS"
    assert [c.patient for c in found.cases] == ["BraTS-GLI-00005", "BraTS-GLI-00005", "BraTS-GLI-00006"]
    assert [p.name.removesuffix(".nii.gz").split(mark)[-1] for p in found.cases[0].images] == list(contrasts)
    assert found.labels.names["enhancing_tumor"] == (enhancing,)
    chosen = find_dataset(tmp_path, LayoutOptions(modalities=(contrasts[3],)))
    assert all(len(c.images) == 1 and contrasts[3] in c.image.name for c in chosen.cases)


def bids(root, *, kinds=("T1w",)):
    (root / "dataset_description.json").parent.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text("{}")
    for sub in ("01", "02"):
        for ses in ("1", "2"):
            stem = f"sub-{sub}_ses-{ses}"
            volumes(root / f"sub-{sub}" / f"ses-{ses}" / "anat", *(f"{stem}_{k}" for k in kinds))
            volumes(
                root / "derivatives" / "manual" / f"sub-{sub}" / f"ses-{ses}" / "anat", f"{stem}_desc-x_dseg"
            )
    (root / "derivatives" / "manual" / "dseg.tsv").write_text("index\tname\n0\tnothing\n1\tlesion\n")


def test_bids(tmp_path):
    bids(tmp_path)
    found = find_dataset(tmp_path).checked()
    assert (found.layout, len(found.cases)) == ("BIDS", 4)
    case = found.cases[1]
    assert (case.id, case.patient) == ("sub-01_ses-2", "sub-01")
    assert case.label.name == "sub-01_ses-2_desc-x_dseg.nii.gz"
    assert found.labels.names == {"nothing": (0,), "lesion": (1,)}


def test_bids_images_of_several_kinds_must_be_chosen(tmp_path):
    bids(tmp_path, kinds=("T1w", "FLAIR"))
    with pytest.raises(DataError, match=r"several kinds: FLAIR, T1w. Choose .* data\.modalities=\[FLAIR\]"):
        find_dataset(tmp_path)
    case = find_dataset(tmp_path, LayoutOptions(modalities=("T1w", "FLAIR"))).cases[0]
    assert [p.name for p in case.images] == ["sub-01_ses-1_T1w.nii.gz", "sub-01_ses-1_FLAIR.nii.gz"]
    with pytest.raises(DataError, match="case sub-01_ses-1: has no T2w"):
        find_dataset(tmp_path, LayoutOptions(modalities=("T2w",)))


def test_bids_with_two_maps_is_reported(tmp_path):
    bids(tmp_path)
    volumes(tmp_path / "derivatives" / "auto" / "sub-01", "sub-01_ses-1_mask")
    problems = find_dataset(tmp_path).findings
    assert [p.subject for p in problems] == ["sub-01_ses-1"]
    assert "has 2 label maps" in problems[0].message
    assert not find_dataset(tmp_path, LayoutOptions(label_suffix="_dseg")).findings


def test_voc(tmp_path):
    base = tmp_path / "VOCdevkit" / "VOC2012"
    pictures(base / "JPEGImages", "2007_1", "2007_2", "2007_3")
    pictures(base / "SegmentationClass", "2007_1", "2007_2")
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part, names in (("train", "2007_1"), ("val", "2007_2\n2007_9"), ("test", "2007_3")):
        (lists / f"{part}.txt").write_text(names)
    found = find_dataset(tmp_path)
    assert [(c.id, c.part) for c in found.cases] == [("2007_1", "train"), ("2007_2", "val"), ("2007_3", "test")]
    assert len(found.labels.names) == 21
    assert found.labels.ignore_value == 255
    assert [p.subject for p in found.findings] == ["2007_9"]


def test_cityscapes(tmp_path):
    for part, city in (("train", "ulm"), ("val", "bonn")):
        pictures(tmp_path / "leftImg8bit" / part / city, f"{city}_0_leftImg8bit", f"{city}_1_leftImg8bit")
        pictures(tmp_path / "gtFine" / part / city, *(f"{city}_{i}_gtFine_labelIds" for i in (0, 1)))
    found = find_dataset(tmp_path).checked()
    assert next((c.id, c.part, c.patient) for c in found.cases) == ("ulm_0", "train", "ulm")
    assert (found.labels.names["road"], found.labels.others, found.labels.background) == ((7,), "ignore", False)


def test_ade20k(tmp_path):
    for folder, name in (("training", "a"), ("validation", "b")):
        pictures(tmp_path / "images" / folder, name)
        pictures(tmp_path / "annotations" / folder, name)
    labels = find_dataset(tmp_path).labels
    assert (labels.names["wall"], labels.colors["wall"]) == ((1,), (120, 120, 120))
    table = ["Idx\tRatio\tTrain\tVal\tName", *(f"{i} \t0.1\t1\t1\tthing {i}, other" for i in range(1, 151))]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(table))
    found = find_dataset(tmp_path).checked()
    assert [(c.id, c.part) for c in found.cases] == [("a", "train"), ("b", "val")]
    assert found.labels.names["thing 150"] == (150,)
    assert found.labels.colors["thing 3"] == (6, 230, 230)  # the sky's
    assert found.labels.ignore_value == 0


def coco(root, entries, *, name="instances_train.json"):
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 5} for i in (1, 2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": entries,
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / name).write_text(json.dumps(content))


def test_coco(tmp_path):
    pictures(tmp_path / "train2017", "1", "2")
    coco(tmp_path, [])
    found = find_dataset(tmp_path).checked()
    assert (found.layout, ids(found)) == ("COCO instances", ["1", "2"])
    assert found.labels.names == {"background": (0,), "cat": (3,), "dog": (7,)}
    assert found.cases[0].label.name == "instances_train.json#1"


def test_manifest_csv(tmp_path):
    volumes(tmp_path / "d", "a1", "a2", "am", "b1", "b2", "bm")
    rows = ["id,image:t1,image:t2,label,patient,split,age", "a,d/a1.nii.gz,d/a2.nii.gz,d/am.nii.gz,p1,train,40"]
    rows += ["b,d/b1.nii.gz,d/b2.nii.gz,d/bm.nii.gz,p2,val,50"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = find_dataset(tmp_path).checked()
    a = found.cases[0]
    assert (a.id, a.patient, a.part, dict(a.metadata)) == ("a", "p1", "train", {"age": "40"})
    assert [p.name for p in a.images] == ["a1.nii.gz", "a2.nii.gz"]
    only = find_dataset(tmp_path / "manifest.csv", LayoutOptions(modalities=("t2",))).cases[0]
    assert [p.name for p in only.images] == ["a2.nii.gz"]


def test_manifest_json(tmp_path):
    volumes(tmp_path, "a", "m1", "m2")
    entry = {"image": "a.nii.gz", "label": {"x": "m1.nii.gz", "y": "m2.nii.gz"}, "labeled": ["x", "y"]}
    (tmp_path / "m.json").write_text(json.dumps({"cases": [entry]}))
    case = find_dataset(tmp_path / "m.json").checked().cases[0]
    assert (case.id, sorted(case.masks), case.labeled) == ("a", ["x", "y"], ("x", "y"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["name", "a"], "expected a column image"),
        (["image,split", "a.nii.gz,none"], "split is 'none', expected train, val or test"),
        (["image,label,label:x", "a.nii.gz,b,c"], "has both a column label and columns"),
        (["image"], "contains no cases"),
    ],
)
def test_invalid_manifests_raise(tmp_path, rows, message):
    volumes(tmp_path, "a")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=message):
        find_dataset(tmp_path).checked()


def test_missing_files_of_a_manifest_are_reported(tmp_path):
    (tmp_path / "manifest.csv").write_text("image,label\nx.nii.gz,y.nii.gz")
    with pytest.raises(DataError, match=r"lists files that do not exist: .*x\.nii\.gz, .*y\.nii\.gz"):
        find_dataset(tmp_path).checked()


def test_no_layout(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes\.txt: expected a folder, or a manifest of cases"):
        find_dataset(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"found notes\.txt\..*Supported layouts: manifest, nnU-Net raw"):
        find_dataset(tmp_path)


def brats_folder(root):
    for case in ("a", "b"):
        volumes(root / case, *(f"{case}_{c}" for c in ("t1", "t1ce", "t2", "flair", "seg")))


def nnunet_folder(root):
    volumes(root / "imagesTr", "a_0000", "b_0000")
    volumes(root / "labelsTr", "a", "b")
    table = {"background": 0, "left": 1, "right": 2, "ignore": 3}
    (root / "dataset.json").write_text(json.dumps({"labels": table}))


def msd_folder(root):
    volumes(root / "imagesTr", "a")
    volumes(root / "labelsTr", "a")
    content = {
        "labels": {"0": "background", "1": "left", "2": "right"},
        "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    }
    (root / "dataset.json").write_text(json.dumps(content))


def voc_folder(root):
    pictures(root / "JPEGImages", "a")
    pictures(root / "SegmentationClass", "a")


def cityscapes_folder(root):
    pictures(root / "leftImg8bit" / "train" / "ulm", "ulm_0_leftImg8bit")
    pictures(root / "gtFine" / "train" / "ulm", "ulm_0_gtFine_labelIds")


def ade20k_folder(root):
    pictures(root / "images" / "training", "a")
    pictures(root / "annotations" / "training", "a")


def coco_folder(root):
    pictures(root / "train2017", "1", "2")
    coco(root, [])


def masks_folder(root):
    pictures(root / "images", "a")
    pictures(root / "labels" / "a", "left", "right")


def guessed_folder(root):
    pictures(root / "images", "a")
    pictures(root / "labels", "a")


def manifest_folder(root):
    pictures(root, "a", "m1", "m2")
    entry = {"image": "a.png", "label": {"left": "m1.png", "right": "m2.png"}}
    (root / "manifest.json").write_text(json.dumps({"cases": [entry]}))


def bids_folder(root):
    bids(root)
    table = "index\tname\n0\tbackground\n1\tleft\n2\tright\n"
    (root / "derivatives" / "manual" / "dseg.tsv").write_text(table)


EVERY_LAYOUT = [
    (nnunet_folder, ("left", "right")),
    (msd_folder, ("left", "right")),
    (voc_folder, ("cat", "dog")),
    (cityscapes_folder, ("road", "sky")),
    (ade20k_folder, ("wall", "sky")),
    (coco_folder, ("cat", "dog")),
    (bids_folder, ("left", "right")),
    (brats_folder, ("necrotic_core", "oedema")),
    (masks_folder, ("left", "right")),
    (manifest_folder, ("left", "right")),
    (guessed_folder, ("label_1", "label_2")),
]


@pytest.mark.parametrize(("make", "pair"), EVERY_LAYOUT, ids=lambda v: getattr(v, "__name__", ""))
def test_settings_override_every_layout(tmp_path, make, pair):
    make(tmp_path)
    found = find_dataset(tmp_path)

    def resolved(*settings):
        config = load_config(overrides=settings).data.labels
        plan = plan_labels(found.cases, LabelDeclarations(config, layout=found.labels), folder=tmp_path)
        return plan.resolve({0, 1, 2}).schema

    before = resolved()
    labels = resolved(
        f"data.labels.pairs=[[{pair[0]}, {pair[1]}]]",
        "data.labels.ignore_value=254",
        "data.labels.others=background",
    )
    assert labels.pairs == (pair,)  # else left and right are mirrored unexchanged
    assert labels.mirrored_classes[list(labels.names).index(pair[0])] == list(labels.names).index(pair[1])
    assert (labels.ignore_value, labels.others) == (254, "background")
    kept = {"names", "background", "colors", "regions", "terminology"}
    assert labels.model_dump(include=kept) == before.model_dump(include=kept)
    other = str(not before.background).lower()
    assert resolved(f"data.labels.background={other}").background != before.background
    with pytest.raises(ConfigError, match=rf"\['nowhere'\].*known: \[.*'{pair[0]}'"):
        resolved(f"data.labels.pairs=[[nowhere, {pair[0]}]]")


def test_configured_names_keep_declared_properties(tmp_path):
    voc_folder(tmp_path)
    found = find_dataset(tmp_path)
    settings = ["data.labels={background: 0, cat: 8}", "data.labels.others=background"]
    config = load_config(overrides=settings).data.labels
    labels = plan_labels(found.cases, LabelDeclarations(config, layout=found.labels)).schema
    assert (labels.names, labels.ignore_value) == ({"background": (0,), "cat": (8,)}, 255)
    assert labels.colors == {"background": (0, 0, 0), "cat": (64, 0, 0)}
    named = load_config(overrides=["data.labels={background: 0, border: 255}"]).data.labels
    assert plan_labels(found.cases, LabelDeclarations(named, layout=found.labels)).schema.ignore_value is None


@pytest.mark.data
def test_real_folders(data_root):
    brats = find_dataset(data_root / "brats").checked()
    assert [len(c.images) for c in brats.cases] == [2] * 4
    nrrd = find_dataset(data_root / "nrrd_pyradiomics").checked()
    assert nrrd.cases[-1].label.name == "prostate_phantom_subvolume-label.nrrd"
    series = find_dataset(data_root / "dicom_ct_series").checked()
    assert [(c.id, c.label.name) for c in series.cases] == [("dicom_ct_series", "example_seg_dicom.nii.gz")]
    cord = find_dataset(data_root / "spinal_cord")
    assert "t2s has" not in str(cord.findings)
    assert {p.subject for p in cord.findings} >= {"labels", "t2s", "t2"}


def test_a_table_of_scores_is_not_a_manifest(tmp_path):
    write_volume(tmp_path / "images" / "a.nii.gz", np.zeros((2, 2, 2), np.int16))
    write_volume(tmp_path / "labels" / "a.nii.gz", np.zeros((2, 2, 2), np.uint8))
    for name in ("cases.csv", "manifest.csv"):
        (tmp_path / name).write_text("case,label,dice\na,organ,0.5\n")
    assert [case.id for case in find_dataset(tmp_path).checked().cases] == ["a"]


def test_a_manifest_is_detected_by_its_image_column(tmp_path):
    write_volume(tmp_path / "x.nii.gz", np.zeros((2, 2, 2), np.int16))
    (tmp_path / "cases.csv").write_text("id,image\none,x.nii.gz\n")
    assert [case.id for case in find_dataset(tmp_path).cases] == ["one"]


def write_coco(root, n):
    (root / "annotations").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 4} for i in range(n)]
    content = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": []}
    (root / "annotations" / "instances.json").write_text(json.dumps(content))
    for i in range(n):
        (root / f"{i}.png").touch()


def write_voc(root, n):
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for i in range(n):
        (root / "JPEGImages" / f"{i}.jpg").touch()
        (root / "SegmentationClass" / f"{i}.png").touch()
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(map(str, range(n))))


def write_bids(root, n):
    for i in range(n):
        for folder, kind in ((root, "T1w"), (root / "derivatives", "dseg")):
            (folder / f"sub-{i}").mkdir(parents=True)
            (folder / f"sub-{i}" / f"sub-{i}_{kind}.nii.gz").touch()


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_coco, write_voc, write_bids])
def test_discovery_time_is_linear_in_the_number_of_cases(write, tmp_path, monkeypatch):
    seconds: dict[int, float] = {}
    for n in (150, 1200):
        write(tmp_path / str(n), n)
        times: list[float] = []
        for _ in range(3):
            start = time.process_time()
            assert len(find_dataset(tmp_path / str(n)).checked().cases) == n
            times.append(time.process_time() - start)
        seconds[n] = min(times)
    assert seconds[1200] < 25 * seconds[150] + 0.1  # 64 times as long where it is quadratic
