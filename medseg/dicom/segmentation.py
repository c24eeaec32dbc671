"""DICOM SEG objects of type BINARY: one bit per voxel and segment, on the slices of the series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from medseg.data.labels.names.terminology import CATEGORIES, SIDES
from medseg.data.labels.schema import smallest_integer
from medseg.dicom.source_series import (
    MEDSEG_VERSION,
    RESEARCH_USE,
    Segment,
    SegmentAlgorithm,
    SourceSeries,
    code_item,
    describe_object,
    series_number,
)
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array


def require_highdicom() -> Any:
    """Import highdicom, which writes SEG.

    Raises:
        ConfigError: highdicom is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise ConfigError(
            "writing DICOM SEG needs highdicom, which is not installed",
            hint="Run pip install '.[dicom]' in the folder of medseg.",
        ) from error
    return highdicom


def build_segmentation(
    planes: Array, segments: Sequence[Segment], source: SourceSeries, algorithm: SegmentAlgorithm
) -> Dataset:
    """Build a segmentation object; segments are numbered from 1 and may overlap.

    Empty frames are omitted, unless all are empty.

    Args:
        planes: (slices, rows, columns) label values.
        segments: labels of the object.
        source: the series that the object refers to.
        algorithm: how the label map was made.

    Raises:
        ConfigError: highdicom is not installed.
        DataError: highdicom rejects the series.
    """
    hd = require_highdicom()
    try:
        with disable_value_validation():
            made = hd.seg.Segmentation(
                source_images=source.headers,
                pixel_array=_pixels(planes, segments),
                segmentation_type="BINARY",
                segment_descriptions=[
                    _description(hd, i, s, algorithm) for i, s in enumerate(segments, start=1)
                ],
                series_instance_uid=_new_uid(),
                series_number=series_number(source),
                sop_instance_uid=_new_uid(),
                instance_number=1,
                manufacturer="medseg",
                manufacturer_model_name="medseg",
                software_versions=MEDSEG_VERSION,
                device_serial_number=(algorithm.model or "none")[:64],
                content_label="SEGMENTATION",
                content_description=RESEARCH_USE,
                specific_character_set="ISO_IR 192",
            )
            describe_object(made, source, "segmentation")
    except (ValueError, TypeError, AttributeError) as error:  # the message may contain values of the series
        raise DataError(
            f"{source.path}: highdicom cannot write a DICOM SEG of this series ({type(error).__name__})"
        ) from error
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


def _description(hd: Any, number: int, segment: Segment, algorithm: SegmentAlgorithm) -> Any:
    from pydicom.sr.codedict import codes

    identification = None
    if algorithm.kind != "MANUAL":
        identification = hd.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.cid7162.ArtificialIntelligence,
            version=algorithm.version,
            parameters={"model sha256": algorithm.model} if algorithm.model else None,
        )
    category, term = CATEGORIES[segment.code.category], segment.code
    item = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.text,
        segmented_property_category=hd.sr.CodedConcept(category[0], "SCT", category[1]),
        segmented_property_type=hd.sr.CodedConcept(term.value, term.scheme, term.meaning),
        algorithm_type=algorithm.kind,
        algorithm_identification=identification,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
    if term.side is not None:
        value, meaning = SIDES[term.side]
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [code_item(value, "SCT", meaning)]
    return item


def _new_uid() -> str:
    from pydicom.uid import generate_uid

    return generate_uid(prefix=None)
