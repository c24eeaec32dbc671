"""Label maps: the values in files, their names, and the classes a network learns.

Three numberings meet here. A **value** is what a file holds (0, 255, 17…). A **class** is a network's
output, 0…K-1, in the order the names are listed. A **code** is what the cache holds: class + 1, so that 0
is "ignored" and padding or rotating zeros in never invents a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from medseg.config.base import Spec
from medseg.data.chunked_statistics import count_values, look_up
from medseg.data.labels.terminology import TerminologyCode
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array
from medseg.task import Activation

IGNORED = 0
MOST_OVERLAPPING = 8
"""Labels that may overlap at most: each of their combinations is a value of its own."""

Others = Literal["refuse", "background", "ignore"]


def _values(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Channel = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]
"""Red, green and blue, 0 to 255."""

Values = Annotated[tuple[int, ...], BeforeValidator(_values), Field(min_length=1)]


class LabelSchema(Spec):
    r"""Names and values of a dataset's labels.

    Attributes:
        names: name → value, or values that are merged into one class; the first is written on output.
            The first name is class 0, the background.
        ignore_value: the value of voxels nobody labeled; they count in no loss and no metric.
        collapse_instances: every value other than the background's (and ``ignore_value``) is foreground;
            ``names`` then has two entries.
        regions: name → names of labels it unites; regions may overlap and are trained with ``sigmoid``. On
            output a voxel gets the value of the first label that lies in just its regions; where there is
            none, regions are painted in this order, each with the value of a label no later region holds.
        others: what values nobody named are: a mistake to ``refuse``, ``background``, or ``ignore``\ d.
        pairs: labels of the left and of the right, which are exchanged in mirror images.
        background: whether the first name is background: left out of metrics, of the Dice loss's mean and
            of drawing. Scenes in which every pixel is something have none.
        colors: name → red, green, blue that a label is drawn in; those not named have medseg's own.
        terminology: name of a label or region → its coded term in DICOM objects; those not named are looked up.
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
            raise ValueError(f"the values {twice} stand under more than one name")
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
            raise ValueError(f"colors of {foreign}, which are no labels; known: {list(self.names)}")
        foreign = sorted(set(self.terminology) - {*self.names, *self.regions})
        if foreign:
            raise ValueError(f"terminology of {foreign}, which are no labels; known: {list(self.class_names)}")
        _ = self.painted_values
        sided = [name for pair in self.pairs for name in pair]
        unknown = sorted(set(sided) - set(self.names))
        if unknown or len(set(sided)) != len(sided):
            wrong = unknown or sorted({n for n in sided if sided.count(n) > 1})
            raise ValueError(f"pairs: {wrong} are not known, or stand twice; known: {list(self.names)}")
        _ = self.mirrored_classes
        return self

    @cached_property
    def mirrored_labels(self) -> tuple[int, ...]:
        """For each label the one that it becomes when left and right are exchanged; empty without pairs."""
        other = {a: b for pair in self.pairs for a, b in (pair, pair[::-1])}
        names = list(self.names)
        return tuple(names.index(other.get(name, name)) for name in names) if other else ()

    @cached_property
    def mirrored_classes(self) -> tuple[int, ...]:
        """The same for each channel of the logits: a region becomes the one of the exchanged labels."""
        if not self.regions or not self.pairs:
            return self.mirrored_labels
        names = list(self.names)
        other = dict(zip(names, (names[i] for i in self.mirrored_labels), strict=True))
        members = [frozenset(m) for m in self.regions.values()]
        mirrored = [frozenset(other[name] for name in m) for m in members]
        if any(m not in members for m in mirrored):
            raise ValueError("pairs: a region has no counterpart on the other side")
        return tuple(members.index(m) for m in mirrored)

    def with_colors(self, colors: Mapping[str, Color]) -> LabelSchema:
        """The same labels in these colors; names that are no labels are passed over."""
        known = {name: color for name, color in colors.items() if name in self.names}
        return LabelSchema.model_validate(self.model_dump() | {"colors": {**self.colors, **known}})

    def with_terminology(self, terms: Mapping[str, TerminologyCode]) -> LabelSchema:
        """The same labels with these coded terms; names that are no labels are passed over."""
        known = {name: term for name, term in terms.items() if name in self.names or name in self.regions}
        return self.model_copy(update={"terminology": {**self.terminology, **known}}) if known else self

    @property
    def activation(self) -> Activation:
        """``sigmoid`` where regions are learnt, else ``softmax``."""
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
        """What metrics are computed of: name → values, without the background; regions if there are any."""
        if self.regions:
            return {r: tuple(v for m in ms for v in self.names[m]) for r, ms in self.regions.items()}
        return dict(list(self.names.items())[1 if self.background else 0 :])

    @property
    def first_evaluated(self) -> int:
        """The first class that metrics are computed of: 1, or 0 where there is no background."""
        return 1 if self.background else 0

    def annotated_classes(self, labeled: tuple[str, ...] | None) -> tuple[bool, ...]:
        """Which channels of the logits a case's label map tells of, if these labels were annotated in it.

        A region is known if it is named itself, or all its labels are; the background always is.
        Raises: DataError for names that are neither labels nor regions.
        """
        if labeled is None:
            return (True,) * self.num_classes
        unknown = sorted(set(labeled) - set(self.names) - set(self.regions))
        if unknown:
            raise DataError(f"annotated labels {unknown} are not known; known: {', '.join(self.class_names)}")
        if self.regions:
            return tuple(r in labeled or set(m) <= set(labeled) for r, m in self.regions.items())
        return tuple(name in labeled or (self.background and i == 0) for i, name in enumerate(self.names))

    def is_undeclared(self, value: int) -> bool:
        """Whether a value in a file is one that nobody named."""
        named = any(value in group for group in self.names.values())
        return not (named or value == self.ignore_value or self.collapse_instances or self.others != "refuse")

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
        """Turn a label map of file values into codes (class + 1, 0 ignored), uint8 or uint16.

        Raises: DataError naming ``where`` and the values nobody named.
        """
        dtype = np.uint8 if len(self.names) < 255 else np.uint16
        present = list(count_values(values))
        code_of = {v: i + 1 for i, group in enumerate(self.names.values()) for v in group}
        if self.ignore_value is not None:
            code_of[self.ignore_value] = IGNORED
        if self.collapse_instances:
            code_of |= {int(v): 2 for v in present if int(v) not in code_of}
        unnamed = [int(v) for v in present if self.is_undeclared(int(v))]
        if unnamed:
            raise DataError(f"{where}: {describe_undeclared(unnamed, self)}")
        rest = 1 if self.others == "background" else IGNORED
        return look_up(values, {v: code_of.get(v, rest) for v in present}, np.dtype(dtype))

    def decode(self, classes: Array) -> Array:
        """Turn a map of classes (*S), integers, into file values, in the smallest integer type that holds them.

        Raises: TypeError for a mask.
        """
        if classes.dtype.kind not in "iu":
            raise TypeError(f"a map of classes is of integers, this one of {classes.dtype}")
        table = np.array(self.output_values)
        return table.astype(smallest_integer(self.output_values))[classes]

    def paint(self, regions: Array) -> Array:
        """Turn (regions, *S) masks, bool, into one label map of file values; see ``regions``.

        Raises: TypeError for numbers, which would be taken for indices.
        """
        if regions.dtype != np.bool_:
            raise TypeError(f"masks of regions are bool, these are {regions.dtype}")
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


def overlapping_labels(
    names: tuple[str, ...], *, background: str = "background", pairs: Sequence[tuple[str, str]] = ()
) -> LabelSchema:
    """Labels that may overlap: each is a region, each combination a value (the sum of powers of two).

    Args:
        names: of the labels.
        background: the name of what lies in none of them.
        pairs: labels of the left and of the right; combinations of them are exchanged, too.

    Raises: ConfigError if there are more than ``MOST_OVERLAPPING``, or if a pair names another.
    """
    if not 1 <= len(names) <= MOST_OVERLAPPING:
        raise ConfigError(
            f"{len(names)} labels overlap ({', '.join(names)}); at most {MOST_OVERLAPPING} can. Leave out "
            "data.overlapping, or name fewer under data.labels."
        )
    table: dict[str, Values] = {background: (0,)}
    regions: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    for size in range(1, len(names) + 1):
        for members in combinations(names, size):
            joined = "+".join(members)
            table[joined] = (sum(1 << names.index(name) for name in members),)
            for name in members:
                regions[name] += (joined,)
    return LabelSchema(names=table, regions=regions, pairs=_combined_pairs(names, pairs))


def _combined_pairs(names: tuple[str, ...], pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The combinations of labels that are exchanged where the labels of ``pairs`` are."""
    sided = [name for pair in pairs for name in pair]
    if set(sided) - set(names) or len(set(sided)) < len(sided):
        raise ConfigError(f"data.pairs: {sided} are not all known, or appear twice; known: {list(names)}")
    other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    found: list[tuple[str, str]] = []
    for size in range(1, len(names) + 1):
        for members in combinations(range(len(names)), size):
            mirrored = sorted(names.index(other.get(names[i], names[i])) for i in members)
            if list(members) < mirrored:
                found.append(("+".join(names[i] for i in members), "+".join(names[i] for i in mirrored)))
    return tuple(found)


def smallest_integer(values: tuple[int, ...]) -> np.dtype[np.integer]:
    """The smallest integer type that holds all ``values``."""
    low, high = min(values), max(values)
    if low >= 0:
        return np.min_scalar_type(high)
    signed = np.min_scalar_type(low)
    return signed if high <= np.iinfo(signed).max else np.min_scalar_type(-high - 1)


def describe_undeclared(unnamed: list[int], labels: LabelSchema) -> str:
    """The message for label values without a name."""
    shown = ", ".join(map(str, unnamed[:10])) + (f" and {len(unnamed) - 10} more" if len(unnamed) > 10 else "")
    known = ", ".join(f"{name} = {'/'.join(map(str, vs))}" for name, vs in labels.names.items())
    hint = "name them under data.labels, or set data.ignore_value"
    if len(unnamed) > 10:
        hint += "; if they number instances, set data.instances=foreground"
    return f"label values nobody named: {shown}. Known: {known}. Way out: {hint}."


def guess_labels(values: set[int], *, most: int = 64) -> LabelSchema:
    """Names for values found in label files when the user gave none.

    One value beside the lowest is ``foreground``; more are ``label_<value>``.
    Raises: ConfigError if there are more than ``most`` (they probably number instances).
    """
    if len(values) < 2:
        raise ConfigError(
            f"the label files hold only the value {sorted(values)}: nothing to learn. "
            "Are they the right files? Otherwise name the labels under data.labels."
        )
    if len(values) > most:
        raise ConfigError(
            f"the label files hold {len(values)} different values; if they number instances, set "
            "data.instances=foreground, else name them under data.labels."
        )
    background, *others = sorted(values, key=lambda v: (v != 0, v))
    if len(others) == 1:
        return LabelSchema(names={"background": (background,), "foreground": (others[0],)})
    return LabelSchema(names={"background": (background,)} | {f"label_{v}": (v,) for v in others})
