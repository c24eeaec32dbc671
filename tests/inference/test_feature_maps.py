"""``medseg models features``, from a run to pictures."""

import numpy as np
import pytest
from conftest import ball_settings, write_volume
from PIL import Image

from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.inference.feature_maps import View, feature_maps
from medseg.inference.model.predictor import Predictor


@pytest.fixture(scope="module")
def trained(balls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    (folder / "balls.yaml").write_text(to_yaml(load_config(ball_settings(balls))))
    assert run(["train", str(folder / "balls.yaml"), "--run", str(folder / "run")]) == 0
    return folder / "run"


def test_a_picture_for_each_stage(trained, balls, tmp_path, capsys):
    scan = str(balls / "images" / "ball_0.nii.gz")
    assert run(["models", "features", scan, "--model", str(trained), "--output", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out.splitlines()
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert [line.rsplit("/", 1)[1] for line in printed] == names
    assert names[0] == "00_input.png"
    assert {"01_encoder.0.png", f"{len(names) - 1:02d}_head.png"} <= set(names)
    for name in names:
        with Image.open(tmp_path / "a" / name) as page:
            assert page.size[0] > 100


def test_chosen_layers_channels_and_slices(trained, balls, tmp_path):
    scan = balls / "images" / "ball_0.nii.gz"
    predictor = Predictor(trained)
    array = predictor.prepare(scan).inputs[0].array
    maps, extent = feature_maps(predictor, scan, ["encoder.1", "encoder.0"], View(slice_index=3))
    assert [one.name for one in maps] == ["input", "encoder.0", "encoder.1"]
    np.testing.assert_array_equal(maps[0].channels, array[..., 3][:, ::-1, ::-1].swapaxes(1, 2))
    assert maps[0].shape == array.shape
    assert maps[0].place == f"slice 3 of {array.shape[-1]}"
    spacing = predictor.prepare(scan).inputs[0].spacing
    assert extent == pytest.approx((array.shape[2] * spacing[1], array.shape[1] * spacing[0]))
    windowed, _ = feature_maps(predictor, scan, ["encoder.0"], View(slice_index=0, window=True))
    roi = predictor.header.inference.roi_size
    assert windowed[0].shape[1:] == tuple(min(n, r) for n, r in zip(array.shape[1:], roi, strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--layer", "encodr.0"], "similar names: encoder.0"),
        (["--slice", "500"], "slice 500: after preprocessing, the volume has slices 0 to"),
        (
            ["--layer", "encoder"],
            "'encoder': returns no feature map in evaluation mode\n"
            "hint: Choose one of its layers: encoder.0, encoder.1",
        ),
    ],
)
def test_unknown_layers_and_slices_are_rejected(trained, balls, tmp_path, capsys, options, words):
    scan = str(balls / "images" / "ball_0.nii.gz")
    arguments = ["models", "features", scan, "--model", str(trained), "--output", str(tmp_path / "b"), *options]
    assert run(arguments) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_one_scan_at_a_time(trained, balls, tmp_path, capsys):
    code = run(["models", "features", str(balls), "--model", str(trained), "--output", str(tmp_path)])
    assert code == 3
    assert "contains 6 scans, expected one" in capsys.readouterr().err
    write_volume(tmp_path / "one.nii.gz", np.ones((1, 1, 1), np.float32))
    scan = str(tmp_path / "one.nii.gz")
    assert run(["models", "features", scan, "--model", str(trained), "--output", str(tmp_path / "c")]) == 0


@pytest.mark.slow
def test_slices_of_volumes_for_2d_networks(balls, tmp_path):
    settings = ball_settings(balls)
    settings |= {"spatial_dims": 2, "augment": "none", "model": {"name": "unet", "channels": [4, 8]}}
    settings["preprocess"] = {"slices": {"axis": 1, "neighbors": 1}}
    settings["sampling"] = {"patch_size": [16, 16]}
    settings.pop("inference", None)
    (tmp_path / "c.yaml").write_text(to_yaml(load_config(settings)))
    assert run(["train", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]) == 0
    scan, predictor = balls / "images" / "ball_0.nii.gz", Predictor(tmp_path / "run")
    array = predictor.prepare(scan).inputs[0].array
    maps, _ = feature_maps(predictor, scan, view=View(slice_index=0))
    assert maps[0].shape == (3 * len(array), *array.shape[2:])
    np.testing.assert_array_equal(maps[0].channels[0], maps[0].channels[1])  # the first slice, repeated
