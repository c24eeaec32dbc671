"""A trained nnU-Net folder (``…/nnUNetTrainer__nnUNetPlans__3d_fullres``): its plans and checkpoints."""

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
    parse,
    read_stage,
    refuse_trainer,
)

FINAL = "checkpoint_final.pth"
_UNUSED = (".all_modules.", "decoder.encoder.")
"""Parts of names under which checkpoints hold the same tensors again."""


class LoadedNnunet(NamedTuple):
    """A model in memory: its header; tensors named ``stage.fold.name``; the digest that names it."""

    header: NnunetHeader
    tensors: dict[str, torch.Tensor]
    digest: str


class _Trained(NamedTuple):
    """What the folds' checkpoints say."""

    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]
    folds: tuple[str, ...]
    weights: tuple[dict[str, torch.Tensor], ...]


def is_folder(path: Path) -> bool:
    """Whether a folder is one of nnU-Net's trained models, or one fold of it."""
    path = Path(path)
    root = path.parent if path.name.startswith("fold_") else path
    return (root / "plans.json").is_file() and (root / "dataset.json").is_file()


def read_folder(
    folder: Path, *, folds: Sequence[str] = (), checkpoint: str = FINAL, trainer: str | None = None
) -> LoadedNnunet:
    """Read a trained folder: all its numbered folds, or else ``fold_all``; of a cascade both stages.

    Args:
        folder: the folder of the folds, or one fold's.
        folds: names of folds (``0``, ``all``) to take instead.
        checkpoint: name of the file to take from each fold.
        trainer: name of a trainer that is known to keep to the plans' network and preprocessing.

    Raises: ModelFileError if it is none, lacks something, was made by a trainer that may have changed the
    network, or plans what medseg does not know; DataError if a JSON file is damaged.
    """
    folder = Path(folder).resolve()
    if folder.name.startswith("fold_"):
        folder, folds = folder.parent, (folder.name.removeprefix("fold_"),)
    plans: Plans = parse(Plans, read_json(folder / "plans.json"), folder / "plans.json")
    dataset: Dataset = parse(Dataset, read_json(folder / "dataset.json"), folder / "dataset.json")
    trained = _read_folds(folder, folds, checkpoint)
    refuse_trainer(trained.trainer, trainer, folder)
    labels = dataset.label_table(folder / "dataset.json")
    stage = read_stage(
        plans,
        dataset,
        trained.configuration,
        trainer=trained.trainer,
        folds=trained.folds,
        mirror_axes=trained.mirror_axes,
        where=folder / "plans.json",
    )
    stages, weights = [stage], [trained.weights]
    if stage.previous_labels:
        before = _previous(folder, plans, stage, trained.trainer)
        earlier = read_folder(before, folds=folds, checkpoint=checkpoint, trainer=trainer)
        _refuse_difference(before, earlier.header, stage, labels)
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


def weights_of(model: LoadedNnunet, stage: int, fold: int) -> dict[str, torch.Tensor]:
    """One network's tensors."""
    prefix = f"{stage}.{fold}."
    return {k.removeprefix(prefix): v for k, v in model.tensors.items() if k.startswith(prefix)}


def _split(model: LoadedNnunet) -> list[tuple[dict[str, torch.Tensor], ...]]:
    return [
        tuple(weights_of(model, i, j) for j in range(len(stage.folds)))
        for i, stage in enumerate(model.header.stages)
    ]


def _previous(folder: Path, plans: Plans, stage: Stage, trainer: str) -> Path:
    """The folder of the stage before, beside this one as nnU-Net puts it."""
    raw = plans.resolved(stage.configuration, folder / "plans.json")
    name = Configuration.model_validate(raw).previous_stage
    own = folder.parent / f"{trainer}__{plans.plans_name}__{name}"
    beside = sorted(p for p in folder.parent.glob(f"*__{name}") if is_folder(p))
    if is_folder(own):
        return own
    if len(beside) == 1:
        return beside[0]
    found = f"found {', '.join(p.name for p in beside)}" if beside else "it is not there"
    raise ModelFileError(f"{folder}: is the second stage of a cascade; the first is expected at {own}: {found}")


def _refuse_difference(before: Path, header: NnunetHeader, stage: Stage, labels: LabelSchema) -> None:
    """Raises: ModelFileError if a stage's result cannot be the next one's input."""
    one = header.stages[-1]
    same = {
        "labels": (header.labels, labels),
        "transpose_forward": (one.transpose, stage.transpose),
        "image_reader_writer": (one.reader, stage.reader),
        "channels": (one.channels, stage.channels),
    }
    for name, (theirs, own) in same.items():
        if theirs != own:
            raise ModelFileError(f"{before}: {name} {theirs}, in the cascade's second stage {own}")


def _read_folds(folder: Path, folds: Sequence[str], checkpoint: str) -> _Trained:
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
    return _Trained(
        str(first["trainer_name"]),
        str(first["init_args"]["configuration"]),
        tuple(int(axis) for axis in first.get("inference_allowed_mirroring_axes") or ()),
        tuple(chosen),
        weights,
    )


def _available(folder: Path, checkpoint: str) -> list[str]:
    """The numbered folds that hold a checkpoint, or ``all``."""
    names = [p.parent.name.removeprefix("fold_") for p in folder.glob(f"fold_*/{checkpoint}")]
    numbered = sorted((n for n in names if re.fullmatch(r"\d+", n)), key=int)
    if not numbered and "all" not in names:
        others = sorted(str(p.relative_to(folder)) for p in folder.glob("fold_*/*.pth"))
        there = f"there are {', '.join(others)}" if others else "there are no checkpoints at all"
        raise ModelFileError(
            f"{folder}: no fold holds {checkpoint}; {there}. Name another: medseg import nnunet {folder} "
            "--checkpoint NAME -o FILE.safetensors"
        )
    return numbered or ["all"]


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, none of which is run."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such checkpoint")
    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelFileError(
            f"{path}: damaged, or holds more than weights and numbers, and medseg runs nothing from it"
            f"{_asked_for(path)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path}: cannot be read, truncated or damaged ({reason})") from error
    wanted = {"network_weights": dict, "init_args": dict, "trainer_name": str}
    held = content if isinstance(content, dict) else {}
    lacking = [key for key, kind in wanted.items() if not isinstance(held.get(key), kind)]
    lacking += [] if lacking or "configuration" in held["init_args"] else ["init_args.configuration"]
    if lacking:
        raise ModelFileError(f"{path}: no checkpoint of nnU-Net v2: it lacks {', '.join(lacking)}")
    return content


def _asked_for(path: Path) -> str:
    """The functions and classes that a checkpoint asks for, where they can be told."""
    try:
        return ": " + ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError):
        return ""


def _harmless() -> list[Any]:
    """What nnU-Net's checkpoints hold besides tensors: NumPy's numbers, under their old and new address."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by their names in the network, each once."""
    named = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in state.items()}
    return {name: t for name, t in named.items() if not any(part in name for part in _UNUSED)}
