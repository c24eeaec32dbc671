"""``RunConfig``: everything a run depends on, from YAML and dotted overrides, in one validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from medseg.config.base import Spec
from medseg.config.errors import explain
from medseg.config.loading import apply_override, in_order, plain, read_settings
from medseg.data.loading.augmentation import AugmentConfig, preset
from medseg.data.loading.sampling import SamplingConfig
from medseg.data.options import DataConfig
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.inference.options import InferenceConfig
from medseg.losses import LossConfig, default_loss
from medseg.models import ModelConfig, UNetConfig
from medseg.models.pretrained.loading import WeightsConfig
from medseg.task import Activation
from medseg.training.options import TrainConfig


class RunConfig(Spec):
    """Everything a run depends on. What YAML can say, Python can say with the same names."""

    seed: int = Field(default=0, ge=0)
    spatial_dims: Literal[2, 3] = 3
    data: DataConfig = DataConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    sampling: SamplingConfig = SamplingConfig(patch_size=(64, 64, 64))
    augment: AugmentConfig = preset("3d")
    model: ModelConfig = UNetConfig()
    weights: WeightsConfig = WeightsConfig()
    activation: Activation | None = None
    loss: LossConfig = default_loss()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_by_dims(cls, data: Any) -> Any:
        """Defaults that depend on the dimension: patch size and augmentation preset."""
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
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        sizes = {
            "sampling.patch_size": self.sampling.patch_size,
            "inference.roi_size": self.inference.roi_size,
            "preprocess.spacing": self.preprocess.spacing,
        }
        slices = self.preprocess.slices
        if slices is not None and self.spatial_dims != 2:
            raise ValueError(
                "preprocess.slices cuts volumes for networks of two dimensions: set spatial_dims=2"
            )
        for key, value in sizes.items():
            axes = 3 if key == "preprocess.spacing" and slices is not None else self.spatial_dims
            if value is not None and len(value) != axes:
                raise ValueError(f"{key} has {len(value)} numbers, expected {axes} (spatial_dims is "
                                 f"{self.spatial_dims})")  # fmt: skip
        flips = {"augment.flip.axes": self.augment.flip.axes, "inference.flips": self.inference.flips}
        for key, axes in flips.items():
            bad_axes = [axis for axis in axes if not 0 <= axis < self.spatial_dims]
            if bad_axes:
                raise ValueError(f"{key}: {bad_axes} are no axes of a {self.spatial_dims}D patch")
        if self.inference.scales and self.spatial_dims != 2:
            raise ValueError("inference.scales is for networks of two dimensions")
        if self.data.pairs and self.preprocess.orientation == "native":
            raise ValueError("data.pairs needs preprocess.orientation=RAS: else nobody knows left from right")
        if self.data.regions and self.activation == "softmax":
            raise ValueError("regions may overlap, so data.regions needs activation: sigmoid (or leave it out)")
        if self.train.monitor.split(":")[0] not in ("dice", "iou"):
            raise ValueError(f"train.monitor: {self.train.monitor!r} is not dice, iou, dice:LABEL or iou:LABEL")
        return self

    @property
    def roi_size(self) -> tuple[int, ...]:
        """The sliding window's size."""
        return self.inference.roi_size or self.sampling.patch_size


def load_config(
    source: Path | str | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Read a YAML file (or take a mapping), apply ``key.sub=value`` overrides, validate once.

    A file may stand on another, ``base: FILE``: its own settings go over that one's. Overriding a union's
    ``name`` replaces its block, here as there. Values of overrides are YAML; an override of a block
    comes before those of its settings, whatever the order they are given in.
    Raises: ConfigError naming each wrong setting, what was expected and, for an unknown key, the nearest.
    """
    where = "the configuration"
    raw: dict[str, Any] = {}
    if isinstance(source, str | Path):
        where = str(source)
        raw = read_settings(Path(source), _default_name)
    elif source is not None:
        raw = plain(source)
    for override in in_order(overrides):
        apply_override(raw, override, _default_name)
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = explain(error, RunConfig)
        several = f"{len(lines)} settings are wrong:\n  " if len(lines) > 1 else ""
        raise ConfigError(f"{where}: {several}" + "\n  ".join(lines)) from error


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, every default spelled out."""
    yaml = YAML()
    yaml.default_flow_style = None  # short lists on one line
    yaml.width = 110
    stream = StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()


def _augment(block: object, by_dims: str) -> object:
    """Merge an ``augment`` block over the preset it names, or over the one of its dimension."""
    if block is None or isinstance(block, str):
        block = {"preset": block or by_dims}
    if not isinstance(block, dict):
        return block
    own = dict(cast(dict[str, Any], block))
    name = own.pop("preset", by_dims)
    if name not in ("2d", "3d", "none"):
        raise ValueError(f"augment: {name!r} is no preset; known: 2d, 3d, none")
    return _merge(preset(name).model_dump(), own)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        nested = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merge(cast(dict[str, Any], below), cast(dict[str, Any], value)) if nested else value
    return merged


def _default_name(parents: Sequence[str]) -> str | None:
    """The ``name`` that the block at a place has where none is given."""
    block: Any = RunConfig()
    for key in parents:
        block = getattr(block, key, None)
    return getattr(block, "name", None)
