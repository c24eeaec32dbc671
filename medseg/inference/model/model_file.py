"""``model.safetensors``: a network's weights with all that is needed to use them, in one safe file.

The metadata hold a JSON header and a SHA-256 over header and tensors. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medseg.config.base import Spec
from medseg.config.renamed import rename_keys
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ModelFileError
from medseg.files import write_atomic
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.models import ModelConfig
from medseg.system.version import medseg_version
from medseg.task import Task

Header = TypeVar("Header", bound=Spec)

FORMAT_VERSION = 2
_HEADER, _DIGEST = "medseg", "sha256"


class ModelHeader(Spec):
    """What a model file says about its weights.

    Attributes:
        spatial_dims, channels: of the images it takes.
        labels: what it finds.
        preprocess: with every number fitted.
        inference: the window, its size given.
        model: the network.
        label_reader: how the training's label files were read.
        augmentation: which mirrors, rotations and scales the training used; none in files of earlier versions.
        training: a summary: version, split sizes, score, seed; free of paths and identities.
    """

    format: Literal["medseg-model"] = "medseg-model"
    format_version: int = FORMAT_VERSION
    medseg_version: str = Field(default_factory=medseg_version)
    spatial_dims: Literal[2, 3]
    channels: int
    labels: LabelSchema
    preprocess: PreprocessConfig
    inference: InferenceConfig
    model: ModelConfig
    label_reader: LabelReader = AS_STORED
    augmentation: TrainedAugmentation | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the network is built for."""
        return task_for(self.spatial_dims, self.channels, self.labels, self.preprocess)


def task_for(spatial_dims: int, channels: int, labels: LabelSchema, preprocess: PreprocessConfig) -> Task:
    """What a network for such images and labels is built for; neighboring slices are channels."""
    thickness = preprocess.slices.thickness if preprocess.slices is not None else 1
    dims = 2 if spatial_dims == 2 else 3
    return Task(dims, channels * thickness, labels.num_classes, labels.activation, labels.background)


class LoadedModel(NamedTuple):
    """A model in memory: its header, its tensors, and the digest that names it."""

    header: ModelHeader
    tensors: dict[str, torch.Tensor]
    digest: str


def save_model(path: Path, header: ModelHeader, state: dict[str, torch.Tensor]) -> str:
    """Write a model file atomically; returns its digest."""
    return write_tensors(path, header.model_dump_json(), state)


def write_tensors(path: Path, header: str, state: dict[str, torch.Tensor]) -> str:
    """Write tensors under a JSON header atomically; returns their digest."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    digest = digest_of(header, tensors)
    with write_atomic(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: header, _DIGEST: digest})
        temporary.chmod(0o644)  # safetensors leaves it to its owner alone
    return digest


def load_model(path: Path) -> tuple[ModelHeader, dict[str, torch.Tensor], str]:
    """Read and verify a model file: header, tensors, digest.

    Raises: ModelFileError if the file is missing, foreign, truncated, changed since it was written, or of
    a newer format.
    """
    text, tensors, digest = read_tensors(path)
    return _parse(path, text), tensors, digest


def read_header(path: Path) -> str | None:
    """The JSON header of a file, unverified; none if it is no file of medseg's."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(_HEADER)
    except (SafetensorError, OSError, ValueError):
        return None


def read_tensors(path: Path) -> tuple[str, dict[str, torch.Tensor], str]:
    """Read and verify a file of tensors: its JSON header as it stands, tensors, digest.

    Raises: ModelFileError if the file is missing, foreign, truncated or changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path}: cannot be read as a model file, truncated or not a safetensors file ({error}). "
            "Copy it again from its source."
        ) from error
    if _HEADER not in metadata or _DIGEST not in metadata:
        raise ModelFileError(f"{path}: a safetensors file, but not one that medseg wrote (it has no header)")
    if digest_of(metadata[_HEADER], tensors) != metadata[_DIGEST]:
        raise ModelFileError(
            f"{path}: its SHA-256 does not match: the file was changed or damaged after it was written. "
            "Copy it again from its source."
        )
    return metadata[_HEADER], tensors, metadata[_DIGEST]


def find_model_file(path: Path) -> Path:
    """The model file of a run folder, or the file itself.

    Raises: ModelFileError if there is none.
    """
    path = Path(path)
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            state = "its training has not ended yet" if (path / "checkpoints").is_dir() else "not a run folder"
            raise ModelFileError(f"{path}: holds no model.safetensors ({state})")
        return inside
    return path


def _parse(path: Path, text: str) -> ModelHeader:
    raw = json.loads(text)
    if (kind := raw.get("format")) != "medseg-model":
        raise ModelFileError(f"{path}: holds a {kind}, imported from elsewhere; medseg infer runs it")
    if raw.get("format_version") == 1:  # the same content under other names
        text = json.dumps({**_upgrade(rename_keys(raw)), "format_version": FORMAT_VERSION})
    header = parse_header(path, text, ModelHeader)
    refuse_newer(path, header.format_version, FORMAT_VERSION)
    return header


def _upgrade(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header of version 1 whose ``targets``, the former name, are the label reader's fields."""
    targets: dict[str, Any] = header.pop("targets", {})
    reader = {name: value for name, value in targets.items() if name in LabelReader.model_fields}
    return {**header, "label_reader": reader}


def parse_header(path: Path, text: str, kind: type[Header]) -> Header:
    """A file's header of one kind. Raises: ModelFileError if it is none."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelFileError(
            f"{path}: its header is of another version of medseg than this one ({medseg_version()}): "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}. Use the version that wrote it."
        ) from error


def refuse_newer(path: Path, found: int, newest: int) -> None:
    """Raises: ModelFileError if a file's format is newer than what is known."""
    if found > newest:
        raise ModelFileError(
            f"{path}: format version {found}, this medseg reads up to {newest}. Update medseg."
        )


def digest_of(header: str, tensors: dict[str, torch.Tensor]) -> str:
    """The SHA-256 over a header and tensors."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
