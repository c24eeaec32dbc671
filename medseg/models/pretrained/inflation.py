"""Adapt weights of 2D networks to the same networks in 3D, and to other numbers of image channels.

With ``center_kernel``, on a volume that is constant along depth, the 3D network returns the 2D network's logits
in every slice, whatever the padding and the strides along depth: each kernel uses one slice only.
``mean_kernel`` (Carreira and Zisserman 2017, arXiv:1705.07750, section 2.1) spreads the weights over depth;
there, this holds only where zero padding does not reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from medseg.errors import ModelFileError

Spread = Callable[[torch.Tensor, int], torch.Tensor]


def center_kernel(weight: torch.Tensor, depth: int) -> torch.Tensor:
    """Put ``weight`` (O, I, *K) into the middle of ``depth`` slices of zeros: (O, I, *K, depth).

    Raises:
        ValueError: if ``depth`` is even.
    """
    if depth % 2 == 0:
        raise ValueError(f"a kernel of depth {depth} has no center; use mean_kernel, or an odd depth")
    inflated = weight.new_zeros((*weight.shape, depth))
    inflated[..., depth // 2] = weight
    return inflated


def mean_kernel(weight: torch.Tensor, depth: int) -> torch.Tensor:
    """Put ``weight / depth`` (O, I, *K) into each of ``depth`` slices: (O, I, *K, depth)."""
    return weight[..., None].expand(*weight.shape, depth) / depth


def inflate(
    state: Mapping[str, torch.Tensor],
    network: nn.Module,
    *,
    spread: Spread = center_kernel,
    depth_axis: int = -1,
) -> dict[str, torch.Tensor]:
    """Convert the weights of a 2D network to those of the same network in 3D.

    Transposed convolutions are spread so that a constant stays constant: repeated where the kernel is as
    deep as its stride, otherwise linearly (exact away from the volume's ends).

    Args:
        state: the 2D network's weights, under the 3D network's keys.
        network: the 3D network; it is not changed.
        spread: how a convolution's kernel is spread over depth.
        depth_axis: which of the three spatial axes is depth: -1, the last one (Z in medseg's arrays), or
            -3, the first one (PyTorch's D, H, W).

    Raises:
        ModelFileError: if a key is missing or unknown, or a shape does not fit.
    """
    wanted = network.state_dict()
    _check_keys(state, wanted)
    transposed = {
        f"{name}.weight": module
        for name, module in network.named_modules()
        if isinstance(module, nn.ConvTranspose3d)
    }
    inflated: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        target = wanted[key].shape
        if len(target) == tensor.ndim + 1:
            depth = target[depth_axis]
            if key in transposed:
                tensor = _transposed_kernel(tensor, depth, transposed[key].stride[depth_axis])
            else:
                tensor = spread(tensor, depth)
            tensor = tensor.movedim(-1, depth_axis).contiguous()
        if tensor.shape != target:
            raise ModelFileError(
                f"{key}: {tuple(state[key].shape)} inflates to {tuple(tensor.shape)}, but the network has "
                f"{tuple(target)}",
                hint="Build the 3D network with the settings of the 2D network.",
            )
        inflated[key] = tensor
    return inflated


def adapt_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Adapt a first convolution's ``weight`` (O, C, *K) to another number of channels: (O, channels, *K).

    One channel gets the sum, so that a gray image has the same output as its RGB copy. More channels repeat
    the given ones in turn, scaled to keep the sum's magnitude.
    """
    given = weight.shape[1]
    if channels == given:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    index = torch.arange(channels, device=weight.device) % given
    return weight[:, index] * (given / channels)


def _check_keys(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    counted = {key for key in wanted if key.endswith("num_batches_tracked")}  # missing in old files
    missing = sorted(set(wanted) - set(state) - counted)
    unknown = sorted(set(state) - set(wanted))
    if missing or unknown:
        raise ModelFileError(
            f"the weights do not fit the 3D network: {len(missing)} keys missing ({', '.join(missing[:3])}), "
            f"{len(unknown)} unknown ({', '.join(unknown[:3])})",
            hint="Rename the keys with medseg.models.pretrained.key_mapping first.",
        )


def _transposed_kernel(weight: torch.Tensor, depth: int, stride: int) -> torch.Tensor:
    """Spread a transposed convolution's kernel over depth: (I, O, *K) to (I, O, *K, depth)."""
    if depth == stride:
        return weight[..., None].expand(*weight.shape, depth)
    center = (depth - 1) / 2
    side = (1 - (torch.arange(depth, dtype=weight.dtype) - center).abs() / stride).clamp(min=0)
    return weight[..., None] * side
