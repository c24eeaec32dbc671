"""One model of an ensemble: its file, its settings and its network on its device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.errors import ConfigError, DataError, ModelFileError
from medseg.inference.backends import Backend, BackendInfo, BackendSetup, make_backend
from medseg.inference.model.cascade import SHARED_SETTINGS, split_stages
from medseg.inference.model.ensemble.file import is_ensemble_file, load_ensemble
from medseg.inference.model.header_settings import with_settings
from medseg.inference.model.model_file import LoadedModel, ModelHeader, find_model_file, load_model
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.finite_checks import check_weights
from medseg.inference.sliding_window.overlap_tile import ReceptiveField, measure_receptive_field
from medseg.models import CustomModelConfig
from medseg.models.detection import Detector
from medseg.system.device import to_channels_last
from medseg.task import Task

OwnNetwork = nn.Module | Callable[[Task], nn.Module]
"""A network of the user's own, or a function that builds it for a task."""


@dataclass(frozen=True)
class EnsembleMember:
    """A loaded model.

    Attributes:
        path: its file.
        header: the file's header, with the settings that replace its own.
        network: on its device, in evaluation mode.
        digest: SHA-256 of header and weights.
        backend: computes the network's logits.
        receptive_field: the network's, for overlap-tile inference; None for blended windows.
        first_stages: of a cascade, the models whose mean segmentation the network receives.
        planned_backend: the backend as chosen before the first window; the same for every result.
    """

    path: Path
    header: ModelHeader
    network: nn.Module
    digest: str
    backend: Backend
    receptive_field: ReceptiveField | None = None
    first_stages: tuple[EnsembleMember, ...] = ()
    planned_backend: BackendInfo = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "planned_backend", self.backend.info)

    @property
    def settings(self) -> tuple[InferenceConfig, ...]:
        """Inference settings of each stage."""
        return (*(stage.header.inference for stage in self.first_stages[:1]), self.header.inference)

    @property
    def stage_digests(self) -> tuple[str, ...]:
        """SHA-256 of header and weights of each model of the first stage; none without a cascade."""
        return tuple(stage.digest for stage in self.first_stages)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it was read from."""
        return (self.path,)

    @property
    def scan_dims(self) -> int:
        """Axes of the scans that it takes: 2 for pictures, 3 for volumes, also if it segments their slices."""
        return self.header.spatial_dims if self.header.preprocess.slices is None else 3

    def check_dimensions(self, scan: Scan) -> None:
        """Raise DataError if a scan is a picture and the model segments volumes, or the reverse."""
        if scan.spatial_dims == self.scan_dims:
            return
        wanted, hint = "volumes", "Use a model trained on pictures."
        if scan.kind == "volume":
            wanted, hint = "pictures", "Use a model trained on volumes, or on their slices (preprocess.slices)."
        model = self.path.parent if self.path.name == "model.safetensors" else self.path
        raise DataError(f"{scan.path}: a {scan.kind}, but the model {model} takes {wanted}", hint=hint)


ModelSource = Path | str | LoadedModel | EnsembleMember


@dataclass(frozen=True)
class MemberOptions:
    """How models are loaded.

    Attributes:
        setup: device and precision.
        backend: name of the backend.
        settings: settings of ``inference`` that replace those in the files.
        model: the network of files that hold only weights, of which each file gets a copy; or a function that
            builds it.
        force: allow flips and scales that the training did not use.
    """

    setup: BackendSetup
    backend: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    model: OwnNetwork | None = None
    force: bool = False


def load_members(source: ModelSource | Sequence[ModelSource], options: MemberOptions) -> list[EnsembleMember]:
    """Load one or several models, some of which may be ensembles in one file; errors as :func:`load_member`."""
    if isinstance(source, Path | str | LoadedModel | EnsembleMember):
        source = [source]
    members: list[EnsembleMember] = []
    for one in source:
        path = find_model_file(Path(one)) if isinstance(one, Path | str) else None
        if path is not None and is_ensemble_file(path):
            members += [load_member(model, options, path) for model in load_ensemble(path)[1]]
        else:
            members.append(load_member(one, options))
    return members


def load_member(file: ModelSource, options: MemberOptions, origin: Path = Path("the model")) -> EnsembleMember:
    """Load one model and move it to its device.

    Args:
        file: the model, or its file.
        options: how it is loaded.
        origin: file of a model that is loaded already.

    Raises:
        ModelFileError: the file is missing or damaged, or its weights do not fit the network.
        ConfigError: settings do not suit the model.
    """
    setup, backend = options.setup, options.backend
    if isinstance(file, EnsembleMember):
        return file
    if isinstance(file, LoadedModel):
        path, (header, tensors, digest) = origin, file
    else:
        path = find_model_file(Path(file))
        header, tensors, digest = load_model(path)
    own, first_stages = split_stages(header, tensors)
    network = _build(header, path, options.model)
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: the weights do not fit the network: {error}") from error
    check_weights(network, str(path))
    header = with_settings(header, options.settings, path, options.force)
    network = network.eval().to(setup.device)
    if setup.device.type == "cuda" and setup.dtype is not None:  # the memory layout that tensor cores need
        network = to_channels_last(network, header.task.spatial_dims)
    field = None
    if header.inference.blend == "exact":
        if header.preprocess.slices is not None:
            raise ConfigError(
                "inference.blend=exact: not available for slices of volumes",
                hint="Use inference.blend=gaussian.",
            )
        if header.inference.skip_below is not None or header.inference.skip_above is not None:
            raise ConfigError(
                "inference.blend=exact skips no windows; skip_below or skip_above is set",
                hint="Use inference.blend=gaussian.",
            )
        if backend == "openvino":
            raise ConfigError(
                "inference.blend=exact: tiles differ in size, which openvino does not support",
                hint="Use --backend torch.",
            )
        field = measure_receptive_field(
            copy.deepcopy(network).to("meta"), header.spatial_dims, header.task.in_channels
        )
        backend, setup = "torch", replace(setup, dtype=None)  # tiles differ in size; no rounding
    if isinstance(network, Detector):
        if backend == "openvino":
            raise ConfigError(f"{path}: detectors run with torch only", hint="Use --backend torch.")
        backend = "torch"
    setup = replace(setup, one_size=_one_size(header.inference) and field is None)
    stages = tuple(load_member(stage, _of_first_stage(options)) for stage in first_stages)
    return EnsembleMember(path, header, network, digest, make_backend(backend, network, setup), field, stages)


def _of_first_stage(options: MemberOptions) -> MemberOptions:
    """Return the options for the first stage of a cascade: the settings that both stages share."""
    settings = {name: value for name, value in options.settings.items() if name in SHARED_SETTINGS}
    return replace(options, settings=settings, model=None)


def _one_size(settings: InferenceConfig) -> bool:
    """Whether all windows have the same size."""
    return settings.roi_size is not None and settings.max_roi_size is None


def check_no_prompts(members: Sequence[EnsembleMember]) -> None:
    """Raise ModelFileError if a model waits for prompts, without which it cannot segment a scan."""
    for member in members:
        if member.header.prompts is not None:
            raise ModelFileError(
                f"{member.path}: the model segments what a user points at (task.name=prompts), not whole scans",
                hint="Use it in medseg annotate DATA --model RUN, or in Python with medseg.Interactive.",
                path=member.path,
            )


def check_same_task(first: EnsembleMember, other: EnsembleMember) -> None:
    """Check that two models can be averaged.

    Raises:
        ModelFileError: labels, dimensions or orientation differ.
        ConfigError: settings that apply to the mean differ.
    """
    _check_common_settings(first, other)
    kinds = [
        {
            "dimensions": header.spatial_dims,
            "names of labels": ", ".join(header.labels.class_names),
            "labels": header.labels,
            "orientation": header.preprocess.orientation,
            "instances": header.instances and header.instances.model_dump(exclude={"weight"}),
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
                f"{other.path}: {name}: got {two}, expected {one} as in {first.path}; models of an ensemble "
                "must agree"
            )


def _check_common_settings(first: EnsembleMember, other: EnsembleMember) -> None:
    """Raise ConfigError if two models' settings for the common result or the common input differ."""
    one, two = first.header.inference, other.header.inference
    same = {
        "postprocess": one.postprocess.is_equivalent_to(two.postprocess),
        "thresholds": one.thresholds == two.thresholds,
        "level": one.level == two.level,
        "rescale": one.rescale == two.rescale,
    }
    for name, agree in same.items():
        if not agree:
            raise ConfigError(
                f"inference.{name}: {other.path} has {getattr(two, name)}, {first.path} has "
                f"{getattr(one, name)}; models of an ensemble must agree",
                hint=f"Set it for all models: --set {name}=…"
                + (" (--set 'postprocess={}' for no steps)" if name == "postprocess" else ""),
            )


def _other_settings(labels: LabelSchema, other: LabelSchema) -> str:
    """Return the settings of labels that differ from another's, as text."""
    there = other.model_dump()
    return ", ".join(f"{key}={value}" for key, value in labels.model_dump().items() if value != there[key])


def _build(header: ModelHeader, path: Path, own: OwnNetwork | None) -> nn.Module:
    """Return the network that a header describes, or the user's own."""
    if isinstance(own, nn.Module):
        return copy.deepcopy(own)
    if own is not None:
        return own(header.task)
    if isinstance(header.model, CustomModelConfig):
        raise ModelFileError(
            f"{path}: was trained with the custom network {header.model.class_name}, which the file does not "
            "contain",
            hint="Name it on the command line (--network module:Class), or pass it in Python: "
            "Predictor(file, model=my_module).",
            path=path,
        )
    return header.model.build(header.task)
