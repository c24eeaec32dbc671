"""3D Slicer's own client against a running server.

The client is taken from MONAI Label's wheel (``pip download --no-deps monailabel==0.8.5``), whose file or
folder ``MEDSEG_MONAILABEL_WHEEL`` names.
"""

import importlib.util
import os
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import ball_settings, write_balls
from running_server import running
from server_doubles import save_tiny

from medseg.config.schema import load_config, to_yaml
from medseg.data.io.readers import read_scan
from medseg.inference.model.predictor import Predictor

VARIABLE = "MEDSEG_MONAILABEL_WHEEL"
MEMBER = "plugins/slicer/MONAILabel/MONAILabelLib/client.py"


@pytest.fixture(scope="module")
def slicer(tmp_path_factory):
    place = Path(os.environ.get(VARIABLE) or "missing")
    wheels = sorted(place.glob("monailabel-*.whl")) if place.is_dir() else [place] if place.is_file() else []
    if not wheels:
        pytest.skip(
            f"MONAI Label's wheel is not here; {VARIABLE} names its folder (scripts/test --with-viewers)"
        )
    if sys.version_info >= (3, 13):
        pytest.skip("3D Slicer's client needs the module cgi, which Python 3.13 does not have")
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(MEMBER))
        path = tmp_path_factory.mktemp("slicer") / "client.py"
        path.write_bytes(wheel.read(name))
    spec = importlib.util.spec_from_file_location("slicer_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_call_of_3d_slicer(slicer, tmp_path):
    root = write_balls(tmp_path / "data", cases=4)
    for index in (2, 3):
        (root / "labels" / f"ball_{index}.nii.gz").unlink()
    model, run = save_tiny(tmp_path / "tiny.safetensors"), tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(load_config(ball_settings(root, epochs=500))))
    predictor = Predictor(model, device="cpu", backend="torch", amp="off")
    with running(root, model, str(run)) as server:
        client = slicer.MONAILabelClient(server.url, str(tmp_path), "ana")
        assert not client.auth_enabled()
        info = client.info()
        assert not info.get("config")
        assert info["datastore"]["completed"] == 2
        assert set(info["models"]) == {"tiny", "cubes"}
        assert set(client.datastore()["objects"]) == {f"ball_{index}" for index in range(4)}

        sample = client.next_sample("random", {})
        assert sample["id"] in ("ball_2", "ball_3")
        status, content, _, headers = slicer.MONAILabelUtils.http_method(
            "GET", server.url, f"/datastore/image?image={sample['id']}"
        )
        assert status == 200
        assert slicer.MONAILabelUtils.get_filename(headers["content-disposition"]) == sample["name"]
        image = tmp_path / sample["name"]
        image.write_bytes(content)

        file, parameters = client.infer(
            "tiny", sample["id"], {"result_extension": ".nrrd", "result_dtype": "uint8"}
        )
        expected = predictor.predict(image).label_map
        assert sitk.GetArrayFromImage(sitk.ReadImage(file)).transpose().tobytes() == expected.tobytes()
        assert set(parameters["label_names"].values()) == set(np.unique(expected).tolist()) - {0}

        clicks = {"label": "ball", "foreground": [[5, 6, 7]], "background": [[5, 6, 8]]}
        session = client.create_session(str(image))["session_id"]
        assert client.get_session(session)
        for id in (None, session):
            file, parameters = client.infer("cubes", sample["id"], dict(clicks), session_id=id)
            got = sitk.GetArrayFromImage(sitk.ReadImage(file)).transpose()
            assert (got[5, 6, 6], got[5, 6, 8], got.sum()) == (1, 0, 9)
            assert parameters["label_names"] == {"ball": 1}
        client.remove_session(session)
        with pytest.raises(slicer.MONAILabelClientException):
            client.get_session(session)

        label = tmp_path / "label.nrrd"
        values = np.zeros(expected.shape, np.uint8)
        values[5:9, 5:9, 5:9] = 1
        volume = sitk.GetImageFromArray(values.transpose())
        volume.CopyInformation(sitk.ReadImage(str(image)))
        sitk.WriteImage(volume, str(label), True)
        saved = client.save_label(sample["id"], str(label), params={"label_info": [{"name": "core", "idx": 1}]})
        assert saved["version"] == 1
        written = root / "labels" / f"{sample['id']}.nii.gz"
        assert np.array_equal(read_scan(written).array[0], 2 * values)
        assert Path(client.download_label(sample["id"], "final")).read_bytes() == written.read_bytes()
        assert client.upload_image(str(image), "sent by ana")["image"] == "sent by ana"

        assert not client.train_status(check_if_running=True)
        assert client.train_start("tiny", {})["status"] == "RUNNING"
        assert client.train_status(check_if_running=True)
        end = time.monotonic() + 120
        while not client.info()["train_stats"]["tiny"]["epoch"] and time.monotonic() < end:
            time.sleep(0.2)
        assert client.train_status()["status"] == "RUNNING"
        assert client.train_stop()["status"] == "STOPPED"
        assert not client.train_status(check_if_running=True)
