"""Comparison of the weights of two model files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from medseg.errors import DataError
from medseg.inference.model.model_file import load_model


@dataclass(frozen=True)
class WeightComparison:
    """The weights and scores of two trainings.

    Attributes:
        equal: whether all tensors are equal bit by bit.
        tensors: number of tensors.
        different: number of tensors that differ.
        largest: largest absolute difference.
        tensor: name of the tensor that has it; empty if all are equal.
        score, reproduced_score: best validation score of each; None without validation.
        steps, reproduced_steps: number of updates of each.
    """

    equal: bool
    tensors: int
    different: int = 0
    largest: float = 0.0
    tensor: str = ""
    score: float | None = None
    reproduced_score: float | None = None
    steps: int | None = None
    reproduced_steps: int | None = None


def compare_models(model: Path, reproduced: Path) -> WeightComparison:
    """Compare the model file of a run with that of its reproduction.

    Raises:
        DataError: if the networks have other tensors, so that they cannot be compared.
    """
    (header, first, _), (other, second, _) = load_model(model), load_model(reproduced)
    shapes, others = ({key: tuple(one.shape) for key, one in state.items()} for state in (first, second))
    if shapes != others:
        differ = sorted(key for key in shapes.keys() | others.keys() if shapes.get(key) != others.get(key))
        raise DataError(f"{reproduced}: the network has other tensors than {model}: {', '.join(differ[:3])}")
    largest = {key: _largest_difference(one, second[key]) for key, one in first.items()}
    different = {key: value for key, value in largest.items() if not _same_bits(first[key], second[key])}
    tensor = max(different, key=lambda key: _size(different[key]), default="")
    return WeightComparison(
        equal=not different,
        tensors=len(first),
        different=len(different),
        largest=different.get(tensor, 0.0),
        tensor=tensor,
        score=header.training.get("score"),
        reproduced_score=other.training.get("score"),
        steps=header.training.get("steps"),
        reproduced_steps=other.training.get("steps"),
    )


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are equal bit by bit; NaN equals itself."""
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()


def _largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    if not one.numel():
        return 0.0
    return float((one.double() - other.double()).abs().max())


def _size(difference: float) -> float:
    return math.inf if math.isnan(difference) else difference
