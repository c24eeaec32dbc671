"""``LabelSchema``: names, values and meaning of the labels of a dataset.

Three numberings occur. A **value** is what a file holds (0, 255, 17…). A **class index** is a channel of a
network's softmax output, 0…K-1, in the order of the names. An **encoded** label map, as the cache holds it, has
class index + 1, so that 0 means "ignored" and padding with zeros never adds a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from medseg.config.base import Spec
from medseg.data.chunked_statistics import count_values, look_up
from medseg.data.labels.lateral_pairs import LateralPairs
from medseg.data.labels.names.terminology import TerminologyCode
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array
from medseg.task import Activation

IGNORED = 0
"""Encoded value of ignored voxels."""

Others = Literal["refuse", "background", "ignore"]


def _as_tuple(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Channel = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]
"""Red, green and blue, 0 to 255."""

Values = Annotated[tuple[int, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
"""Values of one label in files; a single number is a tuple of one."""


class LabelSchema(Spec):
    r"""Names, values and meaning of the labels of a dataset.

    Attributes:
        names: name → values in files, which are merged into one class; the first is written on output. The
            first name is class 0, the background.
        ignore_value: value of voxels that count in no loss and no metric.
        collapse_instances: every value other than the background's and ``ignore_value`` is foreground; there
            are then two names.
        regions: name → names of the labels it unites. Regions may overlap and are trained with a sigmoid. On
            output a voxel gets the value of the first label that lies in exactly its regions; if there is
            none, regions are painted in this order, each with the value of a label in no later region.
        others: treatment of undeclared values: an error (``refuse``), ``background``, or ``ignore``\ d.
        pairs: labels of the left and the right side, which swap in mirror images.
        background: whether the first name is background: left out of metrics, of the mean Dice loss and of
            drawing. Scenes in which every pixel belongs to a class have none.
        colors: name → red, green, blue that a label is drawn in; other labels get medseg's colors.
        terminology: name of a label or region → its coded term in DICOM objects; others are looked up by name.

    Example:
        >>> schema = LabelSchema.model_validate({"names": {"background": 0, "liver": [1, 2]}})
        >>> schema.encode(np.array([0, 1, 2]), "liver.nii.gz").tolist()
        [1, 2, 2]
    """

    names: dict[str, Values] = Field(min_length=2)
    ignore_value: int | None = None
    collapse_instances: bool = False
    regions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    others: Others = "refuse"
    background: bool = True
    colors: dict[str, Color] = Field(default_factory=dict)
    terminology: dict[str, TerminologyCode] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> LabelSchema:
        values = [v for group in self.names.values() for v in group]
        if len(set(values)) != len(values):
            twice = sorted({v for v in values if values.count(v) > 1})
            raise ValueError(f"the values {twice} are assigned to several labels")
        if self.ignore_value in values:
            same = next(name for name, group in self.names.items() if self.ignore_value in group)
            raise ValueError(f"the ignore value {self.ignore_value} is also the value of a label, {same!r}")
        if self.collapse_instances and len(self.names) != 2:
            raise ValueError("collapsing instances leaves two labels, e.g. {background: 0, nucleus: 1}")
        for region, members in self.regions.items():
            unknown = sorted(set(members) - set(self.names))
            if unknown or not members:
                raise ValueError(f"region {region!r} names {unknown or 'no labels'}; known: {list(self.names)}")
        foreign = sorted(set(self.colors) - set(self.names))
        if foreign:
            raise ValueError(f"colors of {foreign}, which are not labels; known: {list(self.names)}")
        foreign = sorted(set(self.terminology) - {*self.names, *self.regions})
        if foreign:
            raise ValueError(f"terminology of {foreign}, which are not labels; known: {list(self.class_names)}")
        _ = self.painted_values
        invalid = LateralPairs(self.pairs).invalid_names(self.names)
        if invalid:
            raise ValueError(f"pairs: {invalid} are unknown or appear twice; known: {list(self.names)}")
        _ = self.mirrored_classes
        return self

    @cached_property
    def mirrored_labels(self) -> tuple[int, ...]:
        """For each label the index of its counterpart on the other side; empty without pairs."""
        return LateralPairs(self.pairs).permutation(list(self.names))

    @cached_property
    def mirrored_classes(self) -> tuple[int, ...]:
        """For each channel of the logits the index of its counterpart; empty without pairs."""
        if not self.regions or not self.pairs:
            return self.mirrored_labels
        return LateralPairs(self.pairs).region_permutation(self.regions)

    def with_colors(self, colors: Mapping[str, Color]) -> LabelSchema:
        """Return the schema with these colors; other names are skipped."""
        known = {name: color for name, color in colors.items() if name in self.names}
        return LabelSchema.model_validate(self.model_dump() | {"colors": {**self.colors, **known}})

    def with_terminology(self, terms: Mapping[str, TerminologyCode]) -> LabelSchema:
        """Return the schema with these coded terms; names other than labels and regions are skipped."""
        known = {name: term for name, term in terms.items() if name in self.names or name in self.regions}
        return self.model_copy(update={"terminology": {**self.terminology, **known}}) if known else self

    @property
    def activation(self) -> Activation:
        """``sigmoid`` if there are regions, else ``softmax``."""
        return "sigmoid" if self.regions else "softmax"

    @property
    def num_classes(self) -> int:
        """Channels of the logits: regions if there are any, else the labels, background included."""
        return len(self.regions) or len(self.names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each channel of the logits."""
        return tuple(self.regions or self.names)

    @property
    def evaluated(self) -> dict[str, tuple[int, ...]]:
        """Name → values of what metrics are computed of: regions if there are any, else labels without the
        background.
        """
        if self.regions:
            return {r: tuple(v for m in ms for v in self.names[m]) for r, ms in self.regions.items()}
        return dict(list(self.names.items())[1 if self.background else 0 :])

    @property
    def first_evaluated(self) -> int:
        """Index of the first class that metrics are computed of: 1, or 0 without a background."""
        return 1 if self.background else 0

    def annotated_classes(self, labeled: tuple[str, ...] | None) -> tuple[bool, ...]:
        """Return which classes are annotated in a case.

        A region is annotated if it is named itself or all its labels are; the background always is.

        Args:
            labeled: names of the annotated labels and regions; if None, all are annotated.

        Returns:
            One boolean for each channel of the logits.

        Raises:
            DataError: a name is neither a label nor a region.
        """
        if labeled is None:
            return (True,) * self.num_classes
        unknown = sorted(set(labeled) - set(self.names) - set(self.regions))
        if unknown:
            raise DataError(f"unknown annotated labels {unknown}; known: {', '.join(self.class_names)}")
        if self.regions:
            return tuple(r in labeled or set(m) <= set(labeled) for r, m in self.regions.items())
        return tuple(name in labeled or (self.background and i == 0) for i, name in enumerate(self.names))

    def is_undeclared(self, value: int) -> bool:
        """Return whether a value in a file is not declared and ``others`` makes that an error."""
        declared = any(value in group for group in self.names.values())
        return not (
            declared or value == self.ignore_value or self.collapse_instances or self.others != "refuse"
        )

    @property
    def declared_values(self) -> set[int]:
        """Every value in a file that has a meaning: those of the labels and the ignored one."""
        ignored = set() if self.ignore_value is None else {self.ignore_value}
        return ignored | {value for values in self.names.values() for value in values}

    @cached_property
    def output_values(self) -> tuple[int, ...]:
        """The value written for each class."""
        return tuple(values[0] for values in self.names.values())

    @cached_property
    def painted_values(self) -> tuple[int, ...]:
        """The value each region is painted with, in painting order."""
        painted: list[int] = []
        order = list(self.regions.items())
        for i, (region, members) in enumerate(order):
            later = {m for _, others in order[i + 1 :] for m in others}
            own = [m for m in members if m not in later]
            if not own:
                raise ValueError(
                    f"region {region!r} lies within the regions listed after it, so painting them would hide "
                    "it. List the regions from the largest to the smallest."
                )
            painted.append(self.names[own[0]][0])
        return tuple(painted)

    @cached_property
    def region_table(self) -> NDArray[np.bool_]:
        """(regions, labels): whether a region holds a label."""
        return np.array([[n in members for n in self.names] for members in self.regions.values()], dtype=bool)

    def encode(self, values: Array, where: str) -> Array:
        """Encode a map of file values as class index + 1, and 0 for ignored voxels.

        Args:
            values: (*S) integers.
            where: what an error names, such as the file.

        Returns:
            (*S) uint8, or uint16 for 255 or more labels.

        Raises:
            DataError: undeclared values, if ``others`` is ``refuse``.
        """
        dtype = np.uint8 if len(self.names) < 255 else np.uint16
        present = list(count_values(values))
        encoded = {v: i + 1 for i, group in enumerate(self.names.values()) for v in group}
        if self.ignore_value is not None:
            encoded[self.ignore_value] = IGNORED
        if self.collapse_instances:
            encoded |= {int(v): 2 for v in present if int(v) not in encoded}
        undeclared = [int(v) for v in present if self.is_undeclared(int(v))]
        if undeclared:
            message, hint = describe_undeclared(undeclared, self)
            raise DataError(f"{where}: {message}", hint=hint)
        rest = 1 if self.others == "background" else IGNORED
        return look_up(values, {v: encoded.get(v, rest) for v in present}, np.dtype(dtype))

    def decode(self, classes: Array) -> Array:
        """Turn a map of class indices (*S) into file values, in the smallest integer type that holds them.

        Raises:
            TypeError: ``classes`` are not integers.
        """
        if classes.dtype.kind not in "iu":
            raise TypeError(f"expected integer class indices, got {classes.dtype}")
        table = np.array(self.output_values)
        return table.astype(smallest_integer(self.output_values))[classes]

    def paint(self, regions: Array) -> Array:
        """Turn masks of regions, (regions, *S) bool, into one label map of file values; see ``regions``.

        Raises:
            TypeError: the masks are not bool.
        """
        if regions.dtype != np.bool_:
            raise TypeError(f"expected bool masks of regions, got {regions.dtype}")
        background = self.output_values[0]
        values = (background, *self.painted_values, *self.output_values)
        painted = np.full(regions.shape[1:], background, smallest_integer(values))
        for mask, value in zip(regions, self.painted_values, strict=True):
            painted[mask] = value
        for label, members in reversed(list(enumerate(self.region_table.T))):  # the first label wins
            if members.any():
                painted[(regions == members.reshape(-1, *[1] * painted.ndim)).all(axis=0)] = self.output_values[
                    label
                ]
        return painted


def smallest_integer(values: tuple[int, ...]) -> np.dtype[np.integer]:
    """The smallest integer type that holds all ``values``."""
    low, high = min(values), max(values)
    if low >= 0:
        return np.min_scalar_type(high)
    signed = np.min_scalar_type(low)
    return signed if high <= np.iinfo(signed).max else np.min_scalar_type(-high - 1)


def shorten_values(values: Sequence[int], *, most: int = 10) -> str:
    """List label values for a message; at most ``most``, and how many more there are.

    Example:
        >>> shorten_values([0, 1, 2, 3], most=2)
        '0, 1 and 2 more'
    """
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def describe_undeclared(values: list[int], schema: LabelSchema) -> tuple[str, str]:
    """Return the message and the hint of an error about undeclared label values."""
    shown = shorten_values(values)
    declared = ", ".join(f"{name} = {'/'.join(map(str, vs))}" for name, vs in schema.names.items())
    hint = (
        "Name them under data.labels.names, set data.labels.others=background or data.labels.ignore_value, or "
        f"map them in a copy: medseg data check DATA --fix DIR --map {values[0]}=NEW"
    )
    if len(values) > 10:
        hint = f"If they number objects, set data.instances=keep (or data.labels.instances=foreground). {hint}"
    return f"undeclared label values: {shown}; declared: {declared}", f"{hint}."


def guess_schema(values: set[int], *, most: int = 64) -> LabelSchema:
    """Name the values found in label files for which no names are declared.

    One value beside the lowest is ``foreground``; several are ``label_<value>``.

    Raises:
        ConfigError: there is one value only, or there are more than ``most`` (they probably number instances).

    Example:
        >>> guess_schema({0, 255}).names
        {'background': (0,), 'foreground': (255,)}
    """
    if len(values) < 2:
        raise ConfigError(
            f"the label files hold only the value {sorted(values)}: there is nothing to learn",
            hint="Check that they are the right files; otherwise name the labels under data.labels.names.",
        )
    if len(values) > most:
        raise ConfigError(
            f"the label files hold {len(values)} different values and no names are declared",
            hint="If they number objects, set data.instances=keep (or data.labels.instances=foreground); "
            "otherwise name them under "
            "data.labels.names.",
        )
    background, *others = sorted(values, key=lambda v: (v != 0, v))
    if len(others) == 1:
        return LabelSchema(names={"background": (background,), "foreground": (others[0],)})
    return LabelSchema(names={"background": (background,)} | {f"label_{v}": (v,) for v in others})
