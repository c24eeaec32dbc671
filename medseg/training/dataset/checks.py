"""Checks of a dataset against the settings, made before anything is preprocessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medseg.data.cases import Case, Part, join_problems
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.curation.splits import patients_in_several_parts
from medseg.data.labels.schema import LabelSchema, describe_undeclared
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, DataError

_HARMLESS_PATCH, _PATCH_MULTIPLE, _MOST_PADDED = 64**3, 32, 8
"""A patch of this many voxels is never too large; networks need multiples of up to 32 voxels along an axis; a
patch that is still more than eight times as large as the cases is a mistake.
"""
MOST_MAGNIFIED = 1000
"""A spacing that makes a case this many times larger is a mistake."""


def check_dimensions(
    spatial_dims: int, preprocess: PreprocessConfig, statistics: CaseStatistics, folder: Path
) -> None:
    """Check that the cases have the axes that the network works on.

    Raises:
        ConfigError: if pictures are to be sliced, or the number of axes differs.
    """
    dims = 2 if statistics.kind == "picture" else 3
    sliced = preprocess.slices is not None
    if sliced and dims == 2:
        raise ConfigError(
            f"preprocess.slices cuts volumes, but {folder} contains pictures", hint="Remove preprocess.slices."
        )
    if dims == 3 and spatial_dims == 2 and not sliced:
        raise ConfigError(
            f"spatial_dims is 2, but {folder} contains volumes",
            hint="Set preprocess.slices.axis (2: axial in RAS) to train on their slices, or spatial_dims=3.",
        )
    if dims != spatial_dims and not sliced:
        raise ConfigError(
            f"spatial_dims is {spatial_dims}, but {folder} contains {statistics.kind}s, which have {dims} axes",
            hint=f"Set spatial_dims={dims}.",
        )


def check_spacing(preprocess: PreprocessConfig, statistics: Sequence[CaseStatistics]) -> None:
    """Check that resampling leaves every case a plausible size.

    Raises:
        ConfigError: for a spacing at which a case has less than a voxel, or a thousand times as many.
    """
    wanted = preprocess.spacing
    if wanted is None:
        return
    for case in statistics:
        extents = np.array(case.shape) * case.spacing
        if len(wanted) != len(extents):
            continue  # reported when the case is prepared
        voxels = np.prod(extents / wanted) / np.prod(case.shape)
        if voxels > MOST_MAGNIFIED or (preprocess.orientation == "RAS" and (extents * 10 < wanted).any()):
            shown = ["×".join(f"{v:.4g}" for v in values) for values in (wanted, case.spacing, extents)]
            raise ConfigError(
                f"preprocess.spacing {shown[0]} does not fit case {case.id}, whose voxels are {shown[1]} and "
                f"whose extent is {shown[2]} (mm): it would have {voxels:.3g} times as many voxels",
                hint="Choose a spacing near that of the cases, or leave it out.",
                case=case.id,
            )


def check_patch_size(patch: Sequence[int], shapes: Sequence[Sequence[int]]) -> None:
    """Check that patches are not almost entirely padding.

    Args:
        patch: the patch size.
        shapes: (*S) of the preprocessed cases; the first axis counts slices, if there are any.

    Raises:
        ConfigError: if ``patch`` is far larger than every case.
    """
    largest = np.max([shape[-len(patch) :] for shape in shapes], axis=0)
    padded = np.ceil(largest / _PATCH_MULTIPLE) * _PATCH_MULTIPLE
    excess = float(np.prod(np.maximum(np.array(patch, float) / padded, 1)))
    if excess > _MOST_PADDED and float(np.prod(np.array(patch, float))) > _HARMLESS_PATCH:
        sizes = ["×".join(str(int(n)) for n in size) for size in (patch, largest)]
        raise ConfigError(
            f"sampling.patch_size {sizes[0]} is far larger than the preprocessed cases, of at most {sizes[1]} "
            "voxels: nearly all of it would be padding",
            hint=f"Choose at most about {sizes[1]}, rounded up to what the strides of the network need.",
        )


def preprocessed_shape(statistics: CaseStatistics, preprocess: PreprocessConfig) -> tuple[int, ...]:
    """Return the shape that a case has after preprocessing, slices first, from its statistics.

    Volumes are measured along right, anterior and superior. With ``orientation=native`` the order of their
    axes is unknown, and so is that of the result.
    """
    shape = np.array(statistics.shape, dtype=float)
    if preprocess.spacing is not None and len(preprocess.spacing) == len(shape):
        shape = np.maximum(1, np.round(shape * statistics.spacing / np.array(preprocess.spacing)))
    axes = [int(n) for n in shape]
    if preprocess.slices is not None:
        axes.insert(0, axes.pop(preprocess.slices.axis))
    return tuple(axes)


def check_patch_fits_cases(
    patch: Sequence[int], preprocess: PreprocessConfig, statistics: Sequence[CaseStatistics]
) -> None:
    """Check from the statistics of all cases that patches are not almost entirely padding.

    Where the order of the axes is unknown (``orientation=native``), the patch is compared with the largest
    axes, whatever their order.

    Raises:
        ConfigError: if ``patch`` is far larger than every case.
    """
    shapes = [preprocessed_shape(case, preprocess) for case in statistics]
    if statistics and statistics[0].kind == "volume" and preprocess.orientation == "native":
        patch, shapes = sorted(patch), [tuple(sorted(shape)) for shape in shapes]
    check_patch_size(patch, shapes)


def check_patients(cases: Sequence[Case], split: Mapping[str, Part]) -> None:
    """Check that all cases of a patient are in one part of the split.

    Raises:
        DataError: that lists the patients in several parts.
    """
    patients = patients_in_several_parts(list(cases), dict(split))
    if patients:
        lines = [f"patient {patient}: {', '.join(parts)}" for patient, parts in patients.items()]
        title = "patients in more than one part of the split (put all cases of a patient into one part)"
        raise DataError(join_problems(title, lines))


def check_label_values(statistics: Sequence[CaseStatistics], labels: LabelSchema) -> None:
    """Check that every value in the label files is declared.

    Raises:
        DataError: that lists the undeclared values of every case.
    """
    problems: list[str] = []
    found: set[int] = set()
    for case in statistics:
        undeclared = sorted(v for v in case.label_counts if labels.is_undeclared(v))
        if undeclared:
            found.update(undeclared)
            problems.append(f"case {case.id}: {describe_undeclared(undeclared, labels)[0]}")
    if problems:
        hint = describe_undeclared(sorted(found), labels)[1]
        raise DataError(join_problems("cases with undeclared label values", problems), hint=hint)
