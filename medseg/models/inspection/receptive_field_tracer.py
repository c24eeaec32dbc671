"""Tensors of coordinates that pass through a network and record what each value depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class Coordinates(torch.Tensor):
    """Coordinates in place of gray values, (2, C, *S), and the tensors that a network computes from them.

    Every operation returns the largest value of its inputs: a convolution that of its window, a sum that of
    its terms, attention that of its tokens. 0 marks values outside the image. Channels are not
    distinguished where an operation joins them, and are views of one channel.

    Raises:
        NotImplementedError: at an operation without a rule.
    """

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.__name__
        if name in _MOVES:
            return super().__torch_function__(func, types, args, kwargs or {})
        if name not in _RULES:
            raise NotImplementedError(f"no rule for the receptive field of the operation {name}")
        with torch._C.DisableTorchFunctionSubclass():
            return _RULES[name](*args, **(kwargs or {})).as_subclass(cls)


class FeatureMapTracer(TorchFunctionMode):
    """Report the feature maps that are computed from ``Coordinates`` within the context.

    Args:
        on_map: called with the output of every pooling, and of every convolution wider than one voxel.
    """

    def __init__(self, on_map: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self.on_map = on_map

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        # a convolution of one voxel's width also runs on what was pooled globally
        wide = name in _MAPS and (name not in _CONVS or max(args[1].shape[2:]) > 1)
        if wide and isinstance(result, Coordinates):
            self.on_map(result)
        return result


def _same(x: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return x


def single_channel(x: torch.Tensor) -> torch.Tensor:
    """Return the largest value of all channels: (B, 1, *S)."""
    return x[:, :1] if x.stride(1) == 0 else x.amax(1, keepdim=True)


def _wide(x: torch.Tensor, channels: int) -> torch.Tensor:
    return x.expand(-1, channels, *x.shape[2:])


def _union(a: Any, b: Any, **_: object) -> torch.Tensor:
    """Return the larger value of two operands; constants depend on no voxel."""
    if not (isinstance(a, Coordinates) and isinstance(b, Coordinates)):
        seen, other = (a, b) if isinstance(a, Coordinates) else (b, a)
        shape = other.shape if isinstance(other, torch.Tensor) else ()
        return seen.expand(torch.broadcast_shapes(seen.shape, shape))
    if a.ndim > 3 and a.shape == b.shape and a.stride(1) == b.stride(1) == 0:
        return _wide(torch.maximum(single_channel(a), single_channel(b)), a.shape[1])
    return torch.maximum(a, b)


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    if dim == 1 and all(x.ndim > 3 and (x.stride(1) == 0 or x.shape[1] == 1) for x in tensors):
        joined = torch.cat([x[:, :1] for x in tensors], 1).amax(1, keepdim=True)
        return _wide(joined, sum(x.shape[1] for x in tensors))
    return torch.cat([x.as_subclass(torch.Tensor) for x in tensors], dim)


def _pad(x: torch.Tensor, pad: Sequence[int], mode: str = "constant", *_: object, **__: object) -> torch.Tensor:
    if x.ndim > 3 and x.stride(1) == 0 and len(pad) <= 2 * (x.ndim - 2):
        return _wide(F.pad(single_channel(x), list(pad), mode), x.shape[1])
    return F.pad(x, list(pad), mode)


def _reduce(x: torch.Tensor, dim: Any = None, keepdim: bool = False, **_: object) -> torch.Tensor:
    return x.amax(tuple(range(x.ndim)) if dim is None else dim, keepdim)


def _spread(x: torch.Tensor, dim: int = -1, *_: object, **__: object) -> torch.Tensor:
    """A softmax: each value depends on all values along ``dim``."""
    return x.amax(dim, keepdim=True).expand_as(x)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: object = None) -> torch.Tensor:
    return x.amax(-1, keepdim=True).expand(*x.shape[:-1], weight.shape[0])


def _matmul(a: Any, b: Any) -> torch.Tensor:
    if not isinstance(b, Coordinates):
        return a.amax(-1, keepdim=True).expand(*a.shape[:-1], b.shape[-1])
    if not isinstance(a, Coordinates):
        return b.amax(-2, keepdim=True).expand(*b.shape[:-2], a.shape[-2], b.shape[-1])
    return torch.maximum(a.amax(-1, keepdim=True), b.amax(-2, keepdim=True))


def _einsum(equation: str, *operands: torch.Tensor) -> torch.Tensor:
    inputs, _, output = equation.replace(" ", "").partition("->")
    total = torch.zeros(())
    for letters, x in zip(inputs.split(","), operands, strict=True):
        if isinstance(x, Coordinates):
            gone = [i for i, letter in enumerate(letters) if letter not in output]
            kept = [letter for letter in letters if letter in output]
            reduced = x.amax(gone) if gone else x
            ordered = reduced.permute([kept.index(letter) for letter in output if letter in kept])
            for i, letter in enumerate(output):
                ordered = ordered if letter in kept else ordered.unsqueeze(i)
            total = torch.maximum(total, ordered)
    return total


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    several = tuple(value) if isinstance(value, Sequence) else (value,)
    return several * axes if len(several) == 1 else several


def _window(
    x: torch.Tensor, axis: int, width: int, stride: int, padding: int, dilation: int, *, ceil: bool = False
) -> torch.Tensor:
    """Return the largest value under a window that moves along one axis; values beyond the ends are 0."""
    covered = dilation * (width - 1) + 1
    steps = (x.shape[axis] + 2 * padding - covered) / stride
    count = (math.ceil(steps) if ceil else math.floor(steps)) + 1
    if ceil and (count - 1) * stride >= x.shape[axis] + padding:
        count -= 1  # a window must start within the image
    if width == stride == 1 and not padding:
        return x
    after = max(0, (count - 1) * stride + covered - x.shape[axis] - padding)
    x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [padding, after])
    taps = [x.narrow(axis, t * dilation, (count - 1) * stride + 1) for t in range(width)]
    largest = taps[0]
    for tap in taps[1:]:
        largest = torch.maximum(largest, tap)
    return largest.index_select(axis, torch.arange(0, largest.shape[axis], stride)) if stride > 1 else largest


def _conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: object = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    axes, one = x.ndim - 2, single_channel(x)
    settings = zip(*(_per_axis(v, axes) for v in (weight.shape[2:], stride, padding, dilation)), strict=True)
    for axis, (width, step, pad, rate) in enumerate(settings, start=2):
        one = _window(one, axis, width, step, pad, rate)
    return _wide(one, weight.shape[0])


def _conv_transpose(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: object = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> torch.Tensor:
    axes, one = x.ndim - 2, single_channel(x)
    values = (weight.shape[2:], stride, padding, output_padding, dilation)
    for axis, setting in enumerate(zip(*(_per_axis(v, axes) for v in values), strict=True), start=2):
        width, step, pad, extra, rate = setting
        whole = (one.shape[axis] - 1) * step + rate * (width - 1) + 1
        size = [*one.shape[:axis], whole + extra, *one.shape[axis + 1 :]]
        grown = torch.zeros(size)
        for tap in range(width):
            place = torch.arange(one.shape[axis]) * step + tap * rate
            grown.index_copy_(axis, place, torch.maximum(grown.index_select(axis, place), one))
        one = grown.narrow(axis, pad, whole + extra - 2 * pad)
    return _wide(one, weight.shape[1] * groups)


def _max_pool(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **_: object,
) -> torch.Tensor:
    axes, one = x.ndim - 2, single_channel(x)
    values = (kernel_size, kernel_size if stride is None else stride, padding, dilation)
    settings = zip(*(_per_axis(v, axes) for v in values), strict=True)
    for axis, (width, step, pad, rate) in enumerate(settings, start=2):
        one = _window(one, axis, width, step, pad, rate, ceil=ceil_mode)
    return _wide(one, x.shape[1])


def _average_pool(
    x: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, *_: object
) -> torch.Tensor:
    return _max_pool(x, kernel_size, stride, padding, 1, ceil_mode)


def _pool_to(x: torch.Tensor, output_size: Any) -> torch.Tensor:
    """Adaptive pooling."""
    one = single_channel(x)
    for axis, count in enumerate(_per_axis(output_size, x.ndim - 2), start=2):
        length = one.shape[axis]
        ends = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        one = torch.cat([one.narrow(axis, a, b - a).amax(axis, keepdim=True) for a, b in ends], axis)
    return _wide(one, x.shape[1])


def _interpolate(
    x: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *_: object,
    **__: object,
) -> torch.Tensor:
    axes, one = x.ndim - 2, single_channel(x)
    for axis in range(2, x.ndim):
        old = one.shape[axis]
        if size is not None:
            new = _per_axis(size, axes)[axis - 2]
            scale = Fraction(new, old)
        else:
            scale = Fraction(_per_axis(scale_factor, axes)[axis - 2]).limit_denominator(4096)
            new = math.floor(old * scale)
        first, second = _neighbors(old, new, scale, mode, align_corners=bool(align_corners))
        one = torch.maximum(one.index_select(axis, first), one.index_select(axis, second))
    return _wide(one, x.shape[1])


def _neighbors(
    old: int, new: int, scale: Fraction, mode: str, *, align_corners: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the one or two positions that interpolation to each of ``new`` positions uses, exactly."""
    place = torch.arange(new)
    p, q = scale.numerator, scale.denominator
    if mode == "nearest":
        first = (place * q // p).clamp(max=old - 1)
        return first, first
    if align_corners:
        above, below = place * (old - 1), max(new - 1, 1)
    else:
        above, below = ((2 * place + 1) * q - p).clamp(min=0), 2 * p
    first = (above // below).clamp(max=old - 1)
    return first, (first + (above % below > 0)).clamp(max=old - 1)


def _named(*rules: tuple[Callable[..., torch.Tensor], str]) -> dict[str, Callable[..., torch.Tensor]]:
    return {name: rule for rule, names in rules for name in names.split()}


# operations that only move values or read shapes
_MOVES = set(
    """__get__ __getitem__ __len__ chunk clone contiguous detach dim expand expand_as flatten float index_select
    is_contiguous is_floating_point movedim narrow numel permute repeat reshape roll size split squeeze stack
    stride to transpose type type_as unbind unflatten unsqueeze view""".split()  # noqa: SIM905
)
_CONVS = {"conv2d", "conv3d"}
_MAPS = _CONVS | {"max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d"}
_RULES = _named(
    (_same, "relu relu_ leaky_relu prelu elu gelu silu hardswish hardsigmoid sigmoid tanh softplus"),
    (_same, "dropout dropout2d dropout3d feature_dropout batch_norm instance_norm group_norm layer_norm"),
    (
        _union,
        "add add_ __add__ __radd__ __iadd__ sub __sub__ mul mul_ __mul__ __rmul__ div __truediv__ maximum",
    ),
    (_reduce, "mean sum amax"),
    (_cat, "cat"),
    (_pad, "pad"),
    (_conv, "conv2d conv3d"),
    (_conv_transpose, "conv_transpose2d conv_transpose3d"),
    (_max_pool, "max_pool2d max_pool3d"),
    (_average_pool, "avg_pool2d avg_pool3d"),
    (_pool_to, "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"),
    (_interpolate, "interpolate"),
    (_linear, "linear"),
    (_matmul, "matmul __matmul__ bmm"),
    (_einsum, "einsum"),
    (_spread, "softmax"),
)
