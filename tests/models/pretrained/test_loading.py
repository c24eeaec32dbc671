"""Published weights: read safely, placed strictly, adapted, frozen, and used by name."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ball_settings, write_picture
from safetensors.torch import save_file

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.data.io.readers import read_scan
from medseg.errors import ConfigError, ModelFileError
from medseg.inference.model.model_file import load_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.published_models import published_model
from medseg.models import DeepLabV3Config, FCNConfig
from medseg.models.backbones import ResNetConfig
from medseg.models.pretrained.key_mapping import KEY_TABLES
from medseg.models.pretrained.loading import WeightsConfig, load_pretrained, parameter_groups, read_state
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS
from medseg.task import Task
from medseg.training.fit import fit

SMALL = ResNetConfig(depth=18, width=0.125)


def network(dims=2, channels=3, classes=4, **options):
    return FCNConfig(backbone=SMALL, **options).build(Task(dims, channels, classes))


def named(tmp_path, state, stem="net"):
    """A file of weights whose name says its hash."""
    torch.save(state, tmp_path / "x.pth")
    digest = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()[:8]
    return (tmp_path / "x.pth").rename(tmp_path / f"{stem}-{digest}.pth")


def test_the_same_network_takes_everything(tmp_path):
    source, target = network(), network()
    report = load_pretrained(target, read_state(named(tmp_path, source.state_dict())))
    assert (report.new, report.dropped, report.reshaped) == ((), (), ())
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(source.eval()(image), target.eval()(image))


def test_other_classes_leave_the_heads_new():
    target = network(classes=7)
    report = load_pretrained(target, network().state_dict())
    assert set(report.new) == {
        k for k in target.state_dict() if k.split(".")[-2:] in (["4", "weight"], ["4", "bias"])
    }
    assert "new (" in report.describe()


def test_gray_images_give_what_their_color_copies_gave():
    source, target = network(), network(channels=1)
    report = load_pretrained(target, source.state_dict())
    assert report.reshaped == ("backbone.conv1.weight",)
    gray = torch.randn(1, 1, 32, 32)
    expected = source.eval()(gray.expand(1, 3, 32, 32))
    torch.testing.assert_close(target.eval()(gray), expected, atol=1e-4, rtol=1e-4)


def test_two_dimensions_become_three():
    source, target = network(), network(dims=3)
    load_pretrained(target, source.state_dict())
    image = torch.randn(1, 3, 32, 32)
    volume = target.eval()(image[..., None].expand(1, 3, 32, 32, 8))
    torch.testing.assert_close(volume[..., 3], source.eval()(image), atol=1e-4, rtol=1e-4)


def test_a_backbone_alone_goes_into_the_backbone():
    source, target = network(), network(classes=9)
    state = {
        k.removeprefix("backbone."): v for k, v in source.state_dict().items() if k.startswith("backbone.")
    }
    state |= {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}
    report = load_pretrained(target, state)
    assert report.table == "torchvision_resnet"
    assert report.dropped == ("fc.weight", "fc.bias")
    assert all(not key.startswith("backbone.") for key in report.new)
    assert torch.equal(target.backbone.layer1[0].conv1.weight, source.backbone.layer1[0].conv1.weight)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ModelFileError, match="fit this network with none of the tables"):
        load_pretrained(network(), {"encoder.weird": torch.zeros(3)})
    wide = FCNConfig(backbone=ResNetConfig(depth=18, width=0.25)).build(Task(2, 3, 4))
    with pytest.raises(ModelFileError, match="Build the network with the settings"):
        load_pretrained(network(), wide.state_dict())
    with pytest.raises(ModelFileError, match=r"keys of .* do not exist in the network"):
        load_pretrained(
            network(),
            network().state_dict() | {"backbone.layer9.x": torch.zeros(1)},
            keys="torchvision_segmentation",
        )


def test_files_that_cannot_be_weights(tmp_path):
    with pytest.raises(ModelFileError, match="no such file of weights"):
        read_state(tmp_path / "none.pth")
    whole = named(tmp_path, network().state_dict())
    damaged = tmp_path / whole.name.replace("net", "cut")
    damaged.write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "text.pth").write_text("these are no weights\n")
    with pytest.raises(ModelFileError, match=r"text\.pth: not a file of weights"):
        read_state(tmp_path / "text.pth")
    with pytest.raises(ModelFileError, match="its SHA-256 begins with"):
        read_state(damaged)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(
        ModelFileError, match=r"truncated, damaged or not a file of weights|holds more than tensors"
    ):
        read_state(tmp_path / "cut.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(ModelFileError, match=r"more than tensors|not a file of weights"):
        read_state(tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match="expected a mapping of names to tensors, got a list"):
        read_state(tmp_path / "list.pth")


def test_weights_named_after_a_date_are_not_called_damaged(tmp_path):
    state = network().state_dict()
    torch.save(state, tmp_path / "net-20240115.pth")
    assert read_state(tmp_path / "net-20240115.pth").keys() == state.keys()
    published = tmp_path / "resnet18-f37072fd.pth"  # a published name vouches for the content
    torch.save(state, published)
    with pytest.raises(ModelFileError, match="expected f37072fd as in its name"):
        read_state(published)


def test_wrapped_and_safe_forms(tmp_path):
    state = {"a": torch.ones(2)}
    torch.save({"state_dict": {"module.a": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert torch.equal(read_state(tmp_path / name)["a"], state["a"])


def test_frozen_parts_and_rates():
    weights = WeightsConfig(freeze=("backbone.layer1",), rates={"backbone.": 0.1, "backbone.layer4": 0.5})
    target = network()
    groups = parameter_groups(target, weights)
    assert sorted(g["factor"] for g in groups) == [0.1, 0.5, 1.0]
    assert not target.backbone.layer1[0].conv1.weight.requires_grad
    trained = sum(p.numel() for g in groups for p in g["params"])
    frozen = sum(p.numel() for p in target.backbone.layer1.parameters())
    assert trained + frozen == sum(p.numel() for p in target.parameters())
    with pytest.raises(
        ConfigError, match=r"no parameter's name begins with 'x'; they begin with: \['aux_classifier'"
    ):
        parameter_groups(network(), WeightsConfig(freeze=("x",)))
    with pytest.raises(ConfigError, match="leaves no parameter to train"):
        parameter_groups(network(), WeightsConfig(freeze=("",)))


@pytest.mark.slow
def test_a_training_starts_from_weights_and_keeps_what_is_frozen(balls, tmp_path):
    model = {"name": "fcn", "backbone": {"name": "resnet", "depth": 18, "width": 0.125, "stem_stride": 1}}
    raw = ball_settings(balls) | {"model": model}
    source = FCNConfig.model_validate(model).build(Task(2, 3, 3))
    path = named(tmp_path, source.state_dict())
    config = load_config(
        raw, [f"weights.file={path}", "weights.freeze=[backbone.]", "weights.rates={classifier.: 0.5}"]
    )
    result = fit(config, tmp_path / "run")
    _, tensors, _ = load_model(result.model)
    kept = tensors["backbone.layer1.0.conv1.weight"]
    assert torch.equal(kept[..., 1], source.state_dict()["backbone.layer1.0.conv1.weight"])
    assert not kept[..., 0].any()
    with pytest.raises(ConfigError, match="give either file or published"):
        load_config(raw, [f"weights.file={path}", "weights.published=resnet18_imagenet"])
    with pytest.raises(ConfigError, match="no published weights named"):
        fit(load_config(raw, ["weights.published=resnet"]), tmp_path / "none")
    with pytest.raises(ModelFileError, match="medseg weights get"):
        fit(load_config(raw, [f"weights.file={tmp_path}/gone.pth"]), tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    other = named(tmp_path, {"backbone.conv1.weight": torch.zeros(3)}, "other")
    with pytest.raises(ModelFileError):
        fit(load_config(raw, [f"weights.file={other}"]), tmp_path / "later")
    fit(load_config(raw), tmp_path / "later")  # the folder is free for another try


@pytest.mark.slow
def test_published_networks_by_name(tmp_path, capsys):
    entry = PUBLISHED_WEIGHTS["lraspp_mobilenet_voc"]
    torch.manual_seed(0)
    made = entry.network.build(Task(2, 3, 21))
    theirs = {k.replace("backbone.features.", "backbone."): v for k, v in made.state_dict().items()}
    path = named(tmp_path, theirs, "lraspp")
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3)).astype(np.uint8)
    photo = write_picture(tmp_path / "photo.png", pixels)
    asked = ["infer", str(photo), "--model", "lraspp_mobilenet_voc", "--weights", str(path), "--overlays"]
    assert run([*asked, "--output", str(tmp_path / "out")]) == 0
    assert read_scan(tmp_path / "out" / "photo.png").grid.shape == (70, 90)
    found = Predictor(published_model("lraspp_mobilenet_voc", path), amp="off").predict(photo).label_map
    mean, std = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = torch.from_numpy(((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1))[None].float()
    expected = made.eval()(image).argmax(1)[0].numpy()
    assert (found == expected).mean() > 0.99
    assert (tmp_path / "out" / "overlays" / "photo.png").is_file()
    labels = published_model("lraspp_mobilenet_voc", path).header.labels
    assert (labels.class_names[15], labels.colors["person"]) == ("person", (192, 128, 128))
    assert labels.ignore_value == 255  # of VOC's own annotations
    asked = ["infer", str(photo), "--model", "resnet18_imagenet", "--weights", str(path)]
    assert run([*asked, "--output", str(tmp_path / "x")]) == 2
    assert "expected a network, one of" in capsys.readouterr().err


def test_a_published_network_without_downloaded_weights_raises(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo = write_picture(tmp_path / "photo.png", np.zeros((8, 8, 3), np.uint8))
    asked = ["infer", str(photo), "--model", "fcn_resnet50_voc", "--output", str(tmp_path / "out")]
    assert run(asked) == 2
    assert "medseg weights get fcn_resnet50_voc" in capsys.readouterr().err


def test_every_published_network_is_whole():
    for name, entry in PUBLISHED_WEIGHTS.items():
        assert entry.url.startswith("https://download.pytorch.org/models/"), name
    deep = PUBLISHED_WEIGHTS["deeplabv3_resnet101_voc"].network
    assert isinstance(deep, DeepLabV3Config)
    assert deep.backbone.depth == 101
    assert {entry.keys for entry in PUBLISHED_WEIGHTS.values()} <= KEY_TABLES.keys()
    coco = [name for name, entry in PUBLISHED_WEIGHTS.items() if entry.labels == "coco"]
    assert coco == ["maskrcnn_resnet50_fpn_coco", "maskrcnn_resnet50_fpn_v2_coco"]
    mobile = PUBLISHED_WEIGHTS["deeplabv3_mobilenet_voc"]
    assert (mobile.keys, mobile.kind) == ("torchvision_segmentation_mobilenet", "network")
    assert PUBLISHED_WEIGHTS["mobilenet_v3_large_imagenet"].keys == "torchvision_mobilenet"


def test_the_commands_list(capsys):
    assert run(["weights", "list"]) == 0
    assert "deeplabv3_resnet101_voc" in capsys.readouterr().out
    assert run(["weights", "get", "nothing"]) == 2
    message = capsys.readouterr().err
    assert "no published weights named 'nothing'" in message
    assert "resnet18_imagenet" in message
    assert "sam_vit_b" in message


def test_a_name_of_weights_is_refused_without_torch():
    code = (
        "import sys; from medseg.cli.main import run; code = run(['weights', 'get', 'nope']);"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "no published weights named 'nope'" in done.stderr


def test_a_checkpoint_of_a_training_starts_one_with_other_channels_and_classes(balls, tmp_path):
    config = load_config(ball_settings(balls, epochs=1, iterations=1, ema=0.9), ["model.residual=true"])
    fit(config, tmp_path / "run")
    state = read_state(tmp_path / "run" / "checkpoints" / "last.pt")
    trained = load_model(tmp_path / "run" / "model.safetensors")[1]
    assert all(torch.equal(state[key], tensor) for key, tensor in trained.items())  # those of the average
    target = config.model.build(Task(3, 2, 5))
    report = load_pretrained(target, state)
    assert set(report.new) == {"head.weight", "head.bias"}
    assert report.reshaped
    assert all(key.startswith("encoder.0.") for key in report.reshaped)
    first = target.state_dict()[report.reshaped[0]]
    assert torch.allclose(first.sum(dim=1), state[report.reshaped[0]].sum(dim=1), atol=1e-6)
