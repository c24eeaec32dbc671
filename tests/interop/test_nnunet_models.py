"""nnU-Net's trained folders: reading, unsupported models, and predictions."""

import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunet_recipe import (
    REGIONS,
    configuration,
    dataset,
    plans,
    random_network,
    write_model,
    write_volume,
)
from PIL import Image

from medseg.cli.main import run
from medseg.errors import ConfigError, DataError, ModelFileError
from medseg.inference.model.predictor import Predictor
from medseg.interop.model_loading import SegmenterSpec
from medseg.interop.nnunet.file import is_nnunet_file, load_nnunet_file, write_nnunet_file
from medseg.interop.nnunet.folder import is_nnunet_folder, read_folder
from medseg.interop.nnunet.plans import check_trainer
from medseg.interop.nnunet.predict import NnunetPredictor, window_weights


def zscored(path: Path) -> torch.Tensor:
    """A volume (1, 1, Z, Y, X) as the tiny models take it."""
    voxels = np.asarray(nib.load(path).dataobj).astype(np.float32).transpose(2, 1, 0)
    return torch.from_numpy((voxels - voxels.mean()) / voxels.std())[None, None]


def summed(scores: torch.Tensor) -> torch.Tensor:
    """Scores (K, *S) of a single window as half-precision sums give them back."""
    weight = window_weights(tuple(scores.shape[1:]))
    return (scores * weight).half() / weight.half()


def share(found: np.ndarray, scores: torch.Tensor) -> float:
    """Of voxels on which a label map (X, Y, Z) is the class with the highest of scores (K, Z, Y, X)."""
    return float((found == scores.argmax(0).numpy().transpose(2, 1, 0)).mean())


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """A volume of just one window."""
    return write_volume(tmp_path / "scans" / "cube_0000.nii.gz", (8, 8, 8))


def test_a_window_through_the_mean_of_two_folds(tmp_path, cube):
    predictor = NnunetPredictor(write_model(tmp_path, folds=("0", "1")), device="cpu")
    networks = [random_network(plans(), dataset(), "3d_fullres", seed) for seed in (0, 1)]
    with torch.no_grad():
        one, two = (summed(network(zscored(cube))[0]) for network in networks)
    assert share(predictor.predict(cube).label_map, (one + two) / 2) > 0.999


def test_mirrors_are_averaged_unless_left_out(tmp_path, cube):
    folder = write_model(tmp_path, mirror=(0, 2))
    network, image = random_network(plans(), dataset(), "3d_fullres", 0), zscored(cube)
    with torch.no_grad():
        plain = network(image)
        mirrored = plain.clone()
        for axes in ((2,), (4,), (2, 4)):
            mirrored += network(image.flip(axes)).flip(axes)
    found = NnunetPredictor(folder, device="cpu").predict(cube).label_map
    alone = NnunetPredictor(folder, device="cpu", settings={"flips": []}).predict(cube).label_map
    assert share(found, summed(mirrored[0] / 4)) > 0.999
    assert share(alone, summed(plain[0])) > 0.999
    assert (found != alone).any()


def test_several_windows_at_once_change_nothing(tmp_path):
    scan = write_volume(tmp_path / "scan.nii.gz", (14, 9, 11), (0.9, 1.2, 1.0))
    folder = write_model(tmp_path, mirror=(0,))
    one = NnunetPredictor(folder, device="cpu").predict(scan)
    several = NnunetPredictor(folder, device="cpu", settings={"batch_size": 5}).predict(scan)
    assert one.label_map.shape == (14, 9, 11)
    assert len(np.unique(one.label_map)) == 3
    assert (one.label_map == several.label_map).mean() > 0.999  # rounding


def test_slices_go_through_a_network_of_two_dimensions(tmp_path):
    plan = plans({"2d": configuration(2)})
    scan = write_volume(tmp_path / "scan.nii.gz", (8, 8, 5), (1.0, 1.0, 3.5))
    folder = write_model(tmp_path, "2d", plan=plan, mirror=(0, 1))
    found = NnunetPredictor(folder, device="cpu", settings={"flips": []}).predict(scan).label_map
    network, image = random_network(plan, dataset(), "2d", 0), zscored(scan)
    with torch.no_grad():
        scores = torch.stack([summed(network(image[:, :, z])[0]) for z in range(5)], dim=1)
    assert share(found, scores) > 0.999


def test_regions_are_painted_one_over_another(tmp_path, cube):
    data = dataset(labels=REGIONS, regions_class_order=[1, 2])
    folder = write_model(tmp_path, data=data)
    prediction = NnunetPredictor(folder, device="cpu").predict(cube, probabilities=True)
    network = random_network(plans(), data, "3d_fullres", 0)
    with torch.no_grad():
        whole, tumor = (summed(network(zscored(cube))[0]) > 0).numpy().transpose(0, 3, 2, 1)
    expected = np.where(tumor, 2, np.where(whole, 1, 0))
    assert (prediction.label_map == expected).mean() > 0.999
    assert set(np.unique(prediction.label_map)) == {0, 1, 2}
    assert prediction.probabilities is not None
    assert ((prediction.probabilities[1] > 0.5) == (prediction.label_map == 2)).all()


def test_outside_the_nonzero_part_is_background(tmp_path):
    voxels = np.zeros((12, 12, 12), np.float32)
    voxels[2:10, 2:10, 2:10] = np.random.default_rng(0).normal(5, 1, (8, 8, 8))
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "scan.nii.gz")
    predictor = NnunetPredictor(write_model(tmp_path), device="cpu")
    prediction = predictor.predict(tmp_path / "scan.nii.gz", probabilities=True)
    inside = np.zeros(voxels.shape, bool)
    inside[2:10, 2:10, 2:10] = True
    assert not prediction.label_map[~inside].any()
    assert prediction.label_map[inside].any()
    assert prediction.probabilities is not None
    assert (prediction.probabilities[0][~inside] == 1).all()
    assert np.allclose(prediction.probabilities.sum(0), 1, atol=1e-3)


def test_channels_in_several_files_or_in_one(tmp_path):
    entry = configuration(
        normalization_schemes=["CTNormalization", "ZScoreNormalization"], use_mask_for_norm=[False, True]
    )
    plan, data = plans({"3d_fullres": entry}), dataset(channel_names={"0": "CT", "1": "PET"})
    folder = write_model(tmp_path, plan=plan, data=data)
    one = write_volume(tmp_path / "whole" / "case.nii.gz", (9, 8, 8, 2))
    voxels = np.asarray(nib.load(one).dataobj)
    (tmp_path / "split").mkdir()
    for channel in (0, 1):
        path = tmp_path / "split" / f"case_000{channel}.nii.gz"
        nib.save(nib.Nifti1Image(voxels[..., channel], np.eye(4)), path)
    for name in ("whole", "split"):
        command = [
            "infer",
            str(tmp_path / name),
            "--model",
            str(folder),
            "--output",
            str(tmp_path / f"{name}-out"),
        ]
        assert run([*command, "--device", "cpu"]) == 0
    maps = [nib.load(tmp_path / f"{n}-out" / "case.nii.gz").get_fdata() for n in ("whole", "split")]
    assert np.array_equal(*maps)
    assert maps[0].any()


def test_pictures(tmp_path):
    entry = configuration(2, normalization_schemes=["RGBTo01Normalization"] * 3, use_mask_for_norm=[False] * 3)
    numbers = plans()["foreground_intensity_properties_per_channel"]["0"]
    plan = plans({"2d": entry}, image_reader_writer="NaturalImage2DIO")
    plan["foreground_intensity_properties_per_channel"] = {str(c): numbers for c in range(3)}
    data = dataset(channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png")
    folder = write_model(tmp_path, "2d", plan=plan, data=data)
    pixels = np.random.default_rng(0).integers(0, 256, (11, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    found = NnunetPredictor(folder, device="cpu").predict(tmp_path / "photo.png").label_map
    assert found.shape == (11, 14)
    assert len(np.unique(found)) > 1


def cascade(parent: Path, **changes: object) -> tuple[Path, Path]:
    low = configuration(spacing=[2.0, 2.0, 2.0], next_stage="3d_cascade_fullres")
    plan = plans(
        {
            "3d_fullres": configuration(),
            "3d_lowres": low,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        }
    )
    first = write_model(parent, "3d_lowres", plan=plan, **changes)
    return first, write_model(parent, "3d_cascade_fullres", plan=plan)


def test_a_cascade_runs_its_first_stage_first(tmp_path):
    first, second = cascade(tmp_path)
    scan = write_volume(tmp_path / "scan.nii.gz", (14, 12, 16))
    found = NnunetPredictor(second, device="cpu").predict(scan).label_map
    assert len(np.unique(found)) == 3
    write_nnunet_file(tmp_path / "both.safetensors", read_folder(second))
    imported = NnunetPredictor(tmp_path / "both.safetensors", device="cpu")
    assert [stage.configuration for stage in imported.plans.stages] == ["3d_lowres", "3d_cascade_fullres"]
    assert np.array_equal(imported.predict(scan).label_map, found)
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelFileError, match=r"first stage is expected at .*__3d_lowres: it does not exist"):
        NnunetPredictor(second, device="cpu")


def test_stages_of_a_cascade_agree(tmp_path):
    _, second = cascade(tmp_path, data=dataset(labels={"background": 0, "organ": 1}))
    with pytest.raises(ModelFileError, match="in the second stage"):
        read_folder(second)


def test_numbered_folds_come_before_all_of_them(tmp_path):
    folder = write_model(tmp_path, folds=("all", "1", "0"))
    assert read_folder(folder).header.stages[0].folds == ("0", "1")
    assert read_folder(folder, folds=("all",)).header.stages[0].folds == ("all",)
    assert read_folder(folder / "fold_1").header.stages[0].folds == ("1",)
    assert is_nnunet_folder(folder / "fold_1")
    with pytest.raises(ModelFileError, match=r"fold_3/checkpoint_final.pth: no such checkpoint"):
        read_folder(folder, folds=("3",))


def test_an_unfinished_training_names_what_there_is(tmp_path):
    folder = write_model(tmp_path)
    final = folder / "fold_0" / "checkpoint_final.pth"
    final.rename(final.with_name("checkpoint_best.pth"))
    with pytest.raises(ModelFileError, match=r"only fold_0/checkpoint_best.pth. Choose another: medseg import"):
        read_folder(folder)
    assert read_folder(folder, checkpoint="checkpoint_best.pth").header.trainer == "nnUNetTrainer"


def test_each_tensor_is_kept_once(tmp_path):
    names = read_folder(write_model(tmp_path)).tensors
    assert not [n for n in names if ".all_modules." in n or ".decoder.encoder." in n]
    assert {n[:4] for n in names} == {"0.0."}


class _Harm:
    def __reduce__(self):
        return (print, ("run",))


def test_checkpoints_run_nothing(tmp_path, capsys):
    folder = write_model(tmp_path, extra={"logging": _Harm()})
    with pytest.raises(ModelFileError, match=r"which medseg does not load: .*builtins.print"):
        read_folder(folder)
    assert "run" not in capsys.readouterr().out
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(ModelFileError):
        read_folder(folder)
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(ModelFileError):
        read_folder(folder)
    torch.save({"model": {}}, path)
    with pytest.raises(
        ModelFileError, match="not a checkpoint of nnU-Net v2: lacks network_weights, init_args"
    ):
        read_folder(folder)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "trainer",
    ["nnUNetTrainer", "nnUNetTrainer_250epochs", "nnUNetTrainerDA5", "nnUNetTrainer_4000epochs_NoMirroring",
     "nnUNetTrainer_onlyMirror01_DA5", "nnUNetTrainerBN", "nnUNetTrainerDA5Segord0",
     "nnUNetTrainer_probabilisticOversampling_033", "nnUNetTrainerVanillaAdam1en3"],
)  # fmt: skip
def test_trainers_that_keep_to_the_plans(trainer):
    check_trainer(trainer, None, Path("model"))


@pytest.mark.parametrize("trainer", ["nnUNetTrainerMine", "nnUNet_Primus_S_Trainer", "MedNeXtTrainer"])
def test_other_trainers_raise_unless_accepted(tmp_path, trainer):
    folder = write_model(tmp_path, trainer=trainer)
    with pytest.raises(ModelFileError, match=f"trained by {trainer}, which is not one"):
        read_folder(folder)
    assert read_folder(folder, trainer=trainer).header.trainer == trainer
    with pytest.raises(ModelFileError, match=f"trained by {trainer}, which is not one"):
        read_folder(folder, trainer="nnUNetTrainerOther")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preprocessor_name": "MyPreprocessor"},
            "preprocessor_name: MyPreprocessor is not supported, only DefaultPreprocessor",
        ),
        ({"normalization_schemes": ["MyNorm"]}, "normalization MyNorm is not supported, only CTNormalization"),
        ({"use_mask_for_norm": [False, False]}, "1 channels, 1 normalizations, 2 masks"),
        ({"resampling_fn_data": "no_resampling_hack"}, "resampling by no_resampling_hack is not supported"),
        ({"resampling_fn_seg_kwargs": {"what": 1}}, "with {'what': 1} is not supported"),
        ({"resampling_fn_data_kwargs": {"order_z": 1}}, "across slices of order 1"),
        (
            {"resampling_fn_probabilities_kwargs": {"order": 3}},
            "resampling of logits with order 3 is not supported",
        ),
        ({"patch_size": [8, 8, 8, 8]}, "patch_size: 4 is not supported, only 2, 3"),
        ({"inherits_from": "3d_fullres"}, "'3d_fullres' inherits from itself"),
        ({"inherits_from": "3d"}, "'3d' is not in the plans, which contain 3d_fullres"),
    ],
)
def test_unsupported_plans_raise(tmp_path, changes, message):
    folder = write_model(tmp_path)
    (folder / "plans.json").write_text(json.dumps(plans({"3d_fullres": configuration(**changes)})))
    with pytest.raises(ModelFileError, match=message):
        read_folder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 5}}, "label values .*, expected 0, 1, 2, …"),
        ({"labels": REGIONS}, "regions_class_order has 0 values for 2 regions"),
    ],
)
def test_unsupported_datasets_raise(tmp_path, changes, message):
    folder = write_model(tmp_path)
    (folder / "dataset.json").write_text(json.dumps(dataset(**changes)))
    with pytest.raises(ModelFileError, match=message):
        read_folder(folder)


def test_incomplete_plans_raise(tmp_path):
    folder = write_model(tmp_path)
    (folder / "plans.json").write_text(json.dumps({"plans_name": "p"}))
    with pytest.raises(ModelFileError, match="not in the format of nnU-Net v2: image_reader_writer"):
        read_folder(folder)
    (folder / "plans.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_folder(folder)
    (folder / "plans.json").unlink()
    with pytest.raises(DataError, match=r"plans\.json: no such file"):
        read_folder(folder)


def test_weights_of_another_network(tmp_path):
    folder = write_model(tmp_path)
    (folder / "plans.json").write_text(json.dumps(plans({"3d_fullres": configuration(kind="residual")})))
    with pytest.raises(ModelFileError, match="trained by nnUNetTrainer: the weights do not match"):
        NnunetPredictor(folder, device="cpu")


@pytest.mark.slow
def test_the_imported_file(tmp_path, cube, capsys):
    folder, path = write_model(tmp_path, folds=("0", "1")), tmp_path / "model.safetensors"
    assert run(["import", "nnunet", str(folder), "-o", str(path)]) == 0
    assert "3d_fullres: folds 0, 1; not mirrored" in capsys.readouterr().out
    assert is_nnunet_file(path)
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    before = checkpoint.read_bytes()
    assert run(["import", "nnunet", str(folder), "-o", str(checkpoint)]) == 2  # nor is any other file replaced
    assert checkpoint.read_bytes() == before
    assert load_nnunet_file(path).digest == read_folder(folder).digest
    command = [
        "infer",
        str(cube.parent),
        "--model",
        str(path),
        "--output",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert run([*command, "--probabilities", "--overlays"]) == 0
    record = json.loads((tmp_path / "out" / "provenance" / "cube.json").read_text())
    assert record["model_sha256"] == load_nnunet_file(path).digest
    assert record["inference"]["roi_size"] == [8, 8, 8]
    assert [(one["backend"], one["precision"]) for one in record["backends"]] == [("torch", "float32")]
    found = nib.load(tmp_path / "out" / "cube.nii.gz").get_fdata()
    assert np.array_equal(found, NnunetPredictor(folder, device="cpu").predict(cube).label_map)
    assert run([*command[:3], str(folder), *command[4:], "--json"]) == 0  # the same model: nothing to do
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"] == 1


def test_the_file_is_verified_and_self_contained(tmp_path):
    path = tmp_path / "model.safetensors"
    write_nnunet_file(path, read_folder(write_model(tmp_path)))
    with pytest.raises(ModelFileError, match="contains a medseg-nnunet, an imported model"):
        Predictor(path)
    with pytest.raises(ConfigError, match="averages its own folds"):
        SegmenterSpec((str(path), str(path))).build()
    with pytest.raises(ConfigError, match="support only flips, overlap and batch_size"):
        NnunetPredictor(path, settings={"scales": [0.5]})
    with pytest.raises(ConfigError, match="overlap"):
        NnunetPredictor(path, settings={"overlap": 2})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="SHA-256 does not match"):
        load_nnunet_file(path)
