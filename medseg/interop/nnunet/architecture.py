"""Read the network architecture of an nnU-Net configuration, in the format of releases up to 2.2 or later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg.errors import ModelFileError
from medseg.interop.nnunet.header import Architecture, Widths

_KINDS: dict[str, Literal["plain", "residual"]] = {
    "PlainConvUNet": "plain",
    "ResidualEncoderUNet": "residual",
}
_NORMS: dict[str, Literal["instance", "batch"]] = {
    "InstanceNorm2d": "instance",
    "InstanceNorm3d": "instance",
    "BatchNorm2d": "batch",
    "BatchNorm3d": "batch",
}
_ACTIVATIONS: dict[str, Literal["leaky_relu", "relu"]] = {"LeakyReLU": "leaky_relu", "ReLU": "relu"}

Name = TypeVar("Name", bound=str)
PerAxis = int | tuple[int, ...]
PerStage = int | tuple[PerAxis, ...]


class _Arguments(BaseModel):
    """Arguments of the network class; classes are given by their dotted names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_stages: int
    features_per_stage: int | tuple[int, ...]
    conv_op: str
    kernel_sizes: PerStage
    strides: PerStage
    n_conv_per_stage: int | tuple[int, ...] | None = None
    n_blocks_per_stage: int | tuple[int, ...] | None = None
    n_conv_per_stage_decoder: int | tuple[int, ...]
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: dict[str, Any] | None = None
    dropout_op: str | None = None
    dropout_op_kwargs: dict[str, Any] | None = None
    nonlin: str | None = None
    nonlin_kwargs: dict[str, Any] | None = None
    deep_supervision: bool = False
    nonlin_first: bool = False
    stem_channels: int | None = None


def read_architecture(
    configuration: Mapping[str, Any], dims: int, *, batch_norm: bool, where: Path
) -> Architecture:
    """Read the planned network.

    Args:
        configuration: entry of ``configurations`` in the plans.
        dims: number of spatial dimensions.
        batch_norm: whether the trainer replaced the planned normalization by batch normalization.
        where: file of the plans, for messages.

    Raises:
        ModelFileError: a class or argument is not supported.
    """
    try:
        block = configuration.get("architecture")
        name = str(block["network_class_name"] if block else configuration["UNet_class_name"]).split(".")[-1]
        if name not in _KINDS:
            raise ModelFileError(
                f"{where}: network class {name} is not supported, only {', '.join(_KINDS)}", path=where
            )
        arguments = _Arguments.model_validate(
            block["arch_kwargs"] if block else _legacy_arguments(configuration, name, dims)
        )
    except KeyError as error:
        raise ModelFileError(f"{where}: the plans lack {error} of the network", path=where) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelFileError(f"{where}: arch_kwargs.{key}: {first['msg']}") from error
    if arguments.conv_op.split(".")[-1] != f"Conv{dims}d":
        raise ModelFileError(f"{where}: conv_op {arguments.conv_op} with a patch of {dims} axes")
    try:
        return _architecture(_KINDS[name], arguments, dims, batch_norm)
    except (ValidationError, ValueError, KeyError) as error:
        raise ModelFileError(f"{where}: the network {name} cannot be built: {error}") from error


def _architecture(
    kind: Literal["plain", "residual"], arguments: _Arguments, dims: int, batch_norm: bool
) -> Architecture:
    stages = arguments.n_stages
    kind_of_norm = "batch" if batch_norm else _lookup(arguments.norm_op, _NORMS)
    norm = {"affine": kind_of_norm == "batch", **(arguments.norm_op_kwargs or {})}
    if batch_norm:
        norm = {"affine": True}
    activation = dict(arguments.nonlin_kwargs or {})
    activation.pop("inplace", None)
    blocks = arguments.n_conv_per_stage if kind == "plain" else arguments.n_blocks_per_stage
    if blocks is None:
        raise ValueError("the number of convolutions or blocks of each stage is missing")
    architecture = Architecture(
        kind=kind,
        features=_per_stage(arguments.features_per_stage, stages),
        kernels=_widths(arguments.kernel_sizes, stages, dims),
        strides=_widths(arguments.strides, stages, dims),
        blocks=_per_stage(blocks, stages),
        decoder_convs=_per_stage(arguments.n_conv_per_stage_decoder, stages - 1),
        bias=arguments.conv_bias,
        norm=kind_of_norm or "none",
        epsilon=norm.pop("eps", 1e-5),
        affine=norm.pop("affine"),
        activation=_lookup(arguments.nonlin, _ACTIVATIONS) or "none",
        slope=activation.pop("negative_slope", 0.01),
        activation_first=arguments.nonlin_first,
        stem=arguments.stem_channels,
    )
    unsupported = {**{k: v for k, v in norm.items() if k != "momentum"}, **activation}
    if unsupported:
        raise ValueError(f"options {unsupported} of the normalization or activation are not supported")
    return architecture


def _lookup(dotted: str | None, table: Mapping[str, Name]) -> Name | None:
    if dotted is None:
        return None
    name = dotted.split(".")[-1]
    if name not in table:
        raise ValueError(f"{dotted} is not supported, only {', '.join(table)}")
    return table[name]


def _per_stage(value: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    values = (value,) * count if isinstance(value, int) else value
    if len(values) != count:
        raise ValueError(f"{count} stages, but {len(values)} numbers {values}")
    return values


def _widths(value: PerStage, stages: int, dims: int) -> tuple[Widths, ...]:
    values = (value,) * stages if isinstance(value, int) else value
    widths = tuple((one,) * dims if isinstance(one, int) else one for one in values)
    if len(widths) != stages or any(len(one) != dims for one in widths):
        raise ValueError(f"{stages} stages of {dims} axes, but {values}")
    return widths


def _legacy_arguments(configuration: Mapping[str, Any], name: str, dims: int) -> dict[str, Any]:
    """The arguments that releases up to 2.2 derived from the entries of a configuration."""
    convs = configuration["n_conv_per_stage_encoder"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return {
        "n_stages": len(convs),
        "features_per_stage": [min(base * 2**i, most) for i in range(len(convs))],
        "conv_op": f"Conv{dims}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": convs,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "LeakyReLU",
    }
