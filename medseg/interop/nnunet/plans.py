"""Read ``plans.json`` and ``dataset.json`` of nnU-Net, and resolve one configuration to a ``Stage``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.nnunet import parse_label_table
from medseg.errors import ModelFileError
from medseg.interop.nnunet.architecture import read_architecture
from medseg.interop.nnunet.header import Normalization, Resampling, Stage

_READERS: dict[str, Literal["native", "ras", "picture"]] = {
    "SimpleITKIO": "native",
    "NibabelIO": "native",
    "Tiff3DIO": "native",
    "SimpleITKIOWithReorient": "ras",
    "NibabelIOWithReorient": "ras",
    "NaturalImage2DIO": "picture",
}
_SCHEMES: dict[str, Literal["ct", "zscore", "range", "rgb", "none"]] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "RescaleTo01Normalization": "range",
    "RGBTo01Normalization": "rgb",
    "NoNormalization": "none",
}
_STOCK_TRAINER = re.compile(
    r"nnUNet_?Trainer(_?(\d+epochs?|\d+ep|NoMirroring|onlyMirror01|DA5|ord0|Segord0|DASegOrd0|NoDA|noDummy2DDA|"
    r"CELoss|DiceLoss|DiceCELoss_noSmooth|Topk10Loss|LS01|DiceTopK10Loss|CosAnneal|warmup|(Vanilla)?Adam|Adan|"
    r"\den\d|probabilisticOversampling|0\d\d|NoDeepSupervision|Benchmark|noDataLoading|BS8|BN))*"
)
"""Names of trainers of nnU-Net that use the planned network, or replace only its normalization (BN)."""


class _Read(BaseModel):
    """A block of settings of nnU-Net; keys that medseg does not use are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Intensities(_Read):
    """Statistics of the foreground intensities of one channel in the training cases."""

    mean: float = 0.0
    std: float = 0.0
    percentile_00_5: float = 0.0
    percentile_99_5: float = 0.0


class Configuration(_Read):
    """One entry of ``configurations``, with inherited values filled in."""

    preprocessor_name: str = "DefaultPreprocessor"
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: str
    resampling_fn_data_kwargs: dict[str, Any]
    resampling_fn_seg: str
    resampling_fn_seg_kwargs: dict[str, Any]
    resampling_fn_probabilities: str
    resampling_fn_probabilities_kwargs: dict[str, Any]
    previous_stage: str | None = None


class Plans(_Read):
    """Content of ``plans.json``."""

    dataset_name: str = ""
    plans_name: str
    image_reader_writer: str
    transpose_forward: tuple[int, int, int]
    configurations: dict[str, dict[str, Any]]
    label_manager: str = "LabelManager"
    intensities: dict[str, Intensities] = Field(
        validation_alias=AliasChoices(
            "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
        )
    )

    def resolved(self, name: str, where: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
        """Resolve a configuration with its inherited values. Raises: ModelFileError if it does not exist."""
        if name not in self.configurations or name in above:
            available = ", ".join(self.configurations)
            fault = (
                "inherits from itself" if name in above else f"is not in the plans, which contain {available}"
            )
            raise ModelFileError(f"{where}: the configuration {name!r} {fault}")
        own = self.configurations[name]
        parent = own.get("inherits_from")
        return {**(self.resolved(parent, where, (*above, name)) if parent else {}), **own}


class TrainingRecord(NamedTuple):
    """Content of the checkpoints of one configuration.

    Attributes:
        trainer: name of the trainer.
        configuration: name of the configuration in the plans.
        mirror_axes: axes of the window along which the training mirrored.
        folds: names of the folds.
        weights: weights of each fold.
    """

    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]
    folds: tuple[str, ...]
    weights: tuple[dict[str, torch.Tensor], ...]


class Dataset(_Read):
    """Content of ``dataset.json``."""

    labels: dict[str, Any]
    channel_names: dict[str, Any] = Field(validation_alias=AliasChoices("channel_names", "modality"))
    regions_class_order: tuple[int, ...] | None = None

    def label_table(self, where: Path) -> LabelSchema:
        """The label schema. Raises: ModelFileError if the label values are not consecutive."""
        labels = parse_label_table(self.labels, where)
        if not labels.regions and labels.output_values != tuple(range(len(labels.names))):
            raise ModelFileError(
                f"{where}: label values {labels.output_values}, expected 0, 1, 2, …", path=where
            )
        return labels

    def painted(self, labels: LabelSchema, where: Path) -> tuple[int, ...]:
        """Label value of each region. Raises: ModelFileError if there is not one value per region."""
        if not labels.regions:
            return ()
        order = self.regions_class_order or ()
        if len(order) != len(labels.regions):
            raise ModelFileError(
                f"{where}: regions_class_order has {len(order)} values for {len(labels.regions)} regions"
            )
        return order


def parse(kind: type[Plans] | type[Dataset], content: Mapping[str, Any], where: Path) -> Any:
    """Validate the content of a file. Raises: ModelFileError naming a missing or invalid key."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ModelFileError(
            f"{where}: not in the format of nnU-Net v2: {_first(error)}", path=where
        ) from error


def read_stage(
    plans: Plans,
    dataset: Dataset,
    training: TrainingRecord,
    where: Path,
) -> Stage:
    """Resolve one configuration of the plans.

    Args:
        plans: the plans.
        dataset: the dataset description.
        training: what the checkpoints record about the training.
        where: file of the plans, for messages.

    Raises:
        ModelFileError: a setting is not supported.
    """
    raw = plans.resolved(training.configuration, where)
    try:
        entry = Configuration.model_validate(raw)
    except ValidationError as error:
        raise ModelFileError(f"{where}: configuration {training.configuration}: {_first(error)}") from error
    _check_supported(plans, entry, where)
    dims = len(entry.patch_size)
    labels = dataset.label_table(where.with_name("dataset.json"))
    foreground = tuple(v for v in _all_values(labels) if v != 0)
    return Stage(
        configuration=training.configuration,
        folds=training.folds,
        spatial_dims=2 if dims == 2 else 3,
        channels=len(dataset.channel_names),
        previous_labels=foreground if entry.previous_stage else (),
        classes=labels.num_classes,
        reader=_READERS[plans.image_reader_writer],
        transpose=plans.transpose_forward,
        spacing=entry.spacing,
        patch_size=entry.patch_size,
        normalize=_normalizations(plans, entry, len(dataset.channel_names), where),
        resample_image=_resampling(entry.resampling_fn_data, entry.resampling_fn_data_kwargs, where),
        resample_labels=_resampling(entry.resampling_fn_seg, entry.resampling_fn_seg_kwargs, where),
        resample_logits=_linear(
            _resampling(entry.resampling_fn_probabilities, entry.resampling_fn_probabilities_kwargs, where),
            where,
        ),
        mirror_axes=training.mirror_axes,
        architecture=read_architecture(raw, dims, batch_norm=training.trainer.endswith("BN"), where=where),
    )


def _check_supported(plans: Plans, entry: Configuration, where: Path) -> None:
    """Check names of classes and numbers of axes. Raises: ModelFileError naming the key."""
    dims = len(entry.patch_size)
    supported = {
        "preprocessor_name": (entry.preprocessor_name, ["DefaultPreprocessor"]),
        "label_manager": (plans.label_manager, ["LabelManager"]),
        "image_reader_writer": (plans.image_reader_writer, list(_READERS)),
        "patch_size": (dims, [2, 3]),
        "spacing": (len(entry.spacing), [dims]),
        "transpose_forward": (sorted(plans.transpose_forward), [[0, 1, 2]]),
    }
    for key, (value, allowed) in supported.items():
        if value not in allowed:
            shown = ", ".join(map(str, allowed))
            raise ModelFileError(f"{where}: {key}: {value} is not supported, only {shown}", path=where)


def check_trainer(trainer: str, accepted: str | None, where: Path) -> None:
    """Check that a trainer uses the planned network.

    Args:
        trainer: name of the trainer in the checkpoints.
        accepted: another name that the user accepts.
        where: trained folder, for messages.

    Raises:
        ModelFileError: the trainer may have changed network or preprocessing.
    """
    if trainer == accepted or _STOCK_TRAINER.fullmatch(trainer):
        return
    raise ModelFileError(
        f"{where}: trained by {trainer}, which is not one of the trainers of nnU-Net that use the planned "
        "network; it may have changed the network or the preprocessing",
        hint=f"If it did not: medseg import nnunet {where} --trainer {trainer} -o FILE.safetensors",
        path=where,
    )


def _all_values(labels: LabelSchema) -> tuple[int, ...]:
    return tuple(sorted(labels.output_values))


def _normalizations(
    plans: Plans, entry: Configuration, channels: int, where: Path
) -> tuple[Normalization, ...]:
    schemes, masks = entry.normalization_schemes, entry.use_mask_for_norm
    if not len(schemes) == len(masks) == channels:
        raise ModelFileError(f"{where}: {channels} channels, {len(schemes)} normalizations, {len(masks)} masks")
    normalizations: list[Normalization] = []
    for channel, (scheme, masked) in enumerate(zip(schemes, masks, strict=True)):
        if scheme not in _SCHEMES:
            raise ModelFileError(
                f"{where}: normalization {scheme} is not supported, only {', '.join(_SCHEMES)}"
            )
        numbers = plans.intensities.get(str(channel), Intensities())
        if _SCHEMES[scheme] != "ct":
            normalizations.append(Normalization(scheme=_SCHEMES[scheme], masked=masked))
            continue
        normalizations.append(
            Normalization(
                scheme="ct",
                low=numbers.percentile_00_5,
                high=numbers.percentile_99_5,
                mean=numbers.mean,
                std=numbers.std,
            )
        )
    return tuple(normalizations)


def _resampling(function: str, options: Mapping[str, Any], where: Path) -> Resampling:
    used = {k: v for k, v in options.items() if k not in ("is_seg", "num_threads", "device")}
    separate = used.pop("force_separate_z", False if function == "resample_data_or_seg_to_shape" else None)
    threshold, order_z = used.pop("separate_z_anisotropy_threshold", 3.0), 0
    if function == "resample_data_or_seg_to_shape":
        order_z = used.pop("order_z", 0)
        resampling = Resampling(order=used.pop("order", 3), separate=separate, threshold=threshold)
    elif function == "resample_torch_fornnunet":
        used.pop("memefficient_seg_resampling", None)
        modes = used.pop("mode", "linear"), used.pop("aniso_axis_mode", "nearest-exact")
        if modes != ("linear", "nearest-exact"):
            used["mode"], used["aniso_axis_mode"] = modes
        resampling = Resampling(method="torch", order=1, separate=separate, threshold=threshold)
    else:
        raise ModelFileError(
            f"{where}: resampling by {function} is not supported, only resample_data_or_seg_to_shape and "
            "resample_torch_fornnunet"
        )
    if used:
        raise ModelFileError(f"{where}: resampling by {function} with {used} is not supported")
    if order_z != 0:
        raise ModelFileError(
            f"{where}: resampling across slices of order {order_z} is not supported, only 0 (nnU-Net's default)"
        )
    return resampling


def _linear(resampling: Resampling, where: Path) -> Resampling:
    if resampling.order != 1:
        raise ModelFileError(
            f"{where}: resampling of logits with order {resampling.order} is not supported, only 1"
        )
    return resampling


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def invert_permutation(transpose: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes another.

    Example:
        >>> invert_permutation((2, 0, 1))
        (1, 2, 0)
    """
    return tuple(int(i) for i in np.argsort(transpose))
