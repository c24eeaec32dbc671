import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ModelFileError
from medseg.inference.model.model_file import ModelHeader, digest_of, find_model_file, load_model, save_model
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig


def header(**changes):
    facts = {
        "spatial_dims": 3,
        "channels": 1,
        "labels": LabelSchema(names={"background": (0,), "liver": (6,)}),
        "preprocess": PreprocessConfig(spacing=(1.0, 1.0, 2.5)),
        "inference": InferenceConfig(roi_size=(32, 32, 32)),
        "model": UNetConfig(channels=(4, 8)),
        "training": {"seed": 3},
    }
    return ModelHeader(**(facts | changes))


TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def test_a_saved_model_is_loaded_unchanged(tmp_path):
    digest = save_model(tmp_path / "m.safetensors", header(), TENSORS)
    loaded, tensors, found = load_model(tmp_path / "m.safetensors")
    assert loaded == header()
    assert found == digest
    assert all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)
    assert list(loaded.labels.names) == ["background", "liver"]
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == 0o644


def test_one_changed_byte_of_a_weight_is_detected(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, header(), TENSORS)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="SHA-256 does not match"):
        load_model(path)


def test_a_changed_header_is_detected(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, header(), TENSORS)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"liver", b"tumor"))
    with pytest.raises(ModelFileError, match="SHA-256 does not match"):
        load_model(path)


def test_swapped_names_of_equal_tensors_are_detected(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, header(), {"w1": torch.zeros(3), "w2": torch.ones(3)})
    path.write_bytes(path.read_bytes().replace(b'"w1"', b'"w3"'))
    with pytest.raises(ModelFileError, match="SHA-256"):
        load_model(path)


@pytest.mark.parametrize("keep", [0, 4, 60, -5])
def test_a_truncated_file_is_rejected(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    save_model(path, header(), TENSORS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="truncated or not a safetensors file"):
        load_model(path)


def test_a_foreign_safetensors_file_is_rejected(tmp_path):
    save_file(TENSORS, tmp_path / "m.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="without the header that medseg writes"):
        load_model(tmp_path / "m.safetensors")


def test_a_pickle_is_rejected_without_reading_it(tmp_path):
    torch.save({"x": 1}, tmp_path / "m.pt")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        load_model(tmp_path / "m.pt")


def test_a_newer_format_is_rejected(tmp_path):
    save_model(tmp_path / "m.safetensors", header(format_version=99), TENSORS)
    with pytest.raises(ModelFileError, match="Update medseg"):
        load_model(tmp_path / "m.safetensors")


def test_files_of_version_1_are_read_under_the_new_names(tmp_path):
    path = tmp_path / "m.safetensors"
    now = header(labels=LabelSchema(names={"background": (0,), "liver": (6,)}, colors={"liver": (255, 0, 0)}))
    save_model(path, now, TENSORS)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    text = metadata["medseg"].replace('"normalize":', '"normalise":').replace('"colors":', '"colours":')
    text = text.replace('"format_version":2', '"format_version":1').replace('"terminology":', '"codes":')
    text = text.replace('"label_reader":{', '"targets":{"foreground":null,"background":[0],')
    assert (text.count("normalise"), text.count("colours"), text.count('"format_version":1')) == (1, 2, 1)
    save_file(TENSORS, path, {"medseg": text, "sha256": digest_of(text, TENSORS)})
    assert load_model(path)[0] == now


def test_missing_files_and_unfinished_runs_have_different_messages(tmp_path):
    with pytest.raises(ModelFileError, match="no such model file"):
        load_model(tmp_path / "nothing.safetensors")
    with pytest.raises(ModelFileError, match="not a run folder"):
        find_model_file(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelFileError, match="has not finished"):
        find_model_file(tmp_path)


def test_the_header_can_be_read_without_medseg(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, header(), TENSORS)
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    text = json.loads(raw[8 : 8 + length])["__metadata__"]["medseg"]
    assert json.loads(text)["labels"]["names"] == {"background": [0], "liver": [6]}
