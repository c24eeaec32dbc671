"""Initial weights."""

from __future__ import annotations

from torch import nn

LEAKY_SLOPE = 0.01
"""Negative slope of leaky rectifiers, as in nnU-Net."""


def initialize_fan_in(network: nn.Module) -> None:
    """Draw He-normal weights by fan-in for every convolution and set every bias to zero, in place.

    The gain is that of a leaky rectifier with slope 0.01, whatever the activation (Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z). Norms keep PyTorch's scale of 1 and shift of 0. Source: He et al. 2015,
    arXiv:1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize_fan_out(network: nn.Module) -> None:
    """Draw He-normal weights by fan-out for every convolution and set every bias to zero, in place.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize_logits(layer: nn.Module, std: float) -> None:
    """Draw normal weights of standard deviation ``std`` and set the bias to zero, in place.

    Args:
        layer: the convolution that computes the logits.
        std: standard deviation of the weights.

    Raises:
        TypeError: if ``layer`` is not a convolution.
    """
    if not isinstance(layer, nn.Conv2d | nn.Conv3d):
        raise TypeError(f"expected a convolution that computes logits; got {type(layer).__name__}")
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
