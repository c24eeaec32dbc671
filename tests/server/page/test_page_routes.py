"""What the page requests: images, labels with versions, drafts, proposals, sessions."""

import base64
import json
import os
import zlib

import numpy as np
import pytest
from conftest import write_picture, write_volume
from server_doubles import SHAPE, TILTED, client_of, make_app, small_models, write_dataset

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.server.datastore.names import LabelNames
from medseg.server.errors import RefusedError
from medseg.server.page.desk import dataset_values
from medseg.server.page.images import PageImage
from medseg.server.page.routes import pack, unpack

API = "/annotate/api/"


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "data", labeled=1, unlabeled=2)


@pytest.fixture
def client(root, tmp_path):
    with client_of(make_app(root, small_models(tmp_path), labels=("ball", "core"))) as one:
        yield one


def put(client, label, base, accepted, case="scan_1", **headers):
    query = {"base": base, "accepted": int(accepted), "author": "ana"}
    return client.put(f"{API}cases/{case}/label", params=query, content=pack(label), headers=headers)


def test_the_page_is_strict_and_its_files_are_fixed(client):
    page = client.get("/annotate/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/").url.path == "/annotate/"
    assert client.get("/annotate/static/main.js").headers["content-type"].startswith("text/javascript")
    for name in ("..%2F..%2Frun.py", "%2e%2e/desk.py", "none.js"):
        assert client.get(f"/annotate/static/{name}").status_code == 404


def test_voxels_travel_with_x_fastest(client, root):
    meta = client.get(f"{API}cases/scan_1").json()
    assert meta["shape"] == [12, 14, 10]
    assert meta["spacing"] == [1, 1.5, 2]
    image = np.frombuffer(client.get(f"{API}cases/scan_1/image?channel=0").content, "<i2")
    voxels = read_scan(root / "images" / "scan_1.nii.gz").array[0][
        ::-1, ::-1
    ]  # TILTED runs to the left and back
    np.testing.assert_array_equal(image.reshape(meta["shape"], order="F"), voxels)
    plane = np.frombuffer(client.get(f"{API}cases/scan_1/image?channel=0&axis=1&index=3").content, "<i2")
    np.testing.assert_array_equal(plane.reshape((12, 10), order="F"), voxels[:, 3])
    assert client.get(f"{API}cases/scan_1/image?channel=1").status_code == 404
    assert client.get(f"{API}cases/scan_1/image?channel=0&axis=1&index=14").status_code == 404
    assert client.get(f"{API}cases/scan_1/image?channel=x").status_code == 400


def test_a_draft_is_kept_apart_and_an_accepted_label_is_in_the_dataset(client, root):
    label = np.zeros(SHAPE, np.uint8)
    label[1, 2, 3] = 2
    assert client.get(f"{API}cases/scan_1/label").status_code == 204
    draft = put(client, label, "", accepted=False).json()
    assert draft["state"] == "draft"
    assert not (root / "labels" / "scan_1.nii.gz").exists()
    assert {one["id"]: one["state"] for one in client.get(f"{API}cases").json()["cases"]} == {
        "scan_0": "accepted", "scan_1": "draft", "scan_2": "open",
    }  # fmt: skip
    saved = put(client, label, draft["version"], accepted=True).json()
    assert saved["state"] == "accepted"
    stored = read_scan(root / "labels" / "scan_1.nii.gz")
    np.testing.assert_allclose(stored.grid.affine, TILTED)
    assert np.argwhere(stored.array[0]).tolist() == [[12 - 1 - 1, 14 - 1 - 2, 3]]
    got = client.get(f"{API}cases/scan_1/label")
    assert got.headers["x-label-version"] == saved["version"]
    assert got.headers["x-label-type"] == "uint8"
    np.testing.assert_array_equal(unpack(got.content, SHAPE, np.dtype(np.uint8)), label)


def test_a_draft_is_shown_until_another_label_is_accepted(client, root):
    accepted = client.get(f"{API}cases/scan_0/label")
    label = unpack(accepted.content, SHAPE, np.dtype(np.uint8))
    draft = put(client, label + 1, accepted.headers["x-label-version"], accepted=False, case="scan_0").json()
    os.utime(root / "labels" / "scan_0.nii.gz")  # copied, for example: the label is the same
    assert client.get(f"{API}cases/scan_0/label").headers["x-label-version"] == draft["version"]
    again = put(client, label, draft["version"], accepted=True, case="scan_0").json()  # as before the draft
    assert client.get(f"{API}cases/scan_0/label").headers["x-label-version"] == again["version"]


def test_a_label_of_another_version_is_refused(client):
    label = np.ones(SHAPE, np.uint8)
    first = put(client, label, "", accepted=True)
    assert first.status_code == 200
    assert put(client, label, "", accepted=True).status_code == 412
    assert put(client, label, "", accepted=False).status_code == 412
    assert put(client, label, first.json()["version"], accepted=False).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"no gzip", pack(np.ones((2, 2, 2), np.uint8)), pack(np.ones((99,) * 3)), bytes(1 << 17)]
)
def test_damaged_labels_are_refused(client, body):
    assert client.put(f"{API}cases/scan_1/label", params={"accepted": 1}, content=body).status_code == 400
    assert client.get(f"{API}cases/scan_1/label").status_code == 204


def test_values_without_a_class_are_refused(client):
    first = put(client, np.ones(SHAPE, np.uint8), "", accepted=True)  # declares the classes
    refused = put(client, np.full(SHAPE, 9, np.uint8), first.json()["version"], accepted=True)
    assert refused.status_code == 422


def test_a_proposal_has_the_values_of_the_dataset(client, root):
    info = client.get(f"{API}info").json()
    assert [(one["name"], one["kind"]) for one in info["models"]] == [
        ("tiny", "automatic"),
        ("cubes", "prompts"),
    ]
    proposal = client.post(f"{API}cases/scan_1/proposal?model=tiny")
    assert set(np.unique(unpack(proposal.content, SHAPE, np.dtype(np.uint8)))) <= {0, 1, 2}
    assert client.post(f"{API}cases/scan_1/proposal?model=cubes").status_code == 400
    assert client.post(f"{API}cases/scan_1/proposal?model=none").status_code == 404


def test_prompts_answer_with_a_cropped_mask(client):
    first = np.zeros(SHAPE, np.uint8)
    first[0, 0, 0] = 1
    content = {
        "case": "scan_1",
        "model": "cubes",
        "axis": 2,
        "index": 3,
        "mask": base64.b64encode(pack(first)).decode(),
    }
    session = client.post(f"{API}sessions", json=content).json()["session"]
    prompt = {"kind": "point", "position": [5, 6, 3], "positive": True, "axis": 2, "index": 3}
    reply = client.post(f"{API}sessions/{session}/prompts", json=prompt)
    assert json.loads(reply.headers["x-mask-box"]) == [[0, 0, 0], [7, 8, 5]]  # a cube around (5, 6, 3)
    mask = np.frombuffer(zlib.decompress(reply.content, 31), np.uint8).reshape((7, 8, 5), order="F")
    assert mask.sum() == 28
    assert mask[4:7, 5:8, 2:5].all()
    undone = client.post(f"{API}sessions/{session}/undo", json={})
    assert json.loads(undone.headers["x-mask-box"]) == [[0, 0, 0], [1, 1, 1]]
    assert client.delete(f"{API}sessions/{session}").status_code == 204
    assert client.post(f"{API}sessions/{session}/prompts", json=prompt).status_code == 404


@pytest.mark.parametrize(
    "prompt",
    [
        {}, {"kind": "point"}, {"kind": "point", "position": [1, 2]},
        {"kind": "point", "position": [1, 2, "x"]},
        {"kind": "point", "position": [1, 2, 1e9]}, {"kind": "point", "position": [1, 2, 99]},
        {"kind": "box", "lower": [3, 3, 3], "upper": [3, 4, 4]}, {"kind": "scribble", "voxels": []},
        {"kind": "lasso", "vertices": [[1, 2]], "axis": 5, "index": 1},
        {"kind": "point", "position": [1, 2, 3], "positive": 3},
    ],
)  # fmt: skip
def test_what_is_no_prompt_is_refused(client, prompt):
    content = {"case": "scan_1", "model": "cubes", "axis": 2, "index": 3}
    session = client.post(f"{API}sessions", json=content).json()["session"]
    assert client.post(f"{API}sessions/{session}/prompts", json=prompt).status_code == 400


def test_the_next_case_has_no_label_and_is_another_one(client):
    first = client.post(f"{API}next?strategy=random").json()["case"]
    other = client.post(f"{API}next?strategy=random&after={first}").json()["case"]
    assert {first, other} == {"scan_1", "scan_2"}


def label_names(folder, names):
    return LabelNames(folder, lambda: LabelSchema(names=names), set)


def test_values_of_a_model_follow_the_names_of_labels(tmp_path):
    predicted = LabelSchema(names={"background": (0,), "core": (1,), "ball": (2,)})
    declared = label_names(tmp_path, {"background": (0,), "ball": (10,), "core": (300,)})
    assert dataset_values(np.array([0, 1, 2]), predicted, declared).tolist() == [0, 300, 10]
    one = label_names(tmp_path, {"background": (0,), "ball": (10,)})
    with pytest.raises(RefusedError, match="core"):
        dataset_values(np.array([0, 1, 2]), predicted, one)
    assert dataset_values(np.array([0, 2]), predicted, one).tolist() == [0, 10]
    single = LabelSchema(names={"background": (0,), "object": (1,)})
    assert dataset_values(np.array([0, 1]), single, one).tolist() == [0, 10]


def test_images_are_sent_exactly_or_with_a_scale(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[1, 2] = (10, 20, 30)
    color = PageImage.of(read_scan(write_picture(tmp_path / "a.png", pixels)))
    assert color.color
    sent = np.frombuffer(color.voxels(0), np.uint8).reshape(4, 6, 3)  # rows of the picture, colors together
    np.testing.assert_array_equal(sent, pixels)
    values = np.linspace(-3, 7, 24, dtype=np.float32).reshape(2, 3, 4)
    image = PageImage.of(read_scan(write_volume(tmp_path / "a.nii.gz", values)))
    slope, start = image.scales[0]
    stored = np.frombuffer(image.voxels(0), "<u2").reshape((2, 3, 4), order="F")
    np.testing.assert_allclose(slope * stored + start, values, atol=1e-4)
    assert image.describe()["scales"][0]["dtype"] == "uint16"
