"""Tiny SAMs with random weights in transformers' implementation, and their weights in the official layouts."""

import re
from typing import Any

import torch

SIDE = 64


def tiny_sam() -> Any:
    """Return a random SAM with windowed and global attention."""
    from transformers.models.sam.configuration_sam import SamConfig
    from transformers.models.sam.modeling_sam import SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": SIDE, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1],
            "num_pos_feats": 8, "mlp_dim": 32,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": SIDE, "patch_size": 8},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    return randomized(SamModel(config))


def tiny_sam2() -> Any:
    """Return a random SAM 2.1 (image model) of four stages."""
    from transformers.models.sam2.configuration_sam2 import Sam2Config
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [4, 2, 2, 1],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    config = Sam2Config(
        vision_config={
            "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": SIDE},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    return randomized(Sam2Model(config))


def randomized(model: Any) -> Any:
    """Give every tensor of a network values with which its logits are far from 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(0, 2 / max(tensor[0].numel(), 1) ** 0.5, generator=generator)
            elif name.endswith("weight"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.3, generator=generator)
        model.shared_image_embedding.positional_embedding.copy_(
            model.prompt_encoder.shared_embedding.positional_embedding
        )
    return model.eval()


def trainable(model: Any) -> Any:
    """Give a network the initial values of PyTorch's layers, from which its decoder can be trained."""
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name or name.endswith("pos_embed"):
                parameter.zero_()
        model.shared_image_embedding.positional_embedding.normal_(0, 1)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(
            model.shared_image_embedding.positional_embedding
        )
    return model.eval()


_HEADS = r"(iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d+)\."
_COMMON = (
    (_HEADS + r"layers\.(\d+)\.", lambda m: f"{m[1]}.layers.{int(m[2]) + 1}."),
    (_HEADS + r"proj_in\.", r"\1.layers.0."),
    (_HEADS + r"proj_out\.", r"\1.layers.2."),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"(?<!a_)point_embed\.", "point_embeddings."),
    (r"patch_embed\.projection", "patch_embed.proj"),
)
_SAM = (
    (r"vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
    (r"vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
    (r"vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
    (r"vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
    (r"vision_encoder\.layers", "image_encoder.blocks"),
    (r"vision_encoder\.", "image_encoder."),
)
_SAM2 = (
    (r"^no_memory_embedding", "no_mem_embed"),
    (r"vision_encoder\.backbone", "image_encoder.trunk"),
    (r"vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"\.mlp\.proj_in", ".mlp.layers.0"),
    (r"\.mlp\.proj_out", ".mlp.layers.1"),
    (r"\.o_proj", ".out_proj"),
    (r"^prompt_encoder", "sam_prompt_encoder"),
    (r"^mask_decoder", "sam_mask_decoder"),
)


def official_sam(model: Any) -> dict[str, torch.Tensor]:
    """Return a SAM's weights under the keys of segment-anything."""
    return {_renamed(key, _COMMON + _SAM): tensor for key, tensor in _state(model).items()}


def official_sam2(model: Any) -> dict[str, Any]:
    """Return a SAM 2.1's weights as its authors publish them, with some of the video's memory."""
    state = _state(model)
    points = state.pop("prompt_encoder.point_embed.weight")
    renamed = {_renamed(key, _COMMON + _SAM2): tensor for key, tensor in state.items()}
    renamed |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": points[i : i + 1].clone() for i in range(4)}
    renamed |= {"memory_attention.norm.weight": torch.ones(4), "maskmem_tpos_enc": torch.ones(7, 1, 1, 4)}
    return {"model": renamed}


def _state(model: Any) -> dict[str, torch.Tensor]:
    shared = "shared_image_embedding.positional_embedding"
    return {key: tensor.clone() for key, tensor in model.state_dict().items() if key != shared}


def _renamed(key: str, rules: Any) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key.replace("layer_norm", "norm")
