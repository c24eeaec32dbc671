"""Whole cases through a network, window by window."""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from medseg.config import InferenceConfig
from medseg.data.preprocess import SliceConfig
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
    slices: SliceConfig | None = None,
) -> torch.Tensor:
    """Logits (K, *S) float32 of a preprocessed image (C, *S), windows blended with a gaussian; without
    ``roi_size`` the whole image is one window.

    With ``slices`` the network is 2D and goes through the first spatial axis, each slice with its neighbours
    as channels. The network must be in evaluation mode and on ``device``.
    """
    if slices is not None:
        return _slice_by_slice(network, image, settings, slices, device, dtype)
    return _windows(network, torch.from_numpy(image.copy())[None], settings, device, dtype)[0]


def _slice_by_slice(
    network: nn.Module,
    image: Array,
    settings: InferenceConfig,
    slices: SliceConfig,
    device: torch.device,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """Logits (K, Z, H, W) of an image (C, Z, H, W), its slices in batches."""
    depth = image.shape[1]
    parts: list[torch.Tensor] = []
    for start in range(0, depth, settings.batch_size):
        batch = [
            np.concatenate([image[:, min(max(z + k, 0), depth - 1)] for k in _near(slices)])
            for z in range(start, min(start + settings.batch_size, depth))
        ]
        parts.append(_windows(network, torch.from_numpy(np.stack(batch)), settings, device, dtype))
    return torch.cat(parts).movedim(0, 1)


def _near(slices: SliceConfig) -> range:
    return range(-slices.neighbours, slices.neighbours + 1)


def _windows(
    network: nn.Module,
    images: torch.Tensor,
    settings: InferenceConfig,
    device: torch.device,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """Logits (B, K, *S) of images (B, C, *S)."""
    tensor = images.to(device)

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with autocast(dtype, device):
            return logits_of(network(windows)).float()

    if settings.roi_size is None:
        return predict(tensor)
    logits = sliding_window_inference(
        tensor, settings.roi_size, settings.batch_size, predict, overlap=settings.overlap, mode="gaussian"
    )
    return torch.as_tensor(logits)


def probabilities_of(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Probabilities (K, *S) of logits (K, *S)."""
    return logits.softmax(dim=0) if activation == "softmax" else logits.sigmoid()
