"""Label values whose voxels count in statistics of intensities."""

from __future__ import annotations

import numpy as np

from medseg.config.base import Spec
from medseg.data.labels.schema import LabelSchema
from medseg.geometry import Array


class ForegroundValues(Spec):
    """Label values that are foreground in statistics of intensities.

    Attributes:
        values: the foreground's values; if None, every value other than ``background``.
        background: values that never count.
    """

    values: tuple[int, ...] | None = None
    background: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, schema: LabelSchema | None, ignore_value: int | None = None) -> ForegroundValues:
        """Return the foreground of a schema: neither its background, nor ignored or undeclared values.

        Args:
            schema: the labels; if None, every value counts but 0 and ``ignore_value``.
            ignore_value: the ignored value where there is no schema.
        """
        if schema is None:
            return cls(background=(0,) if ignore_value is None else (0, ignore_value))
        groups = list(schema.names.values())
        background = [*(groups[0] if schema.background else ())]
        background += [schema.ignore_value] if schema.ignore_value is not None else []
        values = {v for group in groups for v in group} - set(background)
        return cls(
            values=None if schema.collapse_instances else tuple(sorted(values)), background=tuple(background)
        )

    def mask(self, label_map: Array) -> Array:
        """Return where a map of values (*S) holds foreground, (*S) bool."""
        if self.values is not None:
            return np.isin(label_map, self.values)
        return ~np.isin(label_map, self.background)
