"""Settings and sizes with one number per spatial axis."""

from __future__ import annotations

from pydantic import PositiveInt

from medseg.errors import ConfigError

PerAxis = PositiveInt | tuple[PositiveInt, ...]
"""A setting: one number for all axes, or one per axis."""

PerLevel = tuple[PerAxis, ...]
"""A setting: one entry per level of a network, each as ``PerAxis``."""

AxisTuple = tuple[int, ...]
"""One number per spatial axis."""


def resolve_per_axis(field: str, value: int | tuple[int, ...], spatial_dims: int) -> AxisTuple:
    """Expand a setting to one number per axis.

    Args:
        field: key of the setting below ``model``, for the error message.
        value: one number for all axes, or one per axis.
        spatial_dims: number of spatial axes of the task.

    Raises:
        ConfigError: if ``value`` has another number of entries than ``spatial_dims``.

    Example:
        >>> resolve_per_axis("stride", 2, 3)
        (2, 2, 2)
    """
    entries = (value,) * spatial_dims if isinstance(value, int) else tuple(value)
    if len(entries) != spatial_dims:
        raise ConfigError(
            f"model.{field} is {value}: {len(entries)} numbers, but the task has {spatial_dims} spatial axes",
            hint="Give one number for all axes, or one per axis.",
        )
    return entries


def multiply(first: AxisTuple, second: AxisTuple) -> AxisTuple:
    """Return the product of two tuples, axis by axis."""
    return tuple(a * b for a, b in zip(first, second, strict=True))
