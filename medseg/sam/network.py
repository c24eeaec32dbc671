"""``SamNetwork``: transformers' SAM or SAM 2.1, as an image encoder and a decoder of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn

from medseg.files import sha256_json
from medseg.sam.pictures import Preprocessing

IGNORED_POINT = -10
"""Label of points that fill up a batch of prompts with different numbers of points."""

Embedding = tuple[torch.Tensor, ...]
"""Feature maps (1, C, h, w) of a picture, the finest first; the last one is the embedding proper."""


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts of B objects of one picture, in the network's frame.

    Attributes:
        points: (B, N, 2), x and y; None without points.
        labels: (B, N) integers, 1: on the object, 0: beside it, -10: no point.
        boxes: (B, 4), first x and y, last x and y; None without boxes.
        masks: (B, 1, M, M) logits; None without masks.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    masks: torch.Tensor | None = None

    @classmethod
    def join(cls, prompts: Sequence[EncodedPrompts]) -> EncodedPrompts:
        """Return the prompts of several objects, which are of the same kinds and have equally many points."""

        def joined(parts: list[torch.Tensor | None]) -> torch.Tensor | None:
            given = [part for part in parts if part is not None]
            return torch.cat(given) if given else None

        return cls(
            joined([one.points for one in prompts]),
            joined([one.labels for one in prompts]),
            joined([one.boxes for one in prompts]),
            joined([one.masks for one in prompts]),
        )

    @property
    def count(self) -> int:
        """Number of objects, B."""
        given = [one for one in (self.points, self.boxes, self.masks) if one is not None]
        return len(given[0]) if given else 1


@dataclass(frozen=True)
class MaskLogits:
    """Masks that a network proposes for each prompt.

    Attributes:
        logits: (B, K, M, M), of K masks.
        iou: (B, K), the intersection over union that the network predicts for each.
    """

    logits: torch.Tensor
    iou: torch.Tensor

    def best(self) -> MaskLogits:
        """Return the mask with the highest predicted intersection over union of each prompt, K = 1."""
        index = self.iou.argmax(dim=1)
        rows = torch.arange(len(index), device=index.device)
        return MaskLogits(self.logits[rows, index][:, None], self.iou[rows, index][:, None])


class MaskNetwork(Protocol):
    """A network that embeds a picture once and answers prompts from the embedding.

    Attributes:
        image_size: side of the input.
        mask_size: side of the masks.
        preprocessing: how pictures are prepared.
        encoder_digest: SHA-256 of the image encoder's weights and settings; equal encoders share embeddings.
        device: where it computes.
    """

    image_size: int
    mask_size: int
    preprocessing: Preprocessing
    encoder_digest: str
    device: torch.device

    def embed(self, pixels: torch.Tensor) -> Embedding:
        """Embed a prepared picture (1, 3, image_size, image_size)."""
        ...

    def decode(self, embedding: Embedding, prompts: EncodedPrompts, *, multimask: bool) -> MaskLogits:
        """Return three masks for each prompt, or one if ``multimask`` is False."""
        ...


class SamNetwork:
    """SAM, MedSAM or SAM 2.1 in transformers' implementation.

    Sources: Kirillov et al. 2023, arXiv:2304.02643; Ravi et al. 2024, arXiv:2408.00714.

    Args:
        model: transformers' ``SamModel`` or ``Sam2Model``, in evaluation mode.
        preprocessing: how pictures are prepared.
        device: where to compute.

    Attributes:
        model: the network; its ``mask_decoder`` can be trained.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, device: torch.device) -> None:
        settings: Any = cast(Any, model).config.prompt_encoder_config
        self.model = model.to(device).eval()
        self.preprocessing: Preprocessing = preprocessing
        self.device = device
        self.image_size = int(settings.image_size)
        self.mask_size = 4 * int(settings.image_size) // int(settings.patch_size)
        self.encoder_digest = _digest(model)

    @torch.inference_mode()
    def embed(self, pixels: torch.Tensor) -> Embedding:
        """Embed a prepared picture (1, 3, image_size, image_size)."""
        features: Any = cast(Any, self.model).get_image_embeddings(pixels.to(self.device))
        return (features,) if isinstance(features, torch.Tensor) else tuple(features)

    def decode(self, embedding: Embedding, prompts: EncodedPrompts, *, multimask: bool) -> MaskLogits:
        """Return three masks for each prompt, or one if ``multimask`` is False.

        Args:
            embedding: of one picture, or of as many as there are prompts, (B, C, h, w).
            prompts: of B objects.
            multimask: whether to propose three masks.
        """
        count = prompts.count
        maps = [part.to(self.device).expand(count, -1, -1, -1) for part in embedding]
        output: Any = self.model(
            image_embeddings=maps[0] if len(maps) == 1 else maps,
            input_points=self._one_object_each(prompts.points),
            input_labels=self._one_object_each(prompts.labels),
            input_boxes=self._one_object_each(prompts.boxes),
            input_masks=None if prompts.masks is None else prompts.masks.to(self.device),
            multimask_output=multimask,
        )
        return MaskLogits(output.pred_masks[:, 0], output.iou_scores[:, 0])

    def _one_object_each(self, values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values[:, None].to(self.device)


_SETTINGS = (
    "backbone_config", "backbone_feature_sizes", "fpn_top_down_levels", "num_feature_levels", "image_size",
    "patch_size", "patch_stride", "patch_padding", "query_stride", "num_query_pool_stages", "hidden_act",
    "layer_norm_eps", "window_size", "window_size_per_stage", "global_attn_indexes", "global_attention_blocks",
    "num_attention_heads", "num_attention_heads_per_stage", "blocks_per_stage", "use_abs_pos", "use_rel_pos",
)  # fmt: skip
"""Settings of an image encoder that its weights alone do not show."""


def _used(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings on which embeddings depend."""
    kept = {name: settings[name] for name in _SETTINGS if name in settings}
    return {name: _used(value) if isinstance(value, dict) else value for name, value in kept.items()}


def _digest(model: nn.Module) -> str:
    """Return the SHA-256 of the weights and the settings on which embeddings depend."""
    settings: dict[str, Any] = cast(Any, model).config.to_dict()
    size = settings["prompt_encoder_config"]["image_size"]
    digest = hashlib.sha256(sha256_json([size, _used(settings["vision_config"])]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(("vision_encoder.", "no_memory_embedding")):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
