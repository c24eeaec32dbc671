"""``data.labels``: what a user declares about the labels of a dataset."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field, StrictBool, model_validator

from medseg.config.base import Spec
from medseg.data.labels.merging import merge_schema
from medseg.data.labels.names.terminology import TerminologyCode
from medseg.data.labels.schema import Color, LabelSchema, Others, Values
from medseg.errors import ConfigError

Missing = Literal["refuse", "empty", "unknown"]


class LabelConfig(Spec):
    """Names, values and meaning of the labels in a dataset's files.

    Every field is optional. A field that is set replaces what the dataset's layout declares; otherwise the
    layout's declaration counts, then a file of names beside the data, then the values themselves.

    A mapping of names to values is a short form: ``{background: 0, liver: 1}`` means
    ``{names: {background: 0, liver: 1}}``.

    Attributes:
        names: name → value, or values merged into one label; the first label is class 0, the background.
        regions: name → labels it unites. Regions may overlap and are trained with a sigmoid each.
        pairs: labels of the left and the right side, [[left, right], …]. They swap when a patch is mirrored
            along an odd number of axes (along two axes it is rotated by 180°, which keeps sides).
        ignore_value: value of voxels that count in no loss and no metric.
        others: treatment of values that are not declared: ``refuse`` (default), count as ``background``, or
            ``ignore``.
        background: whether the first label is background, which has no metric and is not drawn (default: true).
        missing: meaning of a label file that a case lacks, where each label has its own file: an error
            (``refuse``), the structure is absent (``empty``), or it was not annotated (``unknown``: the label
            has no loss and no score in that case).
        overlapping: labels may overlap (one file per label, DICOM segments, channels); each is trained with a
            sigmoid.
        soft: label files hold probabilities.
        instances: ``foreground`` merges all values other than the background's into one label.
        colors: name → [red, green, blue] of color-coded label maps; labels are also drawn in them. If no
            names are declared, these are the names, in their order.
        terminology: name → coded term of a label or region in DICOM objects. Other terms are looked up by name.

    Example:
        >>> LabelConfig.model_validate({"background": 0, "liver": 1}).names
        {'background': (0,), 'liver': (1,)}
    """

    names: Annotated[dict[str, Values], Field(min_length=2)] | None = None
    regions: dict[str, tuple[str, ...]] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    ignore_value: int | None = None
    others: Others | None = None
    background: StrictBool | None = None
    missing: Missing = "refuse"
    overlapping: bool = False
    soft: bool = False
    instances: Literal["keep", "foreground"] = "keep"
    colors: dict[str, Color] | None = None
    terminology: dict[str, TerminologyCode] | None = None

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, data: Any) -> Any:
        expanded = expand_short_form(data)
        if isinstance(expanded, dict) and "names" not in expanded:
            table = cast(dict[Any, Any], expanded)
            loose = [key for key, value in table.items() if _is_value(value) and _is_name(key, value)]
            if loose:
                raise ValueError(
                    f"labels are listed under names if other settings are given: move {loose} there"
                )
        return expanded

    @model_validator(mode="after")
    def _consistent(self) -> LabelConfig:
        try:
            self.declared_schema()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if self.soft and (self.overlapping or self.regions):
            raise ValueError("soft labels are one distribution per voxel: they cannot overlap or form regions")
        if self.overlapping and self.regions:
            raise ValueError("overlapping labels are regions already: set either overlapping or regions")
        return self

    def declared_schema(self) -> LabelSchema | None:
        """Return the schema if the labels are named here, None if the layout or the files name them."""
        fields = self.schema_fields()
        named = "names" in fields or fields.get("collapse_instances")
        return merge_schema(fields) if named else None

    def schema_fields(self) -> dict[str, Any]:
        """Return the fields of :class:`LabelSchema` that are set here, without ``colors``."""
        fields: dict[str, Any] = {
            "names": self.names,
            "ignore_value": self.ignore_value,
            "collapse_instances": self.instances == "foreground" or None,
            "regions": self.regions,
            "pairs": self.pairs,
            "others": self.others,
            "background": self.background,
            "terminology": self.terminology,
        }
        return {name: value for name, value in fields.items() if value is not None}


def expand_short_form(value: Any) -> Any:
    """Return ``{"names": value}`` for a mapping of label names to values; anything else as it is.

    A mapping with a key that is a setting of ``data.labels`` is no short form; only ``background`` is both a
    setting (true or false) and a usual name of a label (a value).
    """
    if not isinstance(value, dict):
        return value
    table = cast(dict[Any, Any], value)
    if not any(_is_value(entry) for entry in table.values()):
        return table
    names = all(_is_name(key, entry) and not isinstance(entry, dict) for key, entry in table.items())
    return {"names": table} if names else table


def _is_value(entry: object) -> bool:
    return isinstance(entry, int | list | tuple) and not isinstance(entry, bool)


def _is_name(key: object, entry: object) -> bool:
    """Whether a key of ``data.labels`` is the name of a label rather than a setting."""
    return key not in LabelConfig.model_fields or (key == "background" and _is_value(entry))
