"""Cascades in one file: the first stages of a model, their weights, and what the second stage receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from medseg.data.preprocessing.masks import prepare_masks
from medseg.data.preprocessing.pipeline import PreparedImage
from medseg.inference.model.model_file import LoadedModel, ModelHeader, digest_of

if TYPE_CHECKING:
    from medseg.inference.model.prediction import Prediction

_PREFIX = "first_stage."

SHARED_SETTINGS = ("overlap", "blend", "batch_size", "flips")
"""Settings of inference that, if a user changes them, change in both stages."""


def join_stages(state: dict[str, torch.Tensor], first_stages: Sequence[LoadedModel]) -> dict[str, torch.Tensor]:
    """Add the weights of first stages to those of the second stage."""
    joined = dict(state)
    for index, stage in enumerate(first_stages):
        joined |= {f"{_PREFIX}{index}.{name}": tensor for name, tensor in stage.tensors.items()}
    return joined


def split_stages(
    header: ModelHeader, tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], tuple[LoadedModel, ...]]:
    """Return the weights of the last stage, and the models of the first stage (none without a cascade)."""
    if not header.first_stages:
        return tensors, ()
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)}
    stages: list[LoadedModel] = []
    for index, stage in enumerate(header.first_stages):
        prefix = f"{_PREFIX}{index}."
        weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        stages.append(LoadedModel(stage, weights, digest_of(stage.model_dump_json(), weights)))
    return own, tuple(stages)


def with_masks(image: PreparedImage, first: Prediction, header: ModelHeader) -> PreparedImage:
    """Add the segmentation of the first stage to the input of the second."""
    codes = prepare_masks(first.label_map, first.scan, header.preprocess, header.labels)
    return replace(image, masks=codes)
