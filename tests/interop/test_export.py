"""Files for other runtimes give torch's logits, contain the header, and are complete or absent."""

import json

import pytest
import torch
from architectures import CONFIGS, build, each_in_usual_dims
from test_backends import Undecided, needs_onnx, needs_openvino
from test_ensemble import model

from medseg.cli.main import run
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.errors import ConfigError, ConversionError
from medseg.inference.model.model_file import LoadedModel, ModelHeader, save_model
from medseg.interop import export
from medseg.interop.export import OPSET, TOLERANCES, describe, export_model
from medseg.models import CustomModelConfig

KINDS = [
    pytest.param("onnx", "m.onnx", marks=needs_onnx),
    pytest.param("torch", "m.pt2"),
    pytest.param("openvino", "m.xml", marks=needs_openvino),
]
kinds = pytest.mark.parametrize(("target", "name"), KINDS)


def small(**changes):
    return model(1, roi_size=(32, 32, 32), **changes)


def check_onnx(path):
    import onnx

    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    header = {entry.key: entry.value for entry in proto.metadata_props}["medseg"]
    assert ModelHeader.model_validate_json(header) == small().header
    assert [i.name for i in proto.graph.input] == ["image"]
    assert [o.name for o in proto.graph.output] == ["logits"]
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == OPSET
    assert str(path.parent) not in str(proto)


def check_torch(path):
    files = {"medseg.json": ""}
    torch.export.load(path, extra_files=files)
    assert ModelHeader.model_validate_json(files["medseg.json"]) == small().header


def check_openvino(path):
    text = export.openvino_core().read_model(path).get_rt_info(["medseg"]).astype(str)
    assert ModelHeader.model_validate_json(text) == small().header


@pytest.mark.slow
@kinds
def test_a_file_agrees_with_torch_takes_other_sizes_and_holds_the_header(tmp_path, target, name):
    exported = export_model(small(), tmp_path / "out" / name, target)
    assert exported.free == "batch and size"
    assert exported.difference < TOLERANCES[target]
    files = {"m.xml", "m.bin"} if target == "openvino" else {name}
    assert {p.name for p in (tmp_path / "out").iterdir()} == files
    assert "32×32×32" in describe(exported)
    run_again = export.FORMATS[target].load(exported.path)
    with torch.no_grad():
        assert run_again(torch.zeros(2, 1, 16, 32, 64)).shape == (2, 3, 16, 32, 64)
    {"onnx": check_onnx, "torch": check_torch, "openvino": check_openvino}[target](exported.path)


@pytest.mark.slow
def test_slices_are_pictures_with_their_neighbors_as_channels(tmp_path):
    loaded = model(1, dims=2)
    header = loaded.header.model_copy(
        update={"preprocess": loaded.header.preprocess.model_copy(update={"slices": SliceConfig(neighbors=1)})}
    )
    header = header.model_copy(update={"inference": header.inference.model_copy(update={"roi_size": None})})
    network = header.model.build(header.task)
    sliced = LoadedModel(header, dict(network.state_dict()), "sliced")
    exported = export_model(sliced, tmp_path / "m.pt2", "torch")
    assert exported.size == (64, 64)
    assert header.task.in_channels == 3


def test_a_network_that_cannot_be_converted_raises_and_writes_nothing(tmp_path):
    loaded = model(1, dims=2, roi_size=(32, 32))
    header = loaded.header.model_copy(update={"model": CustomModelConfig(class_name="Undecided")})
    injected = LoadedModel(header, dict(Undecided().state_dict()), "mine")
    with pytest.raises(ConversionError, match=r"^Undecided cannot be converted for torch: .+") as caught:
        export_model(injected, tmp_path / "m.pt2", "torch", model=Undecided())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_other_logits_are_not_written(tmp_path, monkeypatch):
    (tmp_path / "m.pt2").write_text("before")
    monkeypatch.setitem(TOLERANCES, "torch", -1.0)
    with pytest.raises(ConversionError, match="differ from torch by"):
        export_model(small(), tmp_path / "m.pt2", "torch")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m.pt2", "before")]


def test_wrong_names_and_missing_packages(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"expected the suffix \.onnx for onnx"):
        export_model(small(), tmp_path / "m.pt2", "onnx")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnxscript, .*pip install '\.\[onnx\]'"):
        export_model(small(), tmp_path / "m.onnx", "onnx")


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    loaded = small()
    save_model(tmp_path / "model.safetensors", loaded.header, loaded.tensors)
    source, target = str(tmp_path / "model.safetensors"), str(tmp_path / "m.pt2")
    assert run(["export", source, "--to", "torch", "-o", target]) == 0
    assert "logits differ from torch by at most" in capsys.readouterr().out
    assert run(["export", source, "--to", "torch", "-o", target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["free"] == "batch and size"
    assert run(["export", source, "--to", "onnx", "-o", target]) == 2


# the others are free in batch and size; UNet++'s five levels pad a window as small as 32 by a rule of its own
BATCH_ALONE = {"fcn_vgg", "pspnet", "swin_unetr", "unet_valid", "unetpp", "unetr"}
NO_ONNX = {("pspnet", 3): "adaptive_avg_pool3d"}


SAMPLE = {("deeplabv1", 2), ("fcn_vgg", 2), ("segresnet", 3)}
"""What stands for the others, which take up to a minute each."""


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize(
    ("config", "spatial_dims"),
    list(each_in_usual_dims(costly={config.name for config in CONFIGS}, also=SAMPLE)),
)
def test_every_architecture_exports_to_onnx_or_names_the_reason(config, spatial_dims, tmp_path):
    header = small().header.model_copy(update={"spatial_dims": spatial_dims, "channels": 2, "model": config})
    window = header.inference.model_copy(update={"roi_size": (32,) * spatial_dims})
    header = header.model_copy(update={"inference": window})
    network = build(config, spatial_dims)
    loaded = LoadedModel(header, dict(network.state_dict()), "contract")
    reason = NO_ONNX.get((config.name, spatial_dims))
    if reason is not None:
        with pytest.raises(ConversionError, match=reason):
            export_model(loaded, tmp_path / "m.onnx", "onnx")
        return
    exported = export_model(loaded, tmp_path / "m.onnx", "onnx")
    assert exported.difference < TOLERANCES["onnx"]
    assert exported.free == ("batch" if config.name in BATCH_ALONE else "batch and size"), exported.why
