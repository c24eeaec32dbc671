"""Read a trained nnU-Net folder (``…/nnUNetTrainer__nnUNetPlans__3d_fullres``): plans and checkpoints."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.nnunet import read_json
from medseg.errors import ModelFileError
from medseg.inference.model.model_file import digest_of
from medseg.interop.nnunet.header import NnunetHeader, Stage
from medseg.interop.nnunet.plans import (
    Configuration,
    Dataset,
    Plans,
    TrainingRecord,
    check_trainer,
    parse,
    read_stage,
)

FINAL = "checkpoint_final.pth"
_UNUSED = (".all_modules.", "decoder.encoder.")
"""Parts of parameter names under which checkpoints store tensors a second time."""


class LoadedNnunet(NamedTuple):
    """A model in memory.

    Attributes:
        header: everything but the weights.
        tensors: weights, named ``stage.fold.name``.
        digest: SHA-256 of header and tensors.
    """

    header: NnunetHeader
    tensors: dict[str, torch.Tensor]
    digest: str


def is_nnunet_folder(path: Path) -> bool:
    """Whether a folder is a trained nnU-Net model, or one fold of it."""
    path = Path(path)
    root = path.parent if path.name.startswith("fold_") else path
    return (root / "plans.json").is_file() and (root / "dataset.json").is_file()


def read_folder(
    folder: Path, *, folds: Sequence[str] = (), checkpoint: str = FINAL, trainer: str | None = None
) -> LoadedNnunet:
    """Read a trained folder: all numbered folds, or else ``fold_all``; both stages of a cascade.

    Args:
        folder: folder that contains the folds, or the folder of one fold.
        folds: names of the folds to read (``0``, ``all``); by default all numbered ones.
        checkpoint: file name of the checkpoint in each fold.
        trainer: name of a trainer that is known to use the network and preprocessing of the plans.

    Raises:
        ModelFileError: the folder is not a trained model, lacks a file, was written by a trainer that may have
            changed the network, or its plans are not supported.
        DataError: a JSON file is damaged.
    """
    folder = Path(folder).resolve()
    if folder.name.startswith("fold_"):
        folder, folds = folder.parent, (folder.name.removeprefix("fold_"),)
    plans: Plans = parse(Plans, read_json(folder / "plans.json"), folder / "plans.json")
    dataset: Dataset = parse(Dataset, read_json(folder / "dataset.json"), folder / "dataset.json")
    trained = _read_folds(folder, folds, checkpoint)
    check_trainer(trained.trainer, trainer, folder)
    labels = dataset.label_table(folder / "dataset.json")
    stage = read_stage(plans, dataset, trained, folder / "plans.json")
    stages, weights = [stage], [trained.weights]
    if stage.previous_labels:
        before = _previous(folder, plans, stage, trained.trainer)
        earlier = read_folder(before, folds=folds, checkpoint=checkpoint, trainer=trainer)
        _check_stages_agree(before, earlier.header, stage, labels)
        stages = [*earlier.header.stages, stage]
        weights = [*_split(earlier), trained.weights]
    header = NnunetHeader(
        labels=labels,
        painted=dataset.painted(labels, folder / "dataset.json"),
        stages=tuple(stages),
        trainer=trained.trainer,
        plans=plans.plans_name,
        dataset=plans.dataset_name,
    )
    tensors = {
        f"{i}.{j}.{name}": tensor
        for i, folds_of_stage in enumerate(weights)
        for j, state in enumerate(folds_of_stage)
        for name, tensor in state.items()
    }
    return LoadedNnunet(header, tensors, digest_of(header.model_dump_json(), tensors))


def network_weights(model: LoadedNnunet, stage: int, fold: int) -> dict[str, torch.Tensor]:
    """The tensors of one network."""
    prefix = f"{stage}.{fold}."
    return {k.removeprefix(prefix): v for k, v in model.tensors.items() if k.startswith(prefix)}


def _split(model: LoadedNnunet) -> list[tuple[dict[str, torch.Tensor], ...]]:
    return [
        tuple(network_weights(model, i, j) for j in range(len(stage.folds)))
        for i, stage in enumerate(model.header.stages)
    ]


def _previous(folder: Path, plans: Plans, stage: Stage, trainer: str) -> Path:
    """Find the folder of the previous stage, which nnU-Net places beside this one."""
    raw = plans.resolved(stage.configuration, folder / "plans.json")
    name = Configuration.model_validate(raw).previous_stage
    expected = folder.parent / f"{trainer}__{plans.plans_name}__{name}"
    others = sorted(p for p in folder.parent.glob(f"*__{name}") if is_nnunet_folder(p))
    if is_nnunet_folder(expected):
        return expected
    if len(others) == 1:
        return others[0]
    reason = f"found {', '.join(p.name for p in others)}" if others else "it does not exist"
    raise ModelFileError(
        f"{folder}: second stage of a cascade; the first stage is expected at {expected}: {reason}", path=folder
    )


def _check_stages_agree(before: Path, header: NnunetHeader, stage: Stage, labels: LabelSchema) -> None:
    """Check that the result of a stage can be the input of the next. Raises: ModelFileError if not."""
    one = header.stages[-1]
    same = {
        "labels": (header.labels, labels),
        "transpose_forward": (one.transpose, stage.transpose),
        "image_reader_writer": (one.reader, stage.reader),
        "channels": (one.channels, stage.channels),
    }
    for name, (theirs, own) in same.items():
        if theirs != own:
            raise ModelFileError(
                f"{before}: {name} {theirs} in the first stage, {own} in the second stage", path=before
            )


def _read_folds(folder: Path, folds: Sequence[str], checkpoint: str) -> TrainingRecord:
    chosen = list(folds) or _available(folder, checkpoint)
    read = [_read_checkpoint(folder / f"fold_{fold}" / checkpoint) for fold in chosen]
    first = read[0]
    weights = tuple(_weights(one["network_weights"]) for one in read)
    for fold, one in zip(chosen, read, strict=True):
        for key in ("trainer_name", "inference_allowed_mirroring_axes"):
            if one.get(key) != first.get(key):
                raise ModelFileError(
                    f"{folder}: fold {fold}: {key} is {one.get(key)}, in fold {chosen[0]} {first.get(key)}"
                )
    return TrainingRecord(
        str(first["trainer_name"]),
        str(first["init_args"]["configuration"]),
        tuple(int(axis) for axis in first.get("inference_allowed_mirroring_axes") or ()),
        tuple(chosen),
        weights,
    )


def _available(folder: Path, checkpoint: str) -> list[str]:
    """The numbered folds that contain a checkpoint, or ``all``."""
    names = [p.parent.name.removeprefix("fold_") for p in folder.glob(f"fold_*/{checkpoint}")]
    numbered = sorted((n for n in names if re.fullmatch(r"\d+", n)), key=int)
    if not numbered and "all" not in names:
        others = sorted(str(p.relative_to(folder)) for p in folder.glob("fold_*/*.pth"))
        existing = f"only {', '.join(others)}" if others else "nor any other checkpoint"
        raise ModelFileError(
            f"{folder}: no fold contains {checkpoint}, {existing}",
            hint=f"Choose another: medseg import nnunet {folder} --checkpoint NAME -o FILE.safetensors",
            path=folder,
        )
    return numbered or ["all"]


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint without running code from it."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such checkpoint", path=path)
    try:
        with torch.serialization.safe_globals(_safe_types()), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelFileError(
            f"{path}: damaged, or contains objects other than weights and numbers, which medseg does not load"
            f"{_unsafe_names(path)}",
            path=path,
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path}: cannot be read, truncated or damaged ({reason})") from error
    required = {"network_weights": dict, "init_args": dict, "trainer_name": str}
    held = content if isinstance(content, dict) else {}
    lacking = [key for key, kind in required.items() if not isinstance(held.get(key), kind)]
    lacking += [] if lacking or "configuration" in held["init_args"] else ["init_args.configuration"]
    if lacking:
        raise ModelFileError(f"{path}: not a checkpoint of nnU-Net v2: lacks {', '.join(lacking)}", path=path)
    return content


def _unsafe_names(path: Path) -> str:
    """Names of the functions and classes that a checkpoint refers to, if they can be determined."""
    try:
        return ": " + ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError):
        return ""


def _safe_types() -> list[Any]:
    """NumPy types that checkpoints of nnU-Net contain besides tensors, under old and new module names."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by their parameter names, without duplicates."""
    named = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in state.items()}
    return {name: t for name, t in named.items() if not any(part in name for part in _UNUSED)}
