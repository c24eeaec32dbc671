"""Small trained nnU-Net folders, made on the spot: nnU-Net's files, random weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from medseg.interop.nnunet.architecture import read_architecture
from medseg.interop.nnunet.network import NnunetUNet

LABELS = {"background": 0, "organ": 1, "tumor": 2}
REGIONS = {"background": 0, "whole": [1, 2], "tumor": 2}


def architecture(dims: int = 3, kind: str = "plain", features: tuple[int, ...] = (4, 6)) -> dict[str, Any]:
    """The ``architecture`` block of a configuration."""
    n = len(features)
    blocks = {"plain": "n_conv_per_stage", "residual": "n_blocks_per_stage"}[kind]
    name = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}[kind]
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": n,
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * n,
            "strides": [[1] * dims] + [[2] * dims] * (n - 1),
            blocks: [1] * n,
            "n_conv_per_stage_decoder": [1] * (n - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(dims: int = 3, kind: str = "plain", **changes: Any) -> dict[str, Any]:
    """One entry of ``configurations``: patches of 8 voxels, 1 mm."""
    spline = {"order_z": 0, "force_separate_z": None}
    return {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8] * dims,
        "spacing": [1.0] * dims,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **spline},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **spline},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **spline},
        "architecture": architecture(dims, kind),
        **changes,
    }


def plans(configurations: dict[str, dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """``plans.json``."""
    numbers = {"mean": 10.0, "std": 4.0, "percentile_00_5": 0.0, "percentile_99_5": 20.0, "median": 9.0}
    return {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations or {"3d_fullres": configuration()},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": numbers, "1": numbers},
        **changes,
    }


def dataset(**changes: Any) -> dict[str, Any]:
    """``dataset.json``."""
    return {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ".nii.gz", **changes}


def write_model(
    parent: Path,
    name: str = "3d_fullres",
    *,
    plan: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    folds: tuple[str, ...] = ("0",),
    mirror: tuple[int, ...] | None = None,
    trainer: str = "nnUNetTrainer",
    extra: dict[str, Any] | None = None,
) -> Path:
    """A trained folder as nnU-Net lays it out; each fold's weights are drawn anew."""
    plan, data = plan or plans(), data or dataset()
    folder = parent / f"{trainer}__{plan['plans_name']}__{name}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(data))
    for seed, fold in enumerate(folds):
        network = random_network(plan, data, name, seed)
        content = {
            "network_weights": as_saved(network.state_dict()),
            "init_args": {"plans": plan, "configuration": name, "fold": fold, "device": torch.device("cpu")},
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": mirror,
            "_best_ema": np.float64(0.5),
            "logging": {"ema": [np.float32(0.25)]},
            **(extra or {}),
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def random_network(plan: dict[str, Any], data: dict[str, Any], name: str, seed: int) -> NnunetUNet:
    """The planned network with weights under which all classes occur."""
    entry = copy.deepcopy(plan["configurations"][name])
    if "inherits_from" in entry:
        entry = {**plan["configurations"][entry["inherits_from"]], **entry}
    values = {v for group in data["labels"].values() for v in (group if isinstance(group, list) else [group])}
    regions = any(isinstance(v, list) for v in data["labels"].values())
    inputs = len(data["channel_names"]) + (len(values) - 1 if entry.get("previous_stage") else 0)
    dims = len(entry["patch_size"])
    config = read_architecture(entry, dims, batch_norm=False, where=Path("plans.json"))
    generator = torch.Generator().manual_seed(100 + seed)
    network = NnunetUNet(config, inputs, len(data["labels"]) - 1 if regions else len(data["labels"]))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        scores = network(torch.randn((1, inputs, *[16] * dims), generator=generator))[0].flatten(1)
        head = network.decoder.seg_layers[-1]
        head.bias -= scores.mean(1)
    return network.eval()


def as_saved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the other names under which nnU-Net's checkpoints hold the same tensors."""
    doubled = dict(state)
    for name, tensor in state.items():
        if name.startswith("encoder."):
            doubled[f"decoder.{name}"] = tensor
        doubled[name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")] = tensor
    return doubled


def write_volume(
    path: Path,
    shape: tuple[int, ...] = (12, 10, 9),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    seed: int = 0,
) -> Path:
    """A NIfTI volume (X, Y, Z[, C]) of noise."""
    voxels = np.random.default_rng(seed).normal(10, 4, shape).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([*spacing, 1.0])), path)
    return path
