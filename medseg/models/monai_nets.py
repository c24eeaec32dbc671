"""MONAI's networks with typed settings: SegResNet, DynUNet, VNet, MedNeXt, SwinUNETR, UNETR.

Each is wrapped in a ``SegmentationNetwork``, which pads images of any size to one that the network accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from medseg.errors import ConfigError
from medseg.model_output import Output, as_output
from medseg.models.base import ArchitectureConfig, SegmentationNetwork
from medseg.models.layers.axes import AxisTuple, PerAxis, PerLevel, multiply, resolve_per_axis
from medseg.models.layers.padding import padded_size
from medseg.task import Task

Probability = Annotated[float, Field(ge=0, lt=1)]
Counts = Annotated[tuple[PositiveInt, ...], Field(min_length=2)]


class SegResNetConfig(ArchitectureConfig):
    """SegResNet (Myronenko 2019, arXiv:1810.11654), without its autoencoder.

    Attributes:
        channels: of the first level; doubled from level to level.
        blocks_down: number of residual blocks of each encoder level.
        blocks_up: number of residual blocks of each decoder level, one level fewer.
        norm_groups: groups of the group norms; must divide ``channels``.
        dropout: probability after the first convolution.
    """

    paper: ClassVar[str] = "Myronenko 2019, arXiv:1810.11654"

    name: Literal["segresnet"] = "segresnet"
    channels: PositiveInt = 8
    blocks_down: Counts = (1, 2, 2, 4)
    blocks_up: tuple[PositiveInt, ...] = (1, 1, 1)
    norm_groups: PositiveInt = 8
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _check(self) -> SegResNetConfig:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"blocks_up has {len(self.blocks_up)} entries, blocks_down {len(self.blocks_down)}; give "
                "blocks_up one entry fewer"
            )
        if self.channels % self.norm_groups:
            raise ValueError(
                f"norm_groups is {self.norm_groups}, which does not divide channels {self.channels}"
            )
        return self

    def build(self, task: Task) -> MonaiNetwork:
        """Build the network."""
        from monai.networks.nets.segresnet import SegResNet

        network = SegResNet(
            task.spatial_dims,
            self.channels,
            task.in_channels,
            task.num_classes,
            dropout_prob=self.dropout or None,
            norm=("GROUP", {"num_groups": self.norm_groups}),
            blocks_down=self.blocks_down,
            blocks_up=self.blocks_up,
        )
        return MonaiNetwork(task, network, 2 ** (len(self.blocks_down) - 1))


class DynUNetConfig(ArchitectureConfig):
    """DynUNet, MONAI's nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    Attributes:
        channels: of each level, at least 3 levels.
        kernel: of all levels: a number, or one per axis.
        strides: into each level, the first one 1; None: 2 between levels.
        norm: kind of norm.
        residual: use residual blocks.
        dropout: probability in each block.
        deep_supervision: number of additional heads, at most levels - 2.
    """

    paper: ClassVar[str] = "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z"

    name: Literal["dynunet"] = "dynunet"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=3)] = (32, 64, 128, 256, 320)
    kernel: PerAxis = 3
    strides: Annotated[PerLevel, Field(min_length=3)] | None = None
    norm: Literal["instance", "batch"] = "instance"
    residual: bool = False
    dropout: Probability = 0.0
    deep_supervision: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> DynUNetConfig:
        levels = len(self.channels)
        if self.strides is not None and len(self.strides) != levels:
            raise ValueError(f"strides has {len(self.strides)} entries, channels has {levels} levels")
        if self.deep_supervision > levels - 2:
            raise ValueError(
                f"deep_supervision is {self.deep_supervision}, but {levels} levels have room for {levels - 2} "
                "extra heads"
            )
        return self

    def build(self, task: Task) -> DynamicUNet:
        """Build the network. Raises: ConfigError if a kernel or stride has other axes than the task."""
        from monai.networks.nets.dynunet import DynUNet

        dims = task.spatial_dims
        steps = self.strides or (1,) + (2,) * (len(self.channels) - 1)
        strides = [resolve_per_axis("strides", step, dims) for step in steps]
        kernel = resolve_per_axis("kernel", self.kernel, dims)
        network = DynUNet(
            dims,
            task.in_channels,
            task.num_classes,
            kernel_size=[kernel] * len(strides),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=self.channels,
            dropout=self.dropout or None,
            norm_name=(self.norm, {"affine": True}),
            deep_supervision=self.deep_supervision > 0,
            deep_supr_num=max(1, self.deep_supervision),
            res_block=self.residual,
        )
        total = strides[0]
        for stride in strides[1:]:
            total = multiply(total, stride)
        return DynamicUNet(task, network, total)


class VNetConfig(ArchitectureConfig):
    """V-Net (Milletari et al. 2016, arXiv:1606.04797). The number of image channels must divide 16.

    Attributes:
        dropout: probability of setting a channel to zero, in the deeper levels.
    """

    paper: ClassVar[str] = "Milletari et al. 2016, arXiv:1606.04797"

    name: Literal["vnet"] = "vnet"
    dropout: Probability = 0.5

    def build(self, task: Task) -> MonaiNetwork:
        """Build the network. Raises: ConfigError if the number of image channels does not divide 16."""
        from monai.networks.nets.vnet import VNet

        if 16 % task.in_channels:
            raise ConfigError(
                f"model.name is vnet, which accepts 1, 2, 4, 8 or 16 image channels; got {task.in_channels}",
                hint="Choose another network, such as unet.",
            )
        network = VNet(
            task.spatial_dims,
            task.in_channels,
            task.num_classes,
            dropout_prob_down=self.dropout,
            dropout_prob_up=(self.dropout, self.dropout),
            dropout_dim=task.spatial_dims,
        )
        return MonaiNetwork(task, network, 16)


class MedNeXtConfig(ArchitectureConfig):
    """MedNeXt (Roy et al. 2023, arXiv:2303.09975); the defaults are its small form.

    Attributes:
        channels: of the first level; doubled from level to level.
        kernel: odd width of the depthwise convolutions.
        blocks: number of blocks of each encoder level; the decoder has as many.
        bottleneck_blocks: number of blocks of the lowest level.
        expansion: factor on the channels inside the blocks of each encoder level; the decoder mirrors it.
        bottleneck_expansion: factor on the channels inside the blocks of the lowest level.
        deep_supervision: compute logits of the coarser levels too, in training.
    """

    paper: ClassVar[str] = "Roy et al. 2023, arXiv:2303.09975"

    name: Literal["mednext"] = "mednext"
    channels: PositiveInt = 32
    kernel: PositiveInt = 3
    blocks: Counts = (2, 2, 2, 2)
    bottleneck_blocks: PositiveInt = 2
    expansion: Counts = (2, 2, 2, 2)
    bottleneck_expansion: PositiveInt = 2
    deep_supervision: bool = False

    @model_validator(mode="after")
    def _check(self) -> MedNeXtConfig:
        if len(self.expansion) != len(self.blocks):
            raise ValueError(f"expansion has {len(self.expansion)} entries, blocks {len(self.blocks)}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        return self

    def build(self, task: Task) -> MonaiNetwork:
        """Build the network. Raises: ConfigError if the installed MONAI is older than 1.5."""
        try:
            from monai.networks.nets.mednext import MedNeXt
        except ImportError as error:
            raise ConfigError(
                "model.name is mednext, which needs MONAI 1.5 or newer", hint="Update the package monai."
            ) from error

        network = MedNeXt(
            task.spatial_dims,
            self.channels,
            task.in_channels,
            task.num_classes,
            encoder_expansion_ratio=self.expansion,
            decoder_expansion_ratio=self.expansion[::-1],
            bottleneck_expansion_ratio=self.bottleneck_expansion,
            kernel_size=self.kernel,
            deep_supervision=self.deep_supervision,
            use_residual_connection=True,
            blocks_down=self.blocks,
            blocks_bottleneck=self.bottleneck_blocks,
            blocks_up=self.blocks[::-1],
        )
        return MonaiNetwork(task, network, 2 ** len(self.blocks))


class SwinUNETRConfig(ArchitectureConfig):
    """Swin UNETR (Hatamizadeh et al. 2022, arXiv:2201.01266). Needs the package einops.

    ``torch.compile`` splits it into several graphs: its attention branches on the mask of its windows.

    Attributes:
        channels: of the first level, a multiple of 12.
        depths: number of transformer blocks of each of the four stages.
        heads: number of attention heads of each stage.
        window: side of the attention's windows.
        dropout: probability of setting a feature to zero.
        attention_dropout: probability of setting an attention weight to zero.
        path_dropout: probability of skipping a block.
        checkpointing: recompute inner values in the backward pass.
        version2: add a residual convolution before each stage (SwinUNETR-V2).
    """

    paper: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2201.01266"

    name: Literal["swin_unetr"] = "swin_unetr"
    channels: PositiveInt = Field(default=24, multiple_of=12)
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)
    heads: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 6, 12, 24)
    window: PositiveInt = 7
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    path_dropout: Probability = 0.0
    checkpointing: bool = False
    version2: bool = False

    def build(self, task: Task) -> MonaiNetwork:
        """Build the network. Raises: ConfigError if einops is not installed."""
        _check_einops(self.name)
        from monai.networks.nets.swin_unetr import SwinUNETR

        network = SwinUNETR(
            task.in_channels,
            task.num_classes,
            depths=self.depths,
            num_heads=self.heads,
            window_size=self.window,
            feature_size=self.channels,
            drop_rate=self.dropout,
            attn_drop_rate=self.attention_dropout,
            dropout_path_rate=self.path_dropout,
            use_checkpoint=self.checkpointing,
            spatial_dims=task.spatial_dims,
            use_v2=self.version2,
        )
        # two voxels must remain at the lowest level: the norms, unlike the attention, need more than one
        return MonaiNetwork(task, network, 32)


class UNETRConfig(ArchitectureConfig):
    """UNETR (Hatamizadeh et al. 2022, arXiv:2103.10504). Needs the package einops.

    Its position embeddings are learned for one image size: larger images raise an error, smaller ones are
    padded.

    Attributes:
        image_size: a multiple of 16: one number, or one per axis; set ``sampling.patch_size`` to the same.
        channels: of the decoder's first level.
        hidden: size of the tokens, a multiple of ``heads``.
        mlp: size of the hidden layer of each block.
        heads: number of attention heads.
        dropout: probability in the transformer.
    """

    paper: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2103.10504"

    name: Literal["unetr"] = "unetr"
    image_size: PerAxis = 96
    channels: PositiveInt = 16
    hidden: PositiveInt = 768
    mlp: PositiveInt = 3072
    heads: PositiveInt = 12
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _check(self) -> UNETRConfig:
        sizes = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,)
        if any(size % 16 for size in sizes):
            raise ValueError(f"image_size is {self.image_size}; give multiples of 16")
        if self.hidden % self.heads:
            raise ValueError(f"heads is {self.heads}, which does not divide hidden {self.hidden}")
        return self

    def build(self, task: Task) -> FixedSizeNetwork:
        """Build the network.

        Raises:
            ConfigError: if einops is not installed, or ``image_size`` has other axes than the task.
        """
        _check_einops(self.name)
        from monai.networks.nets.unetr import UNETR

        size = resolve_per_axis("image_size", self.image_size, task.spatial_dims)
        network = UNETR(
            task.in_channels,
            task.num_classes,
            size,
            self.channels,
            self.hidden,
            self.mlp,
            self.heads,
            dropout_rate=self.dropout,
            spatial_dims=task.spatial_dims,
        )
        for block in network.vit.blocks:  # MONAI creates these layers but does not use them here
            block.cross_attn, block.norm_cross_attn = nn.Identity(), nn.Identity()
        return FixedSizeNetwork(task, network, size)


class MonaiNetwork(SegmentationNetwork):
    """A MONAI network that accepts multiples of ``divisor`` as image sizes; see ``SegmentationNetwork``."""

    def __init__(self, task: Task, network: nn.Module, divisor: int | AxisTuple) -> None:
        super().__init__(task)
        self.network = network
        self.divisor = (divisor,) * task.spatial_dims if isinstance(divisor, int) else divisor

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        return padded_size(size, self.divisor)

    def raw_logits(self, image: torch.Tensor) -> Output:
        return as_output(self.network(image))


class DynamicUNet(MonaiNetwork):
    """A ``MonaiNetwork`` around DynUNet, which returns its deep logits stacked.

    They are not computed in evaluation: MONAI puts them into a list that ``torch.export`` does not support.
    """

    def train(self, mode: bool = True) -> DynamicUNet:
        from monai.networks.nets.dynunet import DynUNetSkipLayer

        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, DynUNetSkipLayer):
                module.heads = self.network.heads if mode else None  # pyright: ignore[reportAttributeAccessIssue]
        return self

    def raw_logits(self, image: torch.Tensor) -> Output:
        result = self.network(image)
        return as_output(list(result.unbind(dim=1)) if result.ndim > image.ndim else result)


class FixedSizeNetwork(MonaiNetwork):
    """A ``MonaiNetwork`` for one image size. Raises: ValueError when called with a larger image."""

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        if any(length > most for length, most in zip(size, self.divisor, strict=True)):
            raise ValueError(
                f"the network was built for images of size {self.divisor}, got {size}; set model.image_size to "
                "the next multiples of 16, or use windows of that size"
            )
        return self.divisor


def _check_einops(name: str) -> None:
    if find_spec("einops") is None:
        raise ConfigError(
            f"model.name is {name}, which needs the package einops", hint="Run pip install einops."
        )
