"""Tables that map the state-dict keys of published weights to those of medseg's networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from medseg.errors import ModelFileError


@dataclass(frozen=True)
class KeyTable:
    """Mapping of the keys of a published state dict to medseg's keys.

    Attributes:
        source: where the keys come from, for messages.
        prefixes: published prefix → medseg's prefix; the longest matching one is used, "" matches every key.
        dropped: prefixes of published keys without a counterpart.
        reshaped: medseg's keys whose tensors change their shape → function that changes it.
    """

    source: str
    prefixes: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    reshaped: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)

    def rename(self, state: Mapping[str, torch.Tensor]) -> RenamedState:
        """Return the state dict under medseg's keys.

        Raises:
            ModelFileError: if a key is not in the table.
        """
        renamed: dict[str, torch.Tensor] = {}
        dropped: list[str] = []
        for key, tensor in state.items():
            if key.startswith(self.dropped):
                dropped.append(key)
                continue
            fitting = [prefix for prefix in self.prefixes if key.startswith(prefix)]
            if not fitting:
                raise ModelFileError(
                    f"the weights hold {key!r}, which {self.source} does not have; expected keys that start "
                    f"with {', '.join(sorted(self.prefixes)[:8])}, …",
                    hint="Set weights.keys to the table of their source.",
                )
            prefix = max(fitting, key=len)
            own = self.prefixes[prefix] + key[len(prefix) :]
            renamed[own] = self.reshaped[own](tensor) if own in self.reshaped else tensor
        return RenamedState(renamed, tuple(dropped), tuple(sorted(set(renamed) & set(self.reshaped))))


@dataclass(frozen=True)
class RenamedState:
    """A state dict under medseg's keys.

    Attributes:
        state: key → tensor.
        dropped: published keys that were left out.
        reshaped: medseg's keys whose tensors changed their shape.
    """

    state: dict[str, torch.Tensor]
    dropped: tuple[str, ...]
    reshaped: tuple[str, ...]


def _vgg_layers() -> dict[str, str]:
    """Return the prefixes of VGG16's convolutions: Caffe's → torchvision's."""
    names: dict[str, str] = {}
    index = 0
    for level, convs in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, convs + 1):
            names[f"conv{level}_{number}."] = f"backbone.features.{index}."
            index += 2
        index += 1
    return names


def _caffe_resnet() -> dict[str, str]:
    """Return the prefixes of a ResNet: those of kazuto1011/deeplab-pytorch → torchvision's."""
    names = {"base.layer1.conv1.conv.": "backbone.conv1.", "base.layer1.conv1.bn.": "backbone.bn1."}
    parts = {"reduce": ("conv1", "bn1"), "conv3x3": ("conv2", "bn2"), "increase": ("conv3", "bn3")}
    parts["shortcut"] = ("downsample.0", "downsample.1")
    for stage in range(1, 5):
        for block in range(36):
            published, own = f"base.layer{stage + 1}.block{block + 1}.", f"backbone.layer{stage}.{block}."
            for name, (conv, norm) in parts.items():
                names[f"{published}{name}.conv."] = f"{own}{conv}."
                names[f"{published}{name}.bn."] = f"{own}{norm}."
    return names


def _pooled_last_to_first(weight: torch.Tensor) -> torch.Tensor:
    """Reorder input channels: smp puts the pooled grids before the feature map, medseg after it.

    Both have half of the channels.
    """
    return weight.roll(weight.shape[1] // 2, dims=1)


def _first_axis_first(codes: torch.Tensor) -> torch.Tensor:
    """Reorder the predictions of box codes: torchvision's are (x, y, width, height), medseg's (y, x, …)."""
    return codes.reshape(-1, 4, *codes.shape[1:])[:, [1, 0, 3, 2]].reshape(codes.shape)


def _mask_rcnn() -> dict[str, str]:
    """Return the prefixes of torchvision's Mask R-CNN, those of its first published file included."""
    names = {
        "backbone.body.": "backbone.",
        "rpn.head.conv.": "rpn.convs.0.0.",
        "rpn.head.conv.0.": "rpn.convs.0.",
        "rpn.head.conv.1.": "rpn.convs.1.",
        "rpn.head.cls_logits.": "rpn.objectness.",
        "rpn.head.bbox_pred.": "rpn.codes.",
        "roi_heads.box_head.": "box_head.",
        "roi_heads.box_head.5.": "box_head.fc6.",
        "roi_heads.box_predictor.cls_score.": "box_head.classes.",
        "roi_heads.box_predictor.bbox_pred.": "box_head.codes.",
        "roi_heads.mask_head.": "mask_head.convs.",
        "roi_heads.mask_predictor.conv5_mask.": "mask_head.upsample.",
        "roi_heads.mask_predictor.mask_fcn_logits.": "mask_head.logits.",
    }
    for index in range(4):
        names[f"roi_heads.box_head.{index}."] = f"box_head.convs.{index}."
        names[f"roi_heads.mask_head.mask_fcn{index + 1}."] = f"mask_head.convs.{index}.0."
        for published, own in (("inner_blocks", "lateral"), ("layer_blocks", "smooth")):
            names[f"backbone.fpn.{published}.{index}."] = f"pyramid.{own}.{index}.0."
            for part in (0, 1):
                names[f"backbone.fpn.{published}.{index}.{part}."] = f"pyramid.{own}.{index}.{part}."
    return names


_SMP = {"encoder.": "backbone.", "decoder.": "decoder.", "segmentation_head.0.": "score."}
_SAME = {"backbone.": "backbone.", "classifier.": "classifier.", "aux_classifier.": "aux_classifier."}
_STAGES = {f"layer{stage}.": f"backbone.layer{stage}." for stage in range(1, 5)}

KEY_TABLES: dict[str, KeyTable] = {
    "torchvision_resnet": KeyTable("a ResNet of torchvision or timm", {"": ""}, dropped=("fc.",)),
    "torchvision_vgg": KeyTable(
        "a VGG of torchvision", {"features.": "features."}, dropped=("classifier.", "pre_logits.", "head.")
    ),
    "torchvision_mobilenet": KeyTable(
        "a MobileNetV3 of torchvision", {"features.": "features."}, dropped=("classifier.",)
    ),
    "torchvision_segmentation": KeyTable("an FCN or DeepLabV3 of torchvision on a ResNet", _SAME),
    "torchvision_segmentation_mobilenet": KeyTable(
        "a DeepLabV3 or LR-ASPP of torchvision on a MobileNetV3", {**_SAME, "backbone.": "backbone.features."}
    ),
    "torchvision_maskrcnn": KeyTable(
        "Mask R-CNN of torchvision",
        _mask_rcnn(),
        reshaped={
            f"{layer}.{part}": _first_axis_first
            for layer in ("rpn.codes", "box_head.codes")
            for part in ("weight", "bias")
        },
    ),
    "vgg_to_fcn": KeyTable(
        "a VGG16 of torchvision for FCN",
        {
            "features.": "backbone.features.",
            "classifier.0.": "head.fc6.",
            "classifier.3.": "head.fc7.",
        },
        dropped=("classifier.6.",),
        reshaped={
            "head.fc6.weight": lambda weight: weight.reshape(weight.shape[0], -1, 7, 7),
            "head.fc7.weight": lambda weight: weight[:, :, None, None],
        },
    ),
    "fcn_vgg": KeyTable(
        "an FCN of wkentaro/pytorch-fcn",
        {
            **_vgg_layers(),
            "fc6.": "head.fc6.",
            "fc7.": "head.fc7.",
            "score_fr.": "score.0.",
            "score_pool4.": "score.1.",
            "score_pool3.": "score.2.",
            "upscore.": "upscore.0.",
            "upscore2.": "upscore.0.",
            "upscore16.": "upscore.1.",
            "upscore_pool4.": "upscore.1.",
            "upscore8.": "upscore.2.",
        },
    ),
    "deeplabv2_caffe": KeyTable(
        "a DeepLab v2 of kazuto1011/deeplab-pytorch", {**_caffe_resnet(), "base.aspp.": "aspp."}
    ),
    "hrnetv2": KeyTable(
        "HRNetV2 of HRNet-Semantic-Segmentation", {"": "backbone.", "last_layer.": "last_layer."}
    ),
    "hrnet": KeyTable(
        "HRNet's trunk",
        {"": ""},
        dropped=("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.", "last_layer."),
    ),
    "semseg_pspnet": KeyTable(
        "PSPNet of hszhao/semseg",
        {
            **_STAGES,
            **{f"layer0.{index}.": f"backbone.conv1.{index}." for index in (0, 1, 3, 4, 6)},
            "layer0.7.": "backbone.bn1.",
            "ppm.": "ppm.",
            "cls.": "classifier.",
            "aux.": "aux_classifier.",
        },
    ),
    "smp_unet": KeyTable("U-Net of segmentation_models.pytorch", _SMP),
    "smp_unetpp": KeyTable(  # on a VGG it has a center that it never runs
        "U-Net++ of segmentation_models.pytorch", _SMP, dropped=("decoder.center.",)
    ),
    "smp_fpn": KeyTable(
        "FPN of segmentation_models.pytorch",
        {
            "encoder.": "backbone.",
            "decoder.p5.": "lateral.0.",
            **{f"decoder.p{5 - level}.skip_conv.": f"lateral.{level}." for level in (1, 2, 3)},
            **{
                f"decoder.seg_blocks.{level}.block.{unit}.block.": f"branches.{level}.{unit}."
                for level in range(4)
                for unit in range(3)
            },
            "segmentation_head.0.": "score.",
        },
    ),
    "smp_pspnet": KeyTable(
        "PSPNet of segmentation_models.pytorch, of encoder depth 3",
        {
            "encoder.": "backbone.",
            **{
                f"decoder.psp.blocks.{i}.pool.1.{j}.": f"ppm.features.{i}.{j + 1}."
                for i in range(8)
                for j in (0, 1)
            },
            "decoder.conv.": "classifier.",
            "segmentation_head.0.": "classifier.4.",
        },
        dropped=("encoder.layer3.", "encoder.layer4."),
        reshaped={"classifier.0.weight": _pooled_last_to_first},
    ),
    "smp_deeplabv3": KeyTable(
        "DeepLabV3 of segmentation_models.pytorch",
        {
            "encoder.": "backbone.",
            "decoder.aspp.": "classifier.0.",
            "decoder.conv.": "classifier.1.",
            "decoder.bn.": "classifier.2.",
            "segmentation_head.0.": "classifier.4.",
        },
    ),
    "monai": KeyTable(
        "a network of MONAI",
        {"": "network."},
        dropped=tuple(
            f"vit.blocks.{block}.{part}." for block in range(12) for part in ("cross_attn", "norm_cross_attn")
        ),
    ),
    "smp_deeplabv3plus": KeyTable(
        "DeepLabV3Plus of segmentation_models.pytorch",
        {
            "encoder.": "backbone.",
            "decoder.aspp.0.": "aspp.",
            "decoder.aspp.1.": "refine.0.",
            "decoder.aspp.2.": "refine.1.",
            "decoder.block1.": "low.",
            "decoder.block2.": "fuse.0.",
            "segmentation_head.0.": "score.",
        },
    ),
}
