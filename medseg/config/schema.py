"""``RunConfig``: all settings of a run, loaded from YAML and dotted overrides and validated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from medseg.config.base import Spec
from medseg.config.errors import explain
from medseg.config.instances import DETECTORS, fill_instances
from medseg.config.loading import (
    MergeRules,
    apply_override,
    check_overrides,
    plain,
    read_settings,
    resolve_paths,
    sort_overrides,
)
from medseg.config.tasks import MONITORS, TaskConfig, check_prompts, fill_prompts
from medseg.data.augmentation.options import AugmentConfig
from medseg.data.augmentation.presets import PresetName, augmentation_preset
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.options import DataConfig
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.inference.options import InferenceConfig
from medseg.instances.options import InstanceTask, SemanticTask
from medseg.losses import LossConfig, default_loss
from medseg.models import AnyModelConfig, UNetConfig
from medseg.models.pretrained.loading import WeightsConfig
from medseg.prompts.options import PromptTask
from medseg.task import Activation
from medseg.training.cascade.options import CascadeConfig
from medseg.training.options import TrainConfig


class RunConfig(Spec):
    """All settings of a run, with the same names in YAML and in Python.

    Attributes:
        seed: of the initial weights, the split, the patches and the augmentation.
        spatial_dims: 2 for pictures and slices, 3 for volumes.
        data: the cases and what their labels mean.
        preprocess: how a scan becomes the input of the network.
        sampling: how patches are drawn.
        augment: how patches are augmented; the name of a preset, or settings over one.
        task: what the network predicts: the class of each voxel, each object on its own, or the object that
            prompts point at.
        model: the network.
        weights: pretrained weights to start from.
        activation: ``softmax`` for classes that exclude each other, ``sigmoid`` for regions that may overlap;
            by default it follows from the labels.
        loss: the loss function.
        train: the training loop.
        inference: the sliding window, used for validation and stored in the model file.
        cascade: a first stage at low resolution; if None, there is one network.

    Example:
        >>> config = RunConfig.model_validate({"spatial_dims": 2, "train": {"epochs": 3}})
        >>> config.train.epochs, config.sampling.patch_size
        (3, (256, 256))
    """

    seed: int = Field(default=0, ge=0)
    spatial_dims: Literal[2, 3] = 3
    data: DataConfig = DataConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    sampling: SamplingConfig = SamplingConfig(patch_size=(64, 64, 64))
    augment: AugmentConfig = augmentation_preset("3d")
    task: TaskConfig = SemanticTask()
    model: AnyModelConfig = UNetConfig()
    weights: WeightsConfig = WeightsConfig()
    activation: Activation | None = None
    loss: LossConfig = default_loss()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    cascade: CascadeConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_by_dims(cls, data: Any) -> Any:
        """Fill in the defaults that depend on ``spatial_dims``: patch size and augmentation preset."""
        if not isinstance(data, dict):
            return data
        filled: dict[str, Any] = dict(cast(dict[str, Any], data))
        dims: int = 2 if filled.get("spatial_dims") == 2 else 3
        sampling: Any = filled.get("sampling") or {}
        if isinstance(sampling, dict) and "patch_size" not in sampling:
            size = (256, 256) if dims == 2 else (64, 64, 64)
            filled["sampling"] = {"patch_size": size, **cast(dict[str, Any], sampling)}
        if not isinstance(filled.get("augment"), AugmentConfig):
            filled["augment"] = _augment(filled.get("augment"), f"{dims}d")
        return fill_prompts(fill_instances(filled))

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self._check_dimensions()
        self._check_axes()
        self._check_labels()
        self._check_monitor()
        if isinstance(self.task, PromptTask):
            check_prompts(self)
        if isinstance(self.task, InstanceTask):
            self._check_instances()
        detector = self.model.name in DETECTORS
        if detector != (isinstance(self.task, InstanceTask) and self.task.decoder == "boxes"):
            raise ValueError(
                f"model.name={self.model.name} and task do not match: {' and '.join(DETECTORS)} need "
                "task.name=instances with task.decoder=boxes, and no other architecture has it"
            )
        return self

    def _check_dimensions(self) -> None:
        """Raise ValueError for settings of networks with another number of axes, or that exclude each other."""
        if self.inference.roi_size is not None and self.inference.max_roi_size is not None:
            raise ValueError(
                "inference.roi_size: a fixed size excludes inference.max_roi_size; set one of them to null"
            )
        if self.preprocess.slices is not None and self.spatial_dims != 2:
            raise ValueError("preprocess.slices cuts volumes into slices for 2D networks; set spatial_dims=2")
        if self.cascade is not None and self.spatial_dims != 3:
            raise ValueError("cascade: is for volumes and 3D networks; set spatial_dims=3, or leave it out")
        if self.cascade is not None and self.train.unlabeled is not None:
            raise ValueError("cascade: not possible with train.unlabeled; leave one of them out")

    def _check_axes(self) -> None:
        """Raise ValueError for sizes and flips that do not fit ``spatial_dims``."""
        sizes = {
            "sampling.patch_size": self.sampling.patch_size,
            "inference.roi_size": self.inference.roi_size,
            "inference.max_roi_size": self.inference.max_roi_size,
            "preprocess.spacing": self.preprocess.spacing,
        }
        volumes = self.spatial_dims == 3 or self.preprocess.slices is not None
        for key, value in sizes.items():
            axes = 3 if key == "preprocess.spacing" and volumes else self.spatial_dims
            if value is not None and len(value) != axes:
                raise ValueError(f"{key} has {len(value)} numbers, expected {axes} (spatial_dims is "
                                 f"{self.spatial_dims})")  # fmt: skip
        flips = {"augment.flip.axes": self.augment.flip.axes, "inference.flips": self.inference.flips}
        for key, axes in flips.items():
            bad_axes = [axis for axis in axes if not 0 <= axis < self.spatial_dims]
            if bad_axes:
                raise ValueError(f"{key}: a {self.spatial_dims}D patch has no axes {bad_axes}")
        if self.inference.scales and self.spatial_dims != 2:
            raise ValueError("inference.scales is for 2D networks; leave it out, or set spatial_dims=2")

    def _check_labels(self) -> None:
        """Raise ValueError for settings under which pairs of labels or regions have no meaning."""
        if self.data.labels.pairs and self.preprocess.orientation == "native":
            raise ValueError(
                "data.labels.pairs needs preprocess.orientation=RAS: without it the left side is unknown"
            )
        if self.data.labels.pairs and self.sampling.border == "reflect":
            raise ValueError(
                "sampling.border=reflect continues scans by mirror images, in which data.labels.pairs are "
                "exchanged; use sampling.border=zeros"
            )
        if self.data.labels.regions and self.activation == "softmax":
            raise ValueError(
                "data.labels.regions may overlap, so they need activation=sigmoid; set it or leave it out"
            )

    def _check_monitor(self) -> None:
        """Raise ValueError for a score that the validation does not have."""
        monitor = self.train.monitor
        if isinstance(self.task, PromptTask):
            names, expected = MONITORS, ", ".join(MONITORS)
            known = monitor in names
        else:
            names = ("dice", "iou", *(("instances",) if isinstance(self.task, InstanceTask) else ()))
            expected = ", ".join((*names, "dice:LABEL or iou:LABEL"))
            known = monitor.split(":")[0] in names
        if not known:
            raise ValueError(f"train.monitor: expected {expected}, got {monitor!r}")

    def _check_instances(self) -> None:
        """Raise ValueError for settings that are not possible if objects are separated."""
        refused = {
            "activation=sigmoid": self.activation == "sigmoid",
            "cascade": self.cascade is not None,
            "train.unlabeled": self.train.unlabeled is not None,
            "inference.scales": bool(self.inference.scales),
            "inference.blend=exact": self.inference.blend == "exact",
            "inference.postprocess": bool(self.inference.postprocess.names),
            "data.labels.background=false": self.data.labels.background is False,
        }
        used = [name for name, value in refused.items() if value]
        if used:
            raise ValueError(f"task.name=instances: not possible with {' and '.join(used)}; leave them out")
        decoder = self.task.decoder if isinstance(self.task, InstanceTask) else None
        if decoder == "boxes" and self.inference.flips:
            raise ValueError("inference.flips: not possible with detectors; leave it out")
        if self.preprocess.slices is not None and decoder != "distance":
            raise ValueError(
                f"task.decoder={decoder}: a 2D network cannot find the objects of volumes (preprocess.slices); "
                "set spatial_dims=3, or task.decoder=distance"
            )

    @property
    def roi_size(self) -> tuple[int, ...]:
        """The size of the sliding window in voxels: ``inference.roi_size``, by default the patch size."""
        return self.inference.roi_size or self.sampling.patch_size


def load_config(
    source: Path | str | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Load settings from a YAML file or a mapping, apply overrides, and validate the result.

    A file may extend another one with ``base: FILE``: its settings are merged over those of the base. A block
    with another ``name`` replaces the whole block, in a file as in an override.

    Args:
        source: a YAML file or nested mappings; if None, the defaults.
        overrides: ``key.sub=value`` with a YAML value, in any order.

    Raises:
        ConfigError: names every wrong setting, what was expected and, for an unknown key, the nearest key; or
            says which argument is of another type.

    Example:
        >>> config = load_config({"train": {"epochs": 10}}, ["train.batch_size=4"])
        >>> config.train.epochs, config.train.batch_size
        (10, 4)
    """
    check_overrides(overrides)
    _check_source(source)
    where = "the configuration"
    raw: dict[str, Any] = {}
    if isinstance(source, str | Path):
        where = str(source)
        raw = read_settings(Path(source), _merge_rules())
    elif source is not None:
        raw = plain(source)
    for override in sort_overrides(overrides):
        apply_override(raw, override, _merge_rules())
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = explain(error, RunConfig)
        several = f"{len(lines)} settings are wrong:\n  " if len(lines) > 1 else ""
        raise ConfigError(f"{where}: {several}" + "\n  ".join(lines)) from error


def check_run_config(config: object) -> None:
    """Check that a function that takes loaded settings is not given their file. Raises: ConfigError."""
    if not isinstance(config, RunConfig):
        raise ConfigError(
            f"config is {config!r}, expected a RunConfig",
            hint="load_config returns one, for a file or for nested mappings.",
        )


def _check_source(source: object) -> None:
    if isinstance(source, RunConfig):
        raise ConfigError(
            "source is a RunConfig, expected a YAML file, nested mappings or None",
            hint="To change settings of a RunConfig, give config.model_dump(mode='json').",
        )
    if not isinstance(source, str | Path | Mapping | None):
        raise ConfigError(f"source is {source!r}, expected a YAML file, nested mappings or None")


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return settings that mean the same in every folder: relative paths are below the working directory."""
    raw = config.model_dump(mode="json")
    resolve_paths(raw, Path.cwd(), _merge_rules().paths)
    return RunConfig.model_validate(raw)


def to_yaml(config: RunConfig) -> str:
    """Format settings as YAML, with all defaults."""
    yaml = YAML()
    yaml.default_flow_style = None  # short lists on one line
    yaml.width = 110
    stream = StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()


def _augment(block: object, by_dims: str) -> object:
    """Merge an ``augment`` block over the preset that it names, or over the preset for its dimension."""
    if block is None or isinstance(block, str):
        block = {"preset": block or by_dims}
    if not isinstance(block, dict):
        return block
    own = dict(cast(dict[str, Any], block))
    name = own.pop("preset", by_dims)
    if name == "robust":
        name = f"{by_dims}_robust"
    if name not in get_args(PresetName):
        expected = ", ".join(get_args(PresetName)[:-1])
        raise ValueError(f"augment: {name!r} is not a preset; expected robust, {expected} or none")
    return _merge(augmentation_preset(cast(PresetName, name)).model_dump(), own)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        nested = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merge(cast(dict[str, Any], below), cast(dict[str, Any], value)) if nested else value
    return merged


@cache
def _merge_rules() -> MergeRules:
    return MergeRules.of(RunConfig, RunConfig())
