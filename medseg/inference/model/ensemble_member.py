"""One model of a predictor: its file opened, its settings changed, its network on its device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from medseg.config.errors import explain
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, ModelFileError
from medseg.inference.backends import Backend, BackendInfo, BackendSetup, make_backend
from medseg.inference.model.model_file import LoadedModel, ModelHeader, find_model_file, load_model
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.finite_checks import check_weights
from medseg.inference.sliding_window.overlap_tile import Reach, reach_of
from medseg.inference.sliding_window.tta import check_unrecorded, check_variants
from medseg.models import InjectedConfig
from medseg.system.device import channels_last

ModelSource = Path | str | LoadedModel


@dataclass(frozen=True)
class Member:
    """One model: what its file says, its network on its device, what computes it, and how far the network sees
    if its tiles are to be exact.
    """

    path: Path
    header: ModelHeader
    network: nn.Module
    digest: str
    backend: Backend
    reach: Reach | None = None
    planned_backend: BackendInfo = field(init=False)
    """What was to compute before the first window decided, the same each time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "planned_backend", self.backend.info)

    @property
    def settings(self) -> tuple[InferenceConfig, ...]:
        """How it goes through a scan."""
        return (self.header.inference,)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it was read from."""
        return (self.path,)


@dataclass(frozen=True)
class Opening:
    """How models are opened.

    Attributes:
        setup: where they compute.
        backend: by what.
        settings: of ``inference``, other than the files'.
        model: the network of files that hold none; each gets a copy.
        force: whether flips and scales that the training did not use are allowed.
    """

    setup: BackendSetup
    backend: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: nn.Module | None = None
    force: bool = False


def open_member(file: ModelSource, opening: Opening) -> Member:
    """One model, ready to compute. Raises: ModelFileError, ConfigError."""
    setup, backend = opening.setup, opening.backend
    if isinstance(file, LoadedModel):
        path, (header, tensors, digest) = Path("the model"), file
    else:
        path = find_model_file(Path(file))
        header, tensors, digest = load_model(path)
    network = copy.deepcopy(opening.model) if opening.model is not None else _build(header, path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: its weights do not fit the network: {error}") from error
    check_weights(network, str(path))
    header = _with_settings(header, opening.settings, path, opening.force)
    network = network.eval().to(setup.device)
    if setup.device.type == "cuda" and setup.dtype is not None:  # as tensor cores want it
        network = network.to(memory_format=channels_last(header.task.spatial_dims))  # pyright: ignore[reportCallIssue]
    reach = None
    if header.inference.blend == "exact":
        if header.preprocess.slices is not None:
            raise ConfigError("inference.blend=exact: not for slices of volumes; use gaussian windows")
        if header.inference.skip_below is not None or header.inference.skip_above is not None:
            raise ConfigError(
                "inference.blend=exact: leaves no windows out; skip_below and skip_above need gaussian"
            )
        if backend == "openvino":
            raise ConfigError("inference.blend=exact: its tiles differ in size; use --backend torch")
        reach = reach_of(copy.deepcopy(network).to("meta"), header.spatial_dims, header.channels)
        backend, setup = "torch", replace(setup, dtype=None)  # tiles differ in size, and nothing may be rounded
    setup = replace(setup, one_size=header.inference.roi_size is not None and reach is None)
    return Member(path, header, network, digest, make_backend(backend, network, setup), reach)


def _with_settings(header: ModelHeader, settings: Mapping[str, Any], path: Path, force: bool) -> ModelHeader:
    """A header whose ``inference`` is changed."""
    changed = _changed(header, settings) if settings else header.inference
    if force:
        pass
    elif header.augmentation is not None:
        check_variants(changed, header.augmentation, str(path))
    else:
        check_unrecorded(changed, header.inference, str(path))
    return header.model_copy(update={"inference": changed})


def _changed(header: ModelHeader, settings: Mapping[str, Any]) -> InferenceConfig:
    """A header's ``inference`` with other settings. Raises: ConfigError if they do not suit the model."""
    try:
        changed = InferenceConfig.model_validate({**header.inference.model_dump(), **settings})
    except ValidationError as error:
        raise ConfigError("inference: " + "; ".join(explain(error, InferenceConfig))) from error
    lengths = {len(changed.roi_size or (0,) * header.spatial_dims)}
    if lengths != {header.spatial_dims} or any(axis >= header.spatial_dims for axis in changed.flips):
        raise ConfigError(f"inference: roi_size and flips are for {header.spatial_dims} axes in this model")
    first = 0 if header.labels.regions else header.labels.first_evaluated
    named = header.labels.class_names[first:]
    unknown = sorted(changed.postprocess.names - set(named))
    if unknown:
        raise ConfigError(f"inference.postprocess names {unknown}; the model finds {list(named)}")
    if changed.scales and header.spatial_dims != 2:
        raise ConfigError("inference: scales is for networks of two dimensions")
    return changed


def refuse_difference(first: Member, other: Member) -> None:
    """Raises: ModelFileError if two models cannot be averaged; ConfigError if settings that apply to the mean
    differ.
    """
    _check_common_settings(first, other)
    kinds = [
        {
            "dimensions": header.spatial_dims,
            "names of labels": ", ".join(header.labels.class_names),
            "labels": header.labels,
            "orientation": header.preprocess.orientation,
            "axis of slices": header.preprocess.slices and header.preprocess.slices.axis,
        }
        for header in (first.header, other.header)
    ]
    for name, one in kinds[0].items():
        two = kinds[1][name]
        if one != two:
            if isinstance(one, LabelSchema) and isinstance(two, LabelSchema):
                one, two = (_other_settings(a, b) for a, b in ((one, two), (two, one)))
            raise ModelFileError(
                f"{other.path}: its {name} are {two}, those of {first.path} {one}; an ensemble needs the same"
            )


def _check_common_settings(first: Member, other: Member) -> None:
    """Raises: ConfigError if two models' settings for the one result, or the one input, differ."""
    one, two = first.header.inference, other.header.inference
    same = {"postprocess": one.postprocess.does_as(two.postprocess), "level": one.level == two.level}
    for name, agree in same.items():
        if not agree:
            raise ConfigError(
                f"inference.{name}: {other.path} has {getattr(two, name)}, {first.path} "
                f"{getattr(one, name)}; an ensemble has one. Set it for all: --set {name}=…"
                + (" (--set 'postprocess={}' for no steps)" if name == "postprocess" else "")
            )


def _other_settings(labels: LabelSchema, other: LabelSchema) -> str:
    """The settings of labels that differ from another's."""
    there = other.model_dump()
    return ", ".join(f"{key}={value}" for key, value in labels.model_dump().items() if value != there[key])


def _build(header: ModelHeader, path: Path) -> nn.Module:
    if isinstance(header.model, InjectedConfig):
        raise ModelFileError(
            f"{path}: was trained with a network of your own, {header.model.class_name}, which the file does "
            "not hold. Load it from Python: Predictor(file, model=my_module)."
        )
    return header.model.build(header.task)
