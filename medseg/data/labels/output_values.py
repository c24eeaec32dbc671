"""Values that the label maps of a converted dataset hold, and the table of their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.data.labels.label_plan import LabelPlan
from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError
from medseg.geometry import Array

_APPLIED = {"names", "ignore_value", "collapse_instances", "others", "regions", "background"}
"""Fields of labels set by the user that change what the values of label maps mean."""


@dataclass(frozen=True)
class OutputValues:
    """One value for each label, without merged values, undeclared values and instances.

    Attributes:
        labels: the labels.
        values: value written for each label, in the order of the names.
        ignore: value of ignored voxels; None if none are ignored.
    """

    labels: LabelSchema
    values: tuple[int, ...]
    ignore: int | None

    def apply(self, values: Array, case: str) -> Array:
        """Return the values to write (*S), int64, for a dataset's values (*S).

        Raises: DataError for values that are not declared, if ``others`` is ``refuse``.
        """
        codes = self.labels.encode(values, f"case {case}")
        return np.array([0 if self.ignore is None else self.ignore, *self.values])[codes]

    @property
    def names(self) -> dict[str, int]:
        """Name → value of each label, and ``ignore``. Raises: DataError if a label has that name."""
        if self.ignore is None:
            return dict(zip(self.labels.names, self.values, strict=True))
        if "ignore" in self.labels.names:
            raise DataError(
                "a label is named 'ignore', which in tables of labels is the value that counts nowhere. "
                "Rename it under data.labels."
            )
        return dict(zip(self.labels.names, self.values, strict=True)) | {"ignore": self.ignore}

    @property
    def table(self) -> dict[str, Any]:
        """The same with regions, name → values, in place of labels, if there are any."""
        names = self.names
        if not self.labels.regions:
            return names
        background = next(iter(self.labels.names))
        members = {region: [names[m] for m in ms] for region, ms in self.labels.regions.items()}
        ignored = {} if self.ignore is None else {"ignore": self.ignore}
        return {background: names[background]} | members | ignored


def consecutive_output_values(labels: LabelSchema) -> OutputValues:
    """0…K-1 in the order of the names, ignored voxels K; from 1 where nothing is background (nnU-Net's 0)."""
    first = 0 if labels.background else 1
    end = len(labels.names) + first
    return OutputValues(labels, tuple(range(first, end)), end if _ignores(labels) else None)


def declared_output_values(plan: LabelPlan, labels: LabelSchema) -> OutputValues | None:
    """The first value of each label, the background 0; none where nothing is stated that changes values.

    Raises: DataError if the background is not 0 and 0 is a label, or is ignored.
    """
    reader = plan.reader
    guessed = plan.schema is None and labels.collapse_instances  # too many values, and nothing stated
    stated = _APPLIED & set(plan.user_fields) or reader.colors or reader.overlapping
    if guessed or not stated:
        return None
    values = labels.output_values
    if labels.background and values[0] != 0:
        if 0 in values or labels.ignore_value == 0:
            raise DataError(
                f"the background {next(iter(labels.names))!r} has the value {values[0]}, and 0 is another "
                "label or ignored; this layout's background is 0. Use --to nnunet, which numbers labels anew."
            )
        values = (0, *values[1:])
    ignore = labels.ignore_value
    if _ignores(labels) and not ignore:  # none, or 0, which is the background
        ignore = max(values) + 1
    return OutputValues(labels, values, ignore)


def _ignores(labels: LabelSchema) -> bool:
    return labels.ignore_value is not None or labels.others == "ignore"
