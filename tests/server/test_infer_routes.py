"""``/infer/``: label maps of automatic models and of models that answer points."""

import email.parser
import email.policy
import json

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import write_volume
from server_doubles import SHAPE, TILTED, client_of, make_app, small_models, write_dataset

from medseg.data.io.readers import read_scan


@pytest.fixture
def served(tmp_path):
    root = write_dataset(tmp_path / "data", labeled=1, unlabeled=1)
    models = small_models(tmp_path)
    with client_of(make_app(root, models)) as client:
        yield client, root, models


def infer(client, model, image="scan_0", params=None, files=None, **query):
    data = {"params": json.dumps(params or {})}
    return client.post(
        f"/infer/{model}", params={"image": image, **query}, data=data, files=files or {"x": b""}
    )


def parts_of(reply):
    """The form in a reply, as 3D Slicer reads it."""
    head = f"content-type: {reply.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + reply.content)
    return {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}


def volume_of(content, tmp_path):
    path = tmp_path / "reply.nrrd"
    path.write_bytes(content)
    return read_scan(path)


def test_the_reply_holds_the_result_of_the_predictor_on_the_grid_of_the_image(served, tmp_path):
    client, root, models = served
    reply = infer(client, "tiny", params={"result_extension": ".nrrd", "result_dtype": "uint8"})
    assert reply.status_code == 200
    assert int(reply.headers["content-length"]) == len(reply.content)
    parts = parts_of(reply)
    assert parts["params"].get_filename() is None
    assert parts["image"].get_filename() == "label.nrrd"
    expected = models[0].predictor.predict(root / "images" / "scan_0.nii.gz").label_map
    got = volume_of(parts["image"].get_content(), tmp_path)
    assert got.array[0].tobytes() == expected.tobytes()
    assert got.grid.affine == pytest.approx(TILTED)
    names = json.loads(parts["params"].get_content())["label_names"]
    present = set(np.unique(expected).tolist()) - {0}
    assert names == {name: value for name, value in {"ball": 1, "core": 2}.items() if value in present}


def test_points_are_voxels_of_the_file_and_only_new_ones_are_computed(served, tmp_path):
    client, _, models = served
    infer(client, "cubes", params={"foreground": [[2, 3, 4]], "background": [], "label": "ball"})
    reply = infer(
        client, "cubes", params={"foreground": [[2, 3, 4]], "background": [[2, 3, 5]], "label": "ball"}
    )
    got = volume_of(parts_of(reply)["image"].get_content(), tmp_path).array[0]
    assert got[2, 3, 3] == 1
    assert got[2, 3, 4] == 0
    assert got.sum() == 27 - 18
    session = models[1].promptable.opened[0]
    assert (len(models[1].promptable.opened), session.calls) == (1, 2)


def test_ohif_gets_raw_slices_that_ascend(served, tmp_path):
    client, root, _ = served
    # in LPS x runs left, y to the back: left x back = up, but the slices go down
    down = np.diag([-1.0, -1.0, -2.0, 1.0])
    write_volume(root / "images" / "down.nii.gz", np.zeros(SHAPE, np.int16), down)
    params = {"foreground": [[2, 3, 0]], "background": [], "label": "ball", "result_compress": False}
    client.app.state.server.datastore._list.refresh()
    reply = infer(client, "cubes", image="down", params=params, output="image")
    header, _, data = reply.content.partition(b"\n\n")
    assert b"encoding: raw" in header
    assert b"type: unsigned char" in header
    viewer = np.frombuffer(data, np.uint8).reshape(SHAPE, order="F")
    assert viewer[2, 3, 0] == 1
    assert viewer[:, :, 2:].sum() == 0
    assert parts_of(infer(client, "cubes", image="down", params=params))["image"] is not None
    again = infer(client, "cubes", image="down", params=params | {"label": "other"})
    file = volume_of(parts_of(again)["image"].get_content(), tmp_path)
    assert file.array[0, 2, 3, 0] == 1  # 3D Slicer keeps the order of the file


def test_a_request_can_bring_its_own_image_or_use_a_session(served, tmp_path):
    client, root, models = served
    file = (root / "images" / "scan_1.nii.gz").read_bytes()
    expected = models[0].predictor.predict(root / "images" / "scan_1.nii.gz").label_map
    direct = infer(client, "tiny", image="", files={"file": ("/home/ana/Doe^Jane.nii.gz", file)})
    made = client.put("/session/", files={"files": ("x.nii.gz", file)}, data={"client_id": "ana"}).json()
    by_session = infer(client, "tiny", image="whatever", session_id=made["session_id"])
    for reply in (direct, by_session):
        assert np.array_equal(volume_of(parts_of(reply)["image"].get_content(), tmp_path).array[0], expected)
    assert client.get(f"/session/{made['session_id']}").status_code == 200
    assert client.delete(f"/session/{made['session_id']}").status_code == 200
    assert client.get(f"/session/{made['session_id']}").status_code == 404
    assert list((client.app.state.server.temporary / "requests").iterdir()) == []


@pytest.mark.parametrize(
    "image", ["../../etc/passwd", "/etc/passwd", "scan_9", "images/scan_0", "..", "scan_0.nii.gz"]
)
def test_images_are_ids_never_paths(served, image):
    assert infer(served[0], "tiny", image=image).status_code == 404


def test_unknown_models_and_points_outside_are_refused(served):
    client = served[0]
    assert infer(client, "other").status_code == 404
    assert infer(client, "cubes").status_code == 400
    assert infer(client, "cubes", params={"foreground": [[2, 3, 40]]}).status_code == 400
    assert infer(client, "cubes", params={"foreground": "x"}).status_code == 400
    assert infer(client, "cubes", params={"foreground": [[1e400, 0, 0]]}).status_code == 400


def test_nrrd_can_be_read_by_others(served, tmp_path):
    reply = infer(served[0], "tiny", params={"result_extension": ".nii.gz"})
    parts = parts_of(reply)
    assert parts["image"].get_filename() == "label.nii.gz"
    path = tmp_path / "a.nii.gz"
    path.write_bytes(parts["image"].get_content())
    assert sitk.ReadImage(str(path)).GetSize() == SHAPE
