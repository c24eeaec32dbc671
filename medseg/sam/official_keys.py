"""Keys and architecture of checkpoints in the official layouts of SAM, MedSAM and SAM 2.1.

The keys are renamed to those of transformers' networks; the architecture follows from the tensors' shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from medseg.errors import ModelFileError

StateDict = Mapping[str, torch.Tensor]
Rules = tuple[tuple[str, str], ...]

_PROMPTS: Rules = (
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
     "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
)  # fmt: skip
_DECODER: Rules = (
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
)
_HEADS = r"(iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d+)\.layers\.(\d+)\."

_SAM_RULES: Rules = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^vision_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^vision_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^vision_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^vision_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    *_PROMPTS,
    *_DECODER,
)
_SAM2_RULES: Rules = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^vision_encoder\.backbone\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    *_PROMPTS,
    *_DECODER,
)
_VIDEO = (
    "memory_attention.", "memory_encoder.", "mask_downsample.", "obj_ptr_proj.", "obj_ptr_tpos_proj.",
    "maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial",
    "object_pointer_proj.", "temporal_positional_encoding_projection_layer.", "no_object_pointer",
    "memory_temporal_positional_encoding", "no_memory_positional_encoding",
    "occlusion_spatial_embedding_parameter",
)  # fmt: skip
"""Prefixes of SAM 2's memory of earlier frames of a video, which the image model does not have."""


@dataclass(frozen=True)
class Trunk:
    """Settings of SAM 2.1's image encoder that do not follow from its weights.

    Attributes:
        heads: attention heads of the first stage; each stage doubles them.
        windows: side of the attention windows of each stage.
        global_blocks: blocks that attend to the whole picture.
        image_size: side of the network's input.
    """

    heads: int
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]
    image_size: int = 1024


TRUNKS: dict[tuple[int, tuple[int, ...]], Trunk] = {
    (96, (1, 2, 7, 2)): Trunk(1, (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): Trunk(1, (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): Trunk(2, (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): Trunk(2, (8, 4, 16, 8), (23, 33, 43)),
}
"""Width of the first stage and blocks of each stage → settings: tiny, small, base_plus, large."""


def is_official_sam(state: StateDict) -> bool:
    """Whether the keys are those of SAM's or MedSAM's published files."""
    return "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" in state


def is_official_sam2(state: StateDict) -> bool:
    """Whether the keys are those of SAM 2's published files."""
    return "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" in state


def without_video(state: StateDict) -> dict[str, torch.Tensor]:
    """Return the tensors without those of SAM 2's memory of earlier frames."""
    return {key: tensor for key, tensor in state.items() if not key.startswith(_VIDEO)}


def rename_sam(state: StateDict) -> dict[str, torch.Tensor]:
    """Rename the keys of a SAM or MedSAM from the official layout to transformers'."""
    renamed = {_rename(key, _SAM_RULES): tensor for key, tensor in state.items()}
    renamed.pop("pixel_mean", None)
    renamed.pop("pixel_std", None)
    return with_shared_embedding(renamed)


def rename_sam2(state: StateDict) -> dict[str, torch.Tensor]:
    """Rename the keys of a SAM 2.1 from the official layout to transformers' image model.

    Raises:
        ModelFileError: an embedding of the kinds of points is missing.
    """
    renamed = {_rename(key, _SAM2_RULES): tensor for key, tensor in without_video(state).items()}
    parts = [f"prompt_encoder.point_embed.{kind}.weight" for kind in range(4)]
    missing = [part for part in parts if part not in renamed]
    if missing:
        raise ModelFileError(f"the weights lack {missing[0]}, which SAM 2.1 has")
    renamed["prompt_encoder.point_embed.weight"] = torch.cat([renamed.pop(part) for part in parts])
    return with_shared_embedding(renamed)


def with_shared_embedding(state: StateDict) -> dict[str, torch.Tensor]:
    """Complete the embedding of positions that image and prompts share; a file may hold it only once."""
    names = (
        "prompt_encoder.shared_embedding.positional_embedding",
        "shared_image_embedding.positional_embedding",
    )
    given = next((state[name] for name in names if name in state), None)
    return dict(state) if given is None else {**dict.fromkeys(names, given), **state}


def sam_settings(state: StateDict) -> dict[str, Any]:
    """Return the settings of transformers' ``SamConfig`` for a state dict under transformers' keys."""
    patches = state["vision_encoder.patch_embed.projection.weight"]
    side = state["vision_encoder.pos_embed"].shape[1]
    depth = _count(state, r"vision_encoder\.layers\.(\d+)\.")
    windows = [(state[f"vision_encoder.layers.{i}.attn.rel_pos_h"].shape[0] + 1) // 2 for i in range(depth)]
    head = state["vision_encoder.layers.0.attn.rel_pos_h"].shape[1]
    hidden = patches.shape[0]
    image_size = side * patches.shape[-1]
    channels = state["vision_encoder.neck.conv1.weight"].shape[0]
    vision = {
        "hidden_size": hidden,
        "output_channels": channels,
        "num_hidden_layers": depth,
        "num_attention_heads": hidden // head,
        "image_size": image_size,
        "patch_size": patches.shape[-1],
        "window_size": min(windows),
        "global_attn_indexes": [i for i, window in enumerate(windows) if window != min(windows)],
        "num_pos_feats": state["shared_image_embedding.positional_embedding"].shape[1],
        "mlp_dim": state["vision_encoder.layers.0.mlp.lin1.weight"].shape[0],
    }
    mlp = state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0]
    prompts = {"hidden_size": channels, "image_size": image_size, "patch_size": patches.shape[-1]}
    return {
        "vision_config": vision,
        "prompt_encoder_config": prompts | _mask_channels(state),
        "mask_decoder_config": _decoder_settings(state, channels) | {"mlp_dim": mlp},
    }


def sam2_settings(state: StateDict) -> dict[str, Any]:
    """Return the settings of transformers' ``Sam2Config`` for a state dict under transformers' keys.

    Raises:
        ModelFileError: the image encoder is none of SAM 2.1's.
    """
    trunk = "vision_encoder.backbone."
    depth = _count(state, r"vision_encoder\.backbone\.blocks\.(\d+)\.")
    starts = [i for i in range(depth) if i == 0 or f"{trunk}blocks.{i}.proj.weight" in state]
    blocks = tuple(end - start for start, end in zip(starts, [*starts[1:], depth], strict=True))
    dims = [state[f"{trunk}blocks.{start}.attn.proj.weight"].shape[0] for start in starts]
    entry = TRUNKS.get((dims[0], blocks))
    if entry is None:
        raise ModelFileError(
            f"an image encoder of width {dims[0]} with {blocks} blocks is none of SAM 2.1's",
            hint="Give the folder of the model with its config.json (Hugging Face layout).",
        )
    channels = state["vision_encoder.neck.convs.0.weight"].shape[0]
    backbone = {
        "hidden_size": dims[0],
        "image_size": [entry.image_size] * 2,
        "blocks_per_stage": list(blocks),
        "embed_dim_per_stage": dims,
        "num_attention_heads_per_stage": [entry.heads * 2**stage for stage in range(len(dims))],
        "window_size_per_stage": list(entry.windows),
        "global_attention_blocks": list(entry.global_blocks),
        "window_positional_embedding_background_size": list(state[f"{trunk}pos_embed"].shape[2:]),
    }
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
        "backbone_channel_list": dims[::-1],
        "backbone_feature_sizes": [[entry.image_size // stride] * 2 for stride in (4, 8, 16)],
        "fpn_hidden_size": channels,
    }
    mlp = state["mask_decoder.transformer.layers.0.mlp.proj_in.weight"].shape[0]
    prompts = {"hidden_size": channels, "image_size": entry.image_size}
    return {
        "vision_config": vision,
        "prompt_encoder_config": prompts | _mask_channels(state),
        "mask_decoder_config": _decoder_settings(state, channels) | {"mlp_dim": mlp},
    }


def _mask_channels(state: StateDict) -> dict[str, int]:
    return {"mask_input_channels": state["prompt_encoder.mask_embed.conv3.weight"].shape[1]}


def _decoder_settings(state: StateDict, channels: int) -> dict[str, Any]:
    head = "mask_decoder.iou_prediction_head."
    inner = state["mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"].shape[0]
    return {
        "hidden_size": channels,
        "num_hidden_layers": _count(state, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        "attention_downsample_rate": channels // inner,
        "num_multimask_outputs": state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        "iou_head_depth": _count(state, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\.") + 2,
        "iou_head_hidden_dim": state[f"{head}proj_in.weight"].shape[0],
    }


def _rename(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return re.sub(_HEADS, _three_layers, key)


def _three_layers(match: re.Match[str]) -> str:
    """Return the name of a layer of a head of three layers."""
    name = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}.get(match[2], f"layers.{match[2]}")
    return f"{match[1]}.{name}."


def _count(state: StateDict, pattern: str) -> int:
    """Return the number of layers whose keys match a pattern with the layer's index."""
    found = [int(match[1]) for key in state if (match := re.match(pattern, key))]
    return max(found, default=-1) + 1
