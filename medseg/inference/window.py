"""Whole cases through a network, window by window."""

from __future__ import annotations

import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from medseg.config import InferenceConfig
from medseg.device import autocast
from medseg.geometry import Array
from medseg.output import logits_of
from medseg.task import Activation


@torch.inference_mode()
def window_logits(
    network: nn.Module,
    image: Array,
    settings: InferenceConfig,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """Logits (K, *S) float32 of a preprocessed image (C, *S), windows blended with a gaussian.

    The network must be in evaluation mode and on ``device``.
    """
    if settings.roi_size is None:
        raise ValueError("the window has no size: set inference.roi_size")
    tensor = torch.from_numpy(image.copy())[None].to(device)  # MONAI writes into its input

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with autocast(dtype, device):
            return logits_of(network(windows)).float()

    logits = sliding_window_inference(
        tensor, settings.roi_size, settings.batch_size, predict, overlap=settings.overlap, mode="gaussian"
    )
    return torch.as_tensor(logits)[0]


def probabilities_of(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Probabilities (K, *S) of logits (K, *S)."""
    return logits.softmax(dim=0) if activation == "softmax" else logits.sigmoid()
