"""``/datastore/``: images and labels over HTTP."""

import errno
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import write_picture
from server_doubles import SHAPE, TILTED, client_of, make_app, small_models, write_dataset

from medseg.data.io.readers import read_scan
from medseg.server.options import Limits


@pytest.fixture
def served(tmp_path):
    root = write_dataset(tmp_path / "data", labeled=1, unlabeled=2)
    with client_of(make_app(root, small_models(tmp_path))) as client:
        yield client, root


def nrrd(values, tmp_path, affine=TILTED):
    """A label map as 3D Slicer saves it."""
    image = sitk.GetImageFromArray(values.T)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    path = tmp_path / "sent.nrrd"
    sitk.WriteImage(image, str(path), True)
    return path.read_bytes()


def cube(value=1):
    values = np.zeros(SHAPE, np.uint8)
    values[2:5, 2:5, 2:5] = value
    return values


def put(client, content, image="scan_1", params=None, headers=None, name="label.nrrd", tag=""):
    return client.put(
        "/datastore/label", params={"image": image, "tag": tag}, data={"params": json.dumps(params or {})},
        files={"label": (name, content)}, headers=headers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EROFS, "cannot write to its folder"), (errno.ENOSPC, "disk is full")]
)
def test_a_folder_that_cannot_be_written_any_more_is_said(served, tmp_path, monkeypatch, number, said):
    client, root = served
    write_bytes, mkdir = nrrd(cube(), tmp_path), Path.mkdir

    def refuse(path, *arguments, **options):
        if root in path.parents:
            raise OSError(number, "Read-only file system", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("medseg.server.datastore.cases.shutil.copyfile", lambda _, to: refuse(to))
    reply = put(client, write_bytes)
    assert (reply.status_code, said in reply.json()["detail"]) == (507, True)
    scan = (root / "images" / "scan_1.nii.gz").read_bytes()
    reply = client.put("/datastore/", params={"image": "new"}, files={"file": ("new.nii.gz", scan)})
    assert (reply.status_code, said in reply.json()["detail"]) == (507, True)
    assert str(root) not in reply.text
    assert not (root / "labels" / "scan_1.nii.gz").exists()


def test_lists_as_clients_read_them(served):
    client, _ = served
    listed = client.get("/datastore/?output=all").json()["objects"]
    assert list(listed) == ["scan_0", "scan_1", "scan_2"]
    assert list(listed["scan_0"]["labels"]) == ["final"]
    assert client.get("/datastore/").json() == {"total": 3, "completed": 1, "label_tags": {"final": 1}}
    info = client.get("/info/").json()
    assert info["datastore"] == {"total": 3, "completed": 1, "label_tags": {"final": 1}}
    assert info["labels"] == ["ball", "core"]
    assert info["models"]["tiny"]["labels"] == {"ball": 1, "core": 2}
    assert (info["models"]["tiny"]["type"], info["models"]["cubes"]["type"]) == ("segmentation", "deepgrow")
    assert not info.get("config")
    assert client.get("/auth/").json() == {"enabled": False}


def test_images_are_sent_as_they_are(served):
    client, root = served
    reply = client.get("/datastore/image?image=scan_2")
    assert reply.content == (root / "images" / "scan_2.nii.gz").read_bytes()
    assert reply.headers["content-disposition"] == 'attachment; filename="scan_2.nii.gz"'
    digest = hashlib.sha256(reply.content).hexdigest()
    assert client.head(
        "/datastore/image", params={"image": "scan_2", "check_sum": f"SHA256:{digest}"}
    ).is_success
    assert (
        client.head("/datastore/image", params={"image": "scan_2", "check_sum": "SHA256:0"}).status_code == 404
    )
    assert client.get("/datastore/image/info?image=scan_2").json()["shape"] == list(SHAPE)


def test_slicers_labels_get_the_values_of_their_names(served, tmp_path):
    client, root = served
    values = cube(1) + np.roll(cube(2), 5, axis=0)  # segments 1 and 2 of 3D Slicer
    info = [{"name": "core", "idx": 1}, {"name": "cyst", "idx": 2}]
    reply = put(client, nrrd(values, tmp_path), params={"label_info": info, "client_id": "ana"})
    assert reply.status_code == 200, reply.text
    saved = read_scan(root / "labels" / "scan_1.nii.gz")
    assert np.array_equal(saved.array[0], cube(2) + np.roll(cube(3), 5, axis=0))
    assert saved.grid.affine == pytest.approx(TILTED)
    assert client.get("/info/").json()["labels"] == ["ball", "core", "cyst"]
    record = client.get("/datastore/label/info?label=scan_1&tag=final").json()
    assert (record["author"], record["version"]) == ("ana", 1)
    assert record["params"]["label_names"] == {"ball": 1, "core": 2, "cyst": 3}


def test_a_label_in_another_axis_order_is_turned_onto_the_grid(served, tmp_path):
    client, root = served
    flipped = TILTED @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    reply = put(client, nrrd(cube()[::-1], tmp_path, flipped))
    assert reply.status_code == 200, reply.text
    assert np.array_equal(read_scan(root / "labels" / "scan_1.nii.gz").array[0], cube())


def test_the_models_that_a_client_saw_are_recorded(served, tmp_path):
    client, _ = served
    client.post("/infer/tiny?image=scan_1", data={"params": '{"client_id": "ana"}'}, files={"x": b""})
    put(client, nrrd(cube(), tmp_path), params={"client_id": "ana"})
    put(client, nrrd(cube(), tmp_path), image="scan_2", params={"client_id": "ana"})
    digest = client.app.state.server.models.get("tiny").digest
    models = [
        client.get(f"/datastore/label/info?label={id}&tag=final").json()["models"]
        for id in ("scan_1", "scan_2")
    ]
    assert models == [{"tiny": digest}, {}]


def test_conditions_protect_the_label_of_another_client(served, tmp_path):
    client, _ = served
    content = nrrd(cube(), tmp_path)
    first = client.get("/datastore/label?label=scan_0&tag=final")
    again = put(client, content, "scan_0", headers={"if-match": first.headers["etag"]})
    assert again.status_code == 200
    assert again.headers["etag"] != first.headers["etag"]
    assert put(client, content, "scan_0", headers={"if-match": first.headers["etag"]}).status_code == 412
    assert put(client, content, "scan_1", headers={"if-none-match": "*"}).status_code == 200
    assert put(client, content, "scan_1", headers={"if-none-match": "*"}).status_code == 412
    assert put(client, content, "scan_2", headers={"if-match": "*"}).status_code == 412
    versions = client.get("/datastore/label/versions?label=scan_0").json()
    assert [version["version"] for version in versions] == [1, 2]
    old = client.get("/datastore/label?label=scan_0&version=1")
    assert old.content == first.content


@pytest.mark.parametrize(
    "header", [b"data file: /etc/passwd\n", b"datafile: ../images/scan_0.nii.gz\n", b"DATA  FILE:LIST\n/x\n"]
)
def test_headers_that_name_files_of_the_server_are_refused(served, tmp_path, header):
    client, root = served
    head = (
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 12 14 10\nencoding: raw\nendian: little\n"
        + header
        + b"\n"
    )
    assert put(client, head).status_code == 400
    mha = (
        b"ObjectType = Image\nNDims = 3\nDimSize = 12 14 10\nElementType = MET_UCHAR\nElementDataFile = /x/y\n"
    )
    assert put(client, mha, name="x.mha").status_code == 400
    assert not (root / "labels" / "scan_1.nii.gz").exists()


def test_a_header_that_declares_too_much_is_refused_before_voxels_are_read(served, tmp_path):
    client = served[0]
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    assert put(client, header.binaryblock + b"\0" * 4, name="x.nii").status_code == 422
    assert put(client, nrrd(cube()[:-1], tmp_path)).status_code == 422
    moved = TILTED.copy()
    moved[0, 3] += 1.7  # mm
    reply = put(client, nrrd(cube(), tmp_path, moved))
    assert reply.status_code == 422
    assert "1.7 mm" in reply.json()["detail"]


def test_deleting_keeps_the_versions(served, tmp_path):
    client, root = served
    assert client.delete("/datastore/label?id=scan_0&tag=final").status_code == 200
    assert client.get("/datastore/label?label=scan_0").status_code == 404
    assert not (root / "labels" / "scan_0.nii.gz").exists()
    assert [one["sha256"] != "" for one in client.get("/datastore/label/versions?label=scan_0").json()] == [
        True,
        False,
    ]


def test_an_image_can_be_added_under_free_text(served, tmp_path):
    client, root = served
    content = (root / "images" / "scan_0.nii.gz").read_bytes()
    reply = client.put("/datastore/?image=CT+Chest+7", files={"file": ("/tmp/tmpx.nii.gz", content)})
    assert reply.json() == {"image": "CT Chest 7"}
    assert put(client, nrrd(cube(), tmp_path), image="CT Chest 7").status_code == 200
    assert (root / "labels" / "CT Chest 7.nii.gz").is_file()
    assert client.put("/datastore/?image=x", files={"file": ("a.py", b"import os")}).status_code == 400


def test_a_volume_for_a_picture_must_lie_as_viewers_get_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    write_picture(tmp_path / "images" / "a.png", pixels)
    label = np.zeros((20, 30), np.uint8)
    label[2:5, 7:20] = 1
    volume = label.T[..., None]
    with client_of(make_app(tmp_path)) as client:
        for affine, accepted in (
            (np.diag([-1.0, -1, 1, 1]), True),
            (np.diag([1.0, 1, 1, 1]), False),
            (np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), False),
        ):
            reply = put(client, nrrd(volume, tmp_path, affine), image="a")
            assert (reply.status_code == 200) == accepted, reply.text
        assert np.array_equal(read_scan(tmp_path / "labels" / "a.png").array[0], label)


def test_images_that_take_too_much_memory_are_refused_before_they_are_decoded(tmp_path):
    root = write_dataset(tmp_path / "data")
    large = nib.Nifti1Image(np.zeros((200, 200, 200), np.uint8), np.eye(4))
    nib.save(large, tmp_path / "large.nii.gz")
    content = (tmp_path / "large.nii.gz").read_bytes()
    small = (root / "images" / "scan_0.nii.gz").read_bytes()
    limits = Limits(sent_bytes=2 * 8 * 12 * 14 * 10)
    with client_of(make_app(root, small_models(tmp_path), limits=limits)) as client:
        assert client.put("/session/", files={"files": ("a.nii.gz", content)}).status_code == 400
        ids = [client.put("/session/", files={"files": ("a.nii.gz", small)}).json()["session_id"] for _ in "ab"]
        assert client.put("/session/", files={"files": ("a.nii.gz", small)}).status_code == 503
        client.delete(f"/session/{ids[0]}")
        sent = {"files": {"file": ("a.nii.gz", small)}, "data": {"params": "{}"}}
        assert client.post("/infer/tiny", **sent).status_code == 200
        assert client.put("/session/", files={"files": ("a.nii.gz", small)}).status_code == 200
        assert client.post("/infer/tiny", **sent).status_code == 503


def test_numbers_in_other_digits_are_refused(served):
    client = served[0]
    assert client.get("/datastore/label?label=scan_0&version=²").status_code == 400
    assert client.get("/logs/?lines=²").status_code == 400
    assert client.put("/session/?expiry=²", files={"files": ("a.nii", b"")}).status_code == 400
