"""Numbers by which a scan and its prediction are compared with the training, and advice where one differs.

A feature is named by its kind, and by a label, channel or axis if there are several: ``object_size:nucleus``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from medseg.data.curation.scan_features import ScanFeatures
from medseg.data.scans import Kind
from medseg.inference.shift.objects import ObjectSizes

_AXES = ("right", "anterior", "superior")

Values = dict[str, float]
"""Feature → value."""


@dataclass(frozen=True)
class FeatureKind:
    """A kind of feature that is compared.

    Attributes:
        title: its name in warnings.
        advice: what to do where it differs.
        spread: smallest interquartile range, of the values or their natural logarithms; training cases that
            are all alike do not make every other case far away.
        unit: of its values, for volumes and for pictures; empty for numbers without one.
        logarithmic: whether ratios count rather than differences.
        offset: added to a value before its logarithm is taken.
        raw: whether it is in the units of the file. Such features of pictures, and of volumes whose
            normalization depends on the units, are compared relative to the training's range of intensities.
    """

    title: str
    advice: str
    spread: float
    unit: tuple[str, str] = ("", "")
    logarithmic: bool = False
    offset: float = 0.0
    raw: bool = False

    def transformed(self, value: float) -> float:
        """Return the number in which distances are measured."""
        return math.log(max(value + self.offset, 1e-12)) if self.logarithmic else value


_UNIT = "check the unit of the file's intensities"
_EXPOSURE = "check exposure and background; add such pictures to the training"
_STAIN = "another stain or camera: add such pictures to the training"
_LABELED = "other voxels than in the training are labeled: look at the result (--overlays)"

KINDS: dict[str, FeatureKind] = {
    "spacing": FeatureKind(
        "spacing", "check fine structures in the result; add such scans to the training", 0.1,
        ("mm", "mm"), logarithmic=True,
    ),
    "extent": FeatureKind(
        "extent", "crop the scan to the region of the training's scans", 0.2, ("mm", "mm"), logarithmic=True
    ),
    "low": FeatureKind("5 percentile of the intensities", _UNIT, 0.03, raw=True),
    "middle": FeatureKind("median brightness", _EXPOSURE, 0.3, logarithmic=True, offset=0.05, raw=True),
    "high": FeatureKind(
        "95 percentile of the brightness", _EXPOSURE, 0.3, logarithmic=True, offset=0.05, raw=True
    ),
    "inside": FeatureKind("median intensity of the labeled voxels", _LABELED, 0.03, raw=True),
    "balance": FeatureKind("position of the median between dark and bright", _UNIT, 0.15),
    "sharpness": FeatureKind(
        "sharpness", "check focus, noise and magnification; for pictures try --rescale auto", 0.15,
        logarithmic=True,
    ),
    "red_green": FeatureKind("excess of red over green", _STAIN, 0.05),
    "blue_yellow": FeatureKind("excess of blue over yellow", _STAIN, 0.05),
    "saturation": FeatureKind("mean saturation", _STAIN, 0.05),
    "object_size": FeatureKind(
        "median object size", "try --rescale auto", 0.25, ("mm", "pixels"), logarithmic=True
    ),
    "share": FeatureKind(
        "share of the image", "look at the result (--overlays)", 0.3, logarithmic=True, offset=1e-3
    ),
    "contrast": FeatureKind("contrast of the labeled voxels", _LABELED, 0.2),
}  # fmt: skip
"""Kind → its description; other features are only stored."""

_OF_PREDICTION = ("object_size", "share", "inside", "contrast")
_RAW = {"picture": ("middle", "high"), "volume": ("low", "inside")}


def kind_of(feature: str) -> FeatureKind:
    """Return the kind of a feature that is compared."""
    return KINDS[feature.partition(":")[0]]


def is_compared(feature: str, kind: Kind, *, raw: bool) -> bool:
    """Return whether a feature is compared.

    Args:
        feature: its name.
        kind: volume or picture.
        raw: whether the network sees the units of volumes' intensities.
    """
    name = feature.partition(":")[0]
    if name not in KINDS:
        return False
    return not KINDS[name].raw or (name in _RAW[kind] and (raw or kind == "picture"))


def is_of_scan(feature: str) -> bool:
    """Return whether a feature is measured on the scan alone, not on its prediction."""
    return feature.partition(":")[0] not in _OF_PREDICTION


def title_of(feature: str) -> str:
    """Return the name of a feature in warnings.

    Example:
        >>> title_of("object_size:nucleus"), title_of("sharpness")
        ('median object size (nucleus)', 'sharpness')
    """
    qualifier = feature.partition(":")[2]
    return kind_of(feature).title + (f" ({qualifier})" if qualifier else "")


def scan_values(
    kind: Kind, shape: tuple[int, ...], spacing: tuple[float, ...], appearance: ScanFeatures
) -> Values:
    """Return the features of a scan.

    Args:
        kind: volume or picture.
        shape, spacing: along right, anterior and superior for volumes; rows and columns for pictures.
        appearance: intensities, sharpness and color.
    """
    values: Values = {}
    if kind == "volume":
        for axis, length, mm in zip(_AXES, shape, spacing, strict=True):
            values |= {f"spacing:{axis}": mm, f"extent:{axis}": length * mm}
    many = len(appearance.intensities) > 1
    for index, (low, _, middle, _, high) in enumerate(appearance.intensities):
        channel = f":channel {index}" if many else ""
        values |= {f"low{channel}": low, f"middle{channel}": middle, f"high{channel}": high}
        if kind == "volume":
            values[f"balance{channel}"] = (middle - low) / (high - low) if high > low else 0.0
    values["sharpness"] = appearance.sharpness
    color = {name: getattr(appearance, name) for name in ("red_green", "blue_yellow", "saturation")}
    return values | {name: value for name, value in color.items() if value is not None}


def foreground_values(appearance: ScanFeatures) -> Values:
    """Return the intensities inside and outside of the foreground, and its contrast.

    The contrast is the difference of the medians, as a share of the scan's range from the 5 to the 95
    percentile, -1 to 1.
    """
    values: Values = {}
    many = len(appearance.intensities) > 1
    for part, channels in (("inside", appearance.inside), ("outside", appearance.outside)):
        for index, (low, _, middle, _, high) in enumerate(channels):
            channel = f":channel {index}" if many else ""
            values |= {f"{part}_low{channel}": low, f"{part}{channel}": middle, f"{part}_high{channel}": high}
    compared = zip(appearance.inside, appearance.outside, appearance.intensities, strict=False)
    for index, (inside, outside, (low, _, _, _, high)) in enumerate(compared):
        name = f"contrast:channel {index}" if many else "contrast"
        difference = inside[2] - outside[2]
        whole = max(high - low, abs(difference))
        values[name] = difference / whole if whole > 0 else 0.0
    return values


def object_values(objects: Mapping[str, ObjectSizes]) -> Values:
    """Return the median size of each label's objects, if there are some, and its share of the image."""
    values: Values = {}
    for name, sizes in objects.items():
        values[f"share:{name}"] = sizes.share
        if sizes.median is not None:
            values[f"object_size:{name}"] = sizes.median
    return values
