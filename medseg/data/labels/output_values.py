"""Values in the label maps of a converted dataset, and the table of their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.data.labels.label_plan import LabelPlan
from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError
from medseg.geometry import Array

_APPLIED = {"names", "ignore_value", "collapse_instances", "others", "regions", "background"}
"""Fields of the label settings that change the meaning of values in label maps."""


@dataclass(frozen=True)
class OutputValues:
    """One output value per label; merged values, undeclared values and instances are resolved.

    Attributes:
        labels: the labels.
        values: value written for each label, in the order of the names.
        ignore: value of ignored voxels; None if none are ignored.
    """

    labels: LabelSchema
    values: tuple[int, ...]
    ignore: int | None

    def apply(self, values: Array, case: str) -> Array:
        """Map the values of a label map to the values to write.

        Args:
            values: (*S), values of the dataset.
            case: id of the case, for error messages.

        Returns:
            (*S), int64.

        Raises:
            DataError: a value is not declared, and ``others`` is ``refuse``.
        """
        codes = self.labels.encode(values, f"case {case}")
        return np.array([0 if self.ignore is None else self.ignore, *self.values])[codes]

    @property
    def names(self) -> dict[str, int]:
        """Name → value of each label, and ``ignore`` → the ignored value, if there is one.

        Raises:
            DataError: a label is named ``ignore``.
        """
        if self.ignore is None:
            return dict(zip(self.labels.names, self.values, strict=True))
        if "ignore" in self.labels.names:
            raise DataError(
                "a label is named 'ignore', which is reserved for the ignored value in tables of labels",
                hint="Rename it under data.labels.",
            )
        return dict(zip(self.labels.names, self.values, strict=True)) | {"ignore": self.ignore}

    @property
    def table(self) -> dict[str, Any]:
        """As ``names``; with regions, the background and region → values of its labels instead of labels."""
        names = self.names
        if not self.labels.regions:
            return names
        background = next(iter(self.labels.names))
        members = {region: [names[m] for m in ms] for region, ms in self.labels.regions.items()}
        ignored = {} if self.ignore is None else {"ignore": self.ignore}
        return {background: names[background]} | members | ignored


def consecutive_output_values(labels: LabelSchema) -> OutputValues:
    """Number the labels from 0 in the order of their names, from 1 if none is background (0 in nnU-Net).

    Ignored voxels get the next value.
    """
    first = 0 if labels.background else 1
    end = len(labels.names) + first
    return OutputValues(labels, tuple(range(first, end)), end if _ignores(labels) else None)


def declared_output_values(plan: LabelPlan, labels: LabelSchema) -> OutputValues | None:
    """Give each label its first declared value, and the background 0.

    Returns:
        The values; None if no setting changes the values of label maps.

    Raises:
        DataError: the background is not 0, and 0 is a label or ignored.
    """
    reader = plan.reader
    guessed = plan.schema is None and labels.collapse_instances  # too many values, and no settings
    declared = _APPLIED & set(plan.user_fields) or reader.colors or reader.overlapping
    if guessed or not declared:
        return None
    values = labels.output_values
    if labels.background and values[0] != 0:
        if 0 in values or labels.ignore_value == 0:
            raise DataError(
                f"the background {next(iter(labels.names))!r} has the value {values[0]}, and 0 is another "
                "label or ignored; the background of this layout is 0",
                hint="Use --to nnunet, which renumbers the labels.",
            )
        values = (0, *values[1:])
    ignore = labels.ignore_value
    if _ignores(labels) and not ignore:  # None, or 0, which is the background
        ignore = max(values) + 1
    return OutputValues(labels, values, ignore)


def _ignores(labels: LabelSchema) -> bool:
    return labels.ignore_value is not None or labels.others == "ignore"
