"""The model file ``model.safetensors``: the weights of a network and the settings needed to use them.

The metadata contain a JSON header and a SHA-256 over header and tensors. Loading runs no code from the file.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

from medseg.config.base import Spec
from medseg.config.renamed import rename_keys
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.masks import mask_count, mirrored_inputs
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ModelFileError
from medseg.files import write_atomic
from medseg.inference.options import InferenceConfig
from medseg.inference.shift.fingerprint import TrainingFingerprint
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.instances.heads.base import InstanceHead, build_head
from medseg.instances.options import InstanceTask
from medseg.models import AnyModelConfig
from medseg.prompts.encoding import PROMPT_CHANNELS
from medseg.prompts.options import PromptTask
from medseg.system.version import medseg_version
from medseg.task import Task

Header = TypeVar("Header", bound=Spec)

FORMAT_VERSION = 2
_HEADER, _DIGEST = "medseg", "sha256"

OBJECT_LABELS = LabelSchema(names={"background": (0,), "object": (1,)})
"""Labels of the result of a network that answers prompts."""


class ModelHeader(Spec):
    """Header of a model file: describes the network and how to use it.

    Attributes:
        format: kind of the file.
        format_version: version of the file format.
        medseg_version: version of medseg that wrote the file.
        spatial_dims: number of spatial axes of the images, 2 or 3.
        channels: number of image channels.
        labels: labels that the model predicts.
        instances: how objects are separated; None if the model predicts classes only.
        prompts: how a model that answers prompts was trained; None for other models. The labels are then those
            of its result, background and object.
        preprocess: preprocessing, with all values that were fitted to the training data.
        inference: inference settings; ``roi_size`` is set to the training's patch size.
        model: configuration of the network.
        label_reader: how the label files of the training were read.
        augmentation: mirrors, rotations and scales that the training used. None in files of earlier versions.
        fingerprint: what the training cases look like; without paths and identities. None in files of earlier
            versions and of published networks.
        training: summary of the training: version, split sizes, score, seed; without paths and identities.
        first_stages: of a cascade, the headers of the networks whose mean segmentation this one receives as
            further channels. Their weights have names that begin with ``first_stage.0.``, ``first_stage.1.`` …
    """

    format: Literal["medseg-model"] = "medseg-model"
    format_version: int = FORMAT_VERSION
    medseg_version: str = Field(default_factory=medseg_version)
    spatial_dims: Literal[2, 3]
    channels: int
    labels: LabelSchema
    instances: InstanceTask | None = None
    prompts: PromptTask | None = None
    preprocess: PreprocessConfig
    inference: InferenceConfig
    model: AnyModelConfig
    label_reader: LabelReader = AS_STORED
    augmentation: TrainedAugmentation | None = None
    fingerprint: TrainingFingerprint | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    first_stages: tuple[ModelHeader, ...] = ()

    @property
    def masks(self) -> int:
        """Number of masks that the network receives as further channels."""
        return mask_count(self.labels) if self.first_stages else 0

    @property
    def mirrored_inputs(self) -> tuple[int, ...]:
        """For each channel of the input the one it becomes in a mirror image; empty if none changes."""
        return mirrored_inputs(self.channels, self.labels) if self.first_stages else ()

    @property
    def thresholds(self) -> list[float] | None:
        """Probability above which each region, or the second of two classes, is present; None for 0.5."""
        chosen = self.inference.thresholds
        return [chosen.get(name, 0.5) for name in self.labels.class_names] if chosen else None

    @property
    def thresholded(self) -> tuple[str, ...]:
        """Names of the labels that can have a threshold: regions, or the only label beside the background."""
        names = self.labels.class_names
        if self.labels.regions:
            return names
        return names[1:] if len(names) == 2 and self.labels.background else ()

    @property
    def task(self) -> Task:
        """Input and output of the network."""
        task = task_for(self.spatial_dims, self.channels, self.labels, self.preprocess, self.masks)
        return with_maps(task, self.head) if self.prompts is None else prompt_task(task)

    @property
    def head(self) -> InstanceHead | None:
        """The dense head whose maps follow the classes in the network's output; None without."""
        return None if self.instances is None else build_head(self.instances, self.spatial_dims)


def task_for(
    spatial_dims: int, channels: int, labels: LabelSchema, preprocess: PreprocessConfig, masks: int = 0
) -> Task:
    """Describe the input and output of a network for these images and labels.

    Args:
        spatial_dims: number of spatial axes of the images, 2 or 3.
        channels: number of image channels.
        labels: labels that the network predicts.
        preprocess: preprocessing; if the network takes slices of volumes, neighboring slices become channels.
        masks: number of masks that are further channels.
    """
    thickness = preprocess.slices.thickness if preprocess.slices is not None else 1
    dims = 2 if spatial_dims == 2 else 3
    return Task(dims, channels * thickness + masks, labels.num_classes, labels.activation, labels.background)


def with_maps(task: Task, head: InstanceHead | None) -> Task:
    """Return the task of a network that predicts the maps of a dense head, if given, after the classes."""
    return task if head is None else replace(task, num_classes=task.num_classes + head.channels)


def prompt_task(task: Task) -> Task:
    """Return the task of a network that receives prompts beside the image, and predicts one object."""
    channels = task.in_channels + PROMPT_CHANNELS
    return replace(task, in_channels=channels, num_classes=2, activation="softmax", background=True)


class LoadedModel(NamedTuple):
    """A model in memory.

    Attributes:
        header: header of the file.
        tensors: weights by name.
        digest: SHA-256 over header and tensors.
    """

    header: ModelHeader
    tensors: dict[str, torch.Tensor]
    digest: str


def save_model(path: Path, header: ModelHeader, state: dict[str, torch.Tensor]) -> str:
    """Write a model file atomically.

    Args:
        path: the file to write.
        header: description of the model.
        state: the network's ``state_dict()``.

    Returns:
        The digest: SHA-256 over header and tensors.
    """
    return write_tensors(path, header.model_dump_json(), state)


def write_tensors(path: Path, header: str, state: dict[str, torch.Tensor]) -> str:
    """Write tensors with a JSON header atomically and return the digest of both."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    digest = digest_of(header, tensors)
    with write_atomic(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: header, _DIGEST: digest})
        temporary.chmod(0o644)  # safetensors makes it readable by its owner only
    return digest


def load_model(path: Path) -> tuple[ModelHeader, dict[str, torch.Tensor], str]:
    """Read and verify a model file.

    Returns:
        Header, tensors by name, and digest.

    Raises:
        ModelFileError: the file is missing, foreign, truncated, has changed since it was written, or has a
            newer format.
    """
    text, tensors, digest = read_tensors(path)
    return _parse(path, text), tensors, digest


def read_header(path: Path) -> str | None:
    """Read the JSON header of a file without verifying it; None if medseg did not write the file."""
    try:
        with _open_tensors(path) as file:
            return (file.metadata() or {}).get(_HEADER)
    except (SafetensorError, OSError, ValueError):
        return None


def read_header_fields(path: Path) -> dict[str, Any]:
    """Read the JSON header of a file as a table, unverified; empty if medseg did not write it."""
    try:
        return json.loads(read_header(path) or "{}")
    except ValueError:
        return {}


def read_tensors(path: Path) -> tuple[str, dict[str, torch.Tensor], str]:
    """Read and verify a file of tensors.

    Returns:
        JSON header as text, tensors by name, and digest.

    Raises:
        ModelFileError: the file is missing, foreign, truncated, or has changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file", path=path)
    try:
        with _open_tensors(path) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path}: cannot be read as a model file: truncated or not a safetensors file ({error})",
            hint="Copy it again from its source.",
            path=path,
        ) from error
    if _HEADER not in metadata or _DIGEST not in metadata:
        raise ModelFileError(f"{path}: safetensors file without the header that medseg writes", path=path)
    if digest_of(metadata[_HEADER], tensors) != metadata[_DIGEST]:
        raise ModelFileError(
            f"{path}: SHA-256 does not match, so the file was changed or damaged after it was written",
            hint="Copy it again from its source.",
            path=path,
        )
    return metadata[_HEADER], tensors, metadata[_DIGEST]


class _TensorFile(Protocol):
    """An open file of tensors, as safetensors gives it."""

    def metadata(self) -> dict[str, str] | None: ...

    def keys(self) -> list[str]: ...

    def get_tensor(self, name: str, /) -> torch.Tensor: ...


def _open_tensors(path: Path) -> AbstractContextManager[_TensorFile]:
    untyped: Any = safe_open
    return untyped(path, framework="pt")


def find_model_file(path: Path) -> Path:
    """Return the model file of a run folder, or ``path`` itself if it is not a folder.

    Raises:
        ModelFileError: the folder contains no model file.
    """
    path = Path(path)
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            state = "its training has not finished" if (path / "checkpoints").is_dir() else "not a run folder"
            raise ModelFileError(f"{path}: contains no model.safetensors ({state})", path=path)
        return inside
    return path


def _parse(path: Path, text: str) -> ModelHeader:
    raw = json.loads(text)
    if (kind := raw.get("format")) != "medseg-model":
        what = "several models" if kind == "medseg-ensemble" else "an imported model"
        raise ModelFileError(
            f"{path}: contains a {kind}, {what}; expected a medseg-model",
            hint="Use it with medseg infer.",
            path=path,
        )
    if raw.get("format_version") == 1:  # the same content with other key names
        text = json.dumps({**_upgrade(rename_keys(raw)), "format_version": FORMAT_VERSION})
    header = parse_header(path, text, ModelHeader)
    check_format_version(path, header.format_version, FORMAT_VERSION)
    return header


def _upgrade(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header of version 1 whose ``targets``, the former name, are the label reader's fields."""
    targets: dict[str, Any] = header.pop("targets", {})
    reader = {name: value for name, value in targets.items() if name in LabelReader.model_fields}
    return {**header, "label_reader": reader}


def parse_header(path: Path, text: str, kind: type[Header]) -> Header:
    """Parse a JSON header.

    Args:
        path: the file, for messages.
        text: the header.
        kind: class of the header.

    Raises:
        ModelFileError: the header does not match the class.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelFileError(
            f"{path}: the header does not match this version of medseg ({medseg_version()}): "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="Use the version that wrote the file.",
            path=path,
        ) from error


def check_format_version(path: Path, version: int, newest: int) -> None:
    """Raise ModelFileError if a file's format is newer than the newest that this version reads."""
    if version > newest:
        raise ModelFileError(
            f"{path}: format version {version}; this version of medseg reads up to {newest}",
            hint="Update medseg.",
            path=path,
        )


def digest_of(header: str, tensors: dict[str, torch.Tensor]) -> str:
    """Compute the SHA-256 over a header and tensors: names, types, shapes and values."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
