"""Settings of ``inference`` that replace those of a model's header, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from medseg.config.errors import explain
from medseg.errors import ConfigError
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.options import InferenceConfig
from medseg.inference.shift.rescale import size_targets
from medseg.inference.sliding_window.tta import check_tta, check_tta_unrecorded

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.05, 20.0
"""Limits of the factor by which pictures are resized."""


def with_settings(header: ModelHeader, settings: Mapping[str, Any], path: Path, force: bool) -> ModelHeader:
    """Return the header with other settings of ``inference``."""
    changed = _changed(header, settings) if settings else header.inference
    if force:
        pass
    elif header.augmentation is not None:
        check_tta(changed, header.augmentation, str(path))
    else:
        check_tta_unrecorded(changed, header.inference, str(path))
    changed = _resolve_object_size(changed, header, path)
    _check_rescale(changed, header, path)
    _check_thresholds(changed, header, path)
    _check_objects(changed, header, path)
    return header.model_copy(update={"inference": changed})


def _changed(header: ModelHeader, settings: Mapping[str, Any]) -> InferenceConfig:
    """Return a header's ``inference`` with other settings; raise ConfigError if they do not suit the model.

    A new ``roi_size`` applies, even if the model's windows follow the size of the image.
    """
    if "roi_size" in settings and "max_roi_size" not in settings:
        settings = {**settings, "max_roi_size": None}
    for name, other in (("rescale", "object_size"), ("object_size", "rescale")):
        if name in settings and other not in settings:
            settings = {**settings, other: None}
    if isinstance(settings.get("instances"), Mapping):  # thresholds that are not set stay as they are
        kept = header.inference.instances.model_dump()
        settings = {**settings, "instances": {**kept, **settings["instances"]}}
    try:
        changed = InferenceConfig.model_validate({**header.inference.model_dump(), **settings})
    except ValidationError as error:
        raise ConfigError("inference: " + "; ".join(explain(error, InferenceConfig))) from error
    sizes = (changed.roi_size, changed.max_roi_size)
    lengths = {len(size) for size in sizes if size is not None} or {header.spatial_dims}
    if lengths != {header.spatial_dims} or any(axis >= header.spatial_dims for axis in changed.flips):
        raise ConfigError(f"inference: roi_size and flips: expected {header.spatial_dims} axes for this model")
    first = 0 if header.labels.regions else header.labels.first_evaluated
    named = header.labels.class_names[first:]
    unknown = sorted(changed.postprocess.names - set(named))
    if unknown:
        raise ConfigError(f"inference.postprocess: unknown labels {unknown}; the model predicts {list(named)}")
    if changed.scales and header.spatial_dims != 2:
        raise ConfigError("inference.scales: supported by 2D networks only; this model is 3D")
    return changed


def _resolve_object_size(settings: InferenceConfig, header: ModelHeader, path: Path) -> InferenceConfig:
    """Return settings with ``rescale`` in place of ``object_size``.

    Raises:
        ConfigError: the model does not record the sizes of the training's objects.
    """
    size = settings.object_size
    if size is None:
        return settings
    factor: Literal["auto"] | float = "auto"
    if size != "auto":
        targets = {} if header.fingerprint is None else size_targets(header.fingerprint)
        if not targets:
            raise ConfigError(
                f"inference.object_size: {path} does not record the sizes of the training's objects",
                hint="Give a factor, such as --rescale 0.5, or train the model again with this version.",
            )
        trained = sum(one.median for one in targets.values()) / len(targets)
        factor = min(max(trained / size, _SMALLEST_FACTOR), _LARGEST_FACTOR)
    return settings.model_copy(update={"rescale": factor, "object_size": None})


def _check_rescale(settings: InferenceConfig, header: ModelHeader, path: Path) -> None:
    """Raise ConfigError if a model does not take pictures that can be rescaled."""
    if settings.rescale is None:
        return
    if settings.rescale == "auto" and header.instances is not None and header.head is None:
        raise ConfigError(
            f"inference.rescale=auto: {path} is a detector, whose scale cannot be estimated",
            hint="Give the factor: --rescale FACTOR.",
        )
    if header.spatial_dims != 2 or header.preprocess.slices is not None:
        raise ConfigError(
            f"inference.rescale: {path} segments volumes, whose spacing is recorded in their files",
            hint="Leave --rescale out: scans are resampled to the spacing of the training.",
        )
    if header.preprocess.spacing is not None:
        raise ConfigError(
            f"inference.rescale: {path} resamples pictures to the spacing {list(header.preprocess.spacing)}",
            hint="Leave --rescale out, and correct the spacing of the pictures' files.",
        )
    if settings.rescale == "auto" and (header.fingerprint is None or not size_targets(header.fingerprint)):
        raise ConfigError(
            f"inference.rescale=auto: {path} does not record the sizes of the training's objects",
            hint="Give a factor, such as --rescale 0.5, or train the model again with this version.",
        )


def _check_thresholds(settings: InferenceConfig, header: ModelHeader, path: Path) -> None:
    """Raise ConfigError if labels have a threshold that cannot have one."""
    wrong = sorted(settings.thresholds.keys() - set(header.thresholded))
    if wrong:
        possible = ", ".join(header.thresholded)
        raise ConfigError(
            f"inference.thresholds: {path} cannot have a threshold for {', '.join(wrong)}",
            hint=f"Labels with a threshold: {possible}."
            if possible
            else "Thresholds are for regions, or for a single label beside the background.",
        )


def _check_objects(settings: InferenceConfig, header: ModelHeader, path: Path) -> None:
    """Raise ConfigError for settings without effect, or a wrong one, if a model tells objects apart."""
    if header.instances is None:
        return
    refused = {
        "scales": bool(settings.scales),
        "blend=exact": settings.blend == "exact",
        "postprocess": bool(settings.postprocess.names),
        "flips": bool(settings.flips) and header.head is None,
    }
    used = [f"inference.{name}" for name, value in refused.items() if value]
    if used:
        kind = "finds objects by boxes" if header.head is None else "tells objects apart"
        raise ConfigError(f"{path} {kind}: not possible with {' and '.join(used)}", hint="Leave them out.")
