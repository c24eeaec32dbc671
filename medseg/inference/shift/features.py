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
    """A kind of feature.

    Attributes:
        title: its name in warnings.
        advice: what to do where it differs.
        unit: of its values, for volumes and for pictures; empty for numbers without one.
        logarithmic: whether ratios count rather than differences.
        offset: added to a value before its logarithm is taken.
        spread: smallest interquartile range, of the values or their natural logarithms; training cases that
            are all alike do not make every other case far away.
        raw: whether it is in the units of the file, which most normalizations remove.
    """

    title: str
    advice: str
    unit: tuple[str, str] = ("", "")
    logarithmic: bool = False
    offset: float = 0.0
    spread: float = 0.05
    raw: bool = False

    def transformed(self, value: float) -> float:
        """Return the number in which distances are measured."""
        return math.log(max(value + self.offset, 1e-12)) if self.logarithmic else value


_INTENSITIES = "check the unit and the range of the file's intensities"
_BRIGHTNESS = "check exposure and background; add such images to the training"
_LABELED = "look at the result (--overlays): other voxels than in the training are labeled"
_STAIN = "another stain or camera: add such pictures to the training"

KINDS: dict[str, FeatureKind] = {
    "spacing": FeatureKind(
        "spacing", "check the result at fine structures, or train on such scans", ("mm", "mm"), True, spread=0.1
    ),
    "extent": FeatureKind(
        "extent", "crop the scan to the region of the training's scans", ("mm", "mm"), True, spread=0.3
    ),
    "low": FeatureKind("5 % of the intensities are below", _INTENSITIES, raw=True, spread=1.0),
    "middle": FeatureKind("median intensity", _INTENSITIES, raw=True, spread=1.0),
    "high": FeatureKind("5 % of the intensities are above", _INTENSITIES, raw=True, spread=1.0),
    "inside_low": FeatureKind("5 % of the foreground's intensities are below", _LABELED, raw=True, spread=1.0),
    "inside": FeatureKind("median intensity of the foreground", _LABELED, raw=True, spread=1.0),
    "inside_high": FeatureKind("5 % of the foreground's intensities are above", _LABELED, raw=True, spread=1.0),
    "outside_low": FeatureKind("5 % of the background's intensities are below", _LABELED, raw=True, spread=1.0),
    "outside": FeatureKind("median intensity of the background", _LABELED, raw=True, spread=1.0),
    "outside_high": FeatureKind(
        "5 % of the background's intensities are above", _LABELED, raw=True, spread=1.0
    ),
    "balance": FeatureKind("position of the median between dark and bright", _BRIGHTNESS),
    "sharpness": FeatureKind(
        "sharpness", "check focus, noise and magnification; for pictures try --rescale auto",
        logarithmic=True, spread=0.1,
    ),
    "red_green": FeatureKind("excess of red over green", _STAIN),
    "blue_yellow": FeatureKind("excess of blue", _STAIN),
    "saturation": FeatureKind("mean saturation", _STAIN),
    "object_size": FeatureKind(
        "median object size", "try --rescale auto", ("mm", "pixels"), True, spread=0.2
    ),
    "share": FeatureKind(
        "share of the image", "look at the result (--overlays)", logarithmic=True, offset=1e-3, spread=0.2
    ),
    "contrast": FeatureKind("contrast of the foreground", _LABELED, spread=0.1),
}  # fmt: skip
"""Kind → its description."""


def kind_of(feature: str) -> FeatureKind:
    """Return the kind of a feature."""
    return KINDS[feature.partition(":")[0]]


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
        values[f"balance{channel}"] = (middle - low) / (high - low) if high > low else 0.0
    values["sharpness"] = appearance.sharpness
    color = {name: getattr(appearance, name) for name in ("red_green", "blue_yellow", "saturation")}
    return values | {name: value for name, value in color.items() if value is not None}


def foreground_values(appearance: ScanFeatures) -> Values:
    """Return the intensities inside and outside of the foreground, and its contrast.

    The contrast is the difference of the medians, as a share of the range from the 5 to the 95 percentile.
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
        values[name] = (inside[2] - outside[2]) / (high - low) if high > low else 0.0
    return values


def object_values(objects: Mapping[str, ObjectSizes]) -> Values:
    """Return the median size of each label's objects, if there are some, and its share of the image."""
    values: Values = {}
    for name, sizes in objects.items():
        values[f"share:{name}"] = sizes.share
        if sizes.median is not None:
            values[f"object_size:{name}"] = sizes.median
    return values
