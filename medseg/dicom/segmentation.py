"""DICOM SEG, BINARY: one bit a voxel and segment, on the slices of the series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from medseg.data.labels.schema import smallest_integer
from medseg.data.labels.terminology import CATEGORIES, SIDES
from medseg.dicom.source_series import (
    MEDSEG_VERSION,
    RESEARCH_USE,
    Maker,
    Segment,
    SourceSeries,
    coded,
    describe_object,
    series_number,
)
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array


def require_highdicom() -> Any:
    """The library that writes SEG. Raises: ConfigError if it is not installed."""
    try:
        import highdicom
    except ImportError as error:
        raise ConfigError(
            'DICOM SEG is written with highdicom, which is not installed: pip install "medseg[dicom]"'
        ) from error
    return highdicom


def segmentation(planes: Array, segments: Sequence[Segment], source: SourceSeries, maker: Maker) -> Dataset:
    """The object of label values (slices, rows, columns); segments number from 1 and may share values.

    Frames without a voxel are left out (all are kept where no segment has any).
    Raises: ConfigError without highdicom; DataError if it refuses the series.
    """
    hd = require_highdicom()
    try:
        with disable_value_validation():
            made = hd.seg.Segmentation(
                source_images=source.headers,
                pixel_array=_pixels(planes, segments),
                segmentation_type="BINARY",
                segment_descriptions=[_description(hd, i, s, maker) for i, s in enumerate(segments, start=1)],
                series_instance_uid=_fresh_uid(),
                series_number=series_number(source),
                sop_instance_uid=_fresh_uid(),
                instance_number=1,
                manufacturer="medseg",
                manufacturer_model_name="medseg",
                software_versions=MEDSEG_VERSION,
                device_serial_number=(maker.model or "none")[:64],
                content_label="SEGMENTATION",
                content_description=RESEARCH_USE,
                specific_character_set="ISO_IR 192",
            )
            describe_object(made, source, "segmentation")
    except (ValueError, TypeError, AttributeError) as error:  # its message may hold a value of the series
        raise DataError(f"the series does not fit a DICOM SEG ({type(error).__name__} in highdicom)") from error
    return made


def _pixels(planes: Array, segments: Sequence[Segment]) -> Array:
    """Segment numbers (slices, rows, columns), or masks (…, segments) where segments overlap."""
    values = [value for segment in segments for value in segment.values]
    if len(set(values)) < len(values):
        return np.stack([np.isin(planes, s.values) for s in segments], axis=-1).astype(np.uint8)
    number = {value: i for i, segment in enumerate(segments, start=1) for value in segment.values}
    present = np.unique(planes)
    table = np.array([number.get(int(v), 0) for v in present], smallest_integer((0, len(segments))))
    return table[np.searchsorted(present, planes)]


def _description(hd: Any, number: int, segment: Segment, maker: Maker) -> Any:
    from pydicom.sr.codedict import codes

    algorithm = None
    if maker.kind != "MANUAL":
        algorithm = hd.AlgorithmIdentificationSequence(
            name=maker.algorithm,
            family=codes.cid7162.ArtificialIntelligence,
            version=maker.version,
            parameters={"model sha256": maker.model} if maker.model else None,
        )
    category, term = CATEGORIES[segment.code.category], segment.code
    item = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.text,
        segmented_property_category=hd.sr.CodedConcept(category[0], "SCT", category[1]),
        segmented_property_type=hd.sr.CodedConcept(term.value, term.scheme, term.meaning),
        algorithm_type=maker.kind,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
    if term.side is not None:
        value, meaning = SIDES[term.side]
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(value, "SCT", meaning)]
    return item


def _fresh_uid() -> str:
    from pydicom.uid import generate_uid

    return generate_uid(prefix=None)
