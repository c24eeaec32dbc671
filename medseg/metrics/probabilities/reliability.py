"""Reliability curve: how often a prediction of some confidence is correct."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass
class ReliabilityCurve:
    """Bins of confidence, to which the voxels of many cases can be added (Guo et al. 2017, arXiv:1706.04599).

    Attributes:
        num_bins: equal bins (lo, hi] of (0, 1]; a confidence of 0 belongs to the first.

    Example:
        >>> curve = ReliabilityCurve(num_bins=2)
        >>> curve.add(np.array([0.2, 0.4, 0.8, 1.0]), np.array([False, True, True, True]))
        >>> [round(row["accuracy"], 2) for row in curve.bins()], round(curve.ece, 2)
        ([0.5, 1.0], 0.15)
    """

    num_bins: int = 15
    sizes: NDArray[np.int64] = field(init=False)
    confidences: FloatArray = field(init=False)
    correct: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise ValueError(f"num_bins is {self.num_bins}, expected at least 1")
        self.sizes = np.zeros(self.num_bins, np.int64)
        self.confidences, self.correct = np.zeros(self.num_bins), np.zeros(self.num_bins)

    def add(self, confidence: NDArray[Any], correct: NDArray[Any]) -> None:
        """Add voxels: confidences from 0 to 1 and whether each is correct, arrays of the same shape."""
        values = np.asarray(confidence, np.float64).ravel()
        edges = np.linspace(0, 1, self.num_bins + 1)
        positions = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, self.num_bins - 1)
        self.sizes += np.bincount(positions, minlength=self.num_bins)
        self.confidences += np.bincount(positions, values, minlength=self.num_bins)
        self.correct += np.bincount(positions, np.asarray(correct).ravel() != 0, minlength=self.num_bins)

    def __add__(self, other: ReliabilityCurve) -> ReliabilityCurve:
        """Join the voxels of two curves with the same number of bins."""
        if other.num_bins != self.num_bins:
            raise ValueError(f"a curve has {other.num_bins} bins, expected {self.num_bins}")
        total = ReliabilityCurve(self.num_bins)
        total.sizes = self.sizes + other.sizes
        total.confidences = self.confidences + other.confidences
        total.correct = self.correct + other.correct
        return total

    @property
    def gaps(self) -> FloatArray:
        """Absolute difference of mean confidence and accuracy in each bin; nan in empty bins."""
        with np.errstate(invalid="ignore"):
            return np.abs(self.confidences - self.correct) / np.where(self.sizes, self.sizes, np.nan)

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap over the bins, weighted by their sizes; nan without voxels."""
        total = int(self.sizes.sum())
        return float(np.abs(self.confidences - self.correct).sum() / total) if total else math.nan

    @property
    def mce(self) -> float:
        """Maximum calibration error: largest gap; nan without voxels."""
        return float(np.nanmax(self.gaps)) if self.sizes.any() else math.nan

    def bins(self) -> list[dict[str, float]]:
        """Return the bins that are not empty: low, high, size, mean confidence and accuracy."""
        edges = np.linspace(0, 1, self.num_bins + 1)
        return [
            {
                "low": float(edges[index]),
                "high": float(edges[index + 1]),
                "size": int(self.sizes[index]),
                "confidence": float(self.confidences[index] / self.sizes[index]),
                "accuracy": float(self.correct[index] / self.sizes[index]),
            }
            for index in np.flatnonzero(self.sizes)
        ]
