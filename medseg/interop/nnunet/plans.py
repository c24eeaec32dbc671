"""nnU-Net's ``plans.json`` and ``dataset.json``, and what they come to for one configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.nnunet import labels_of
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
"""Names of nnU-Net's own trainers that leave the planned network as it is, or only exchange its norm (BN)."""


class _Read(BaseModel):
    """A block of another program's settings; what medseg does not use is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Intensities(_Read):
    """A channel's foreground intensities in the training cases."""

    mean: float = 0.0
    std: float = 0.0
    percentile_00_5: float = 0.0
    percentile_99_5: float = 0.0


class Configuration(_Read):
    """One entry of ``configurations``, what it inherits filled in."""

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
    """``plans.json``."""

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
        """A configuration with what it inherits. Raises: ModelFileError if there is none."""
        if name not in self.configurations or name in above:
            known = ", ".join(self.configurations)
            fault = "inherits from itself" if name in above else f"is not in the plans, which have {known}"
            raise ModelFileError(f"{where}: the configuration {name!r} {fault}")
        own = self.configurations[name]
        parent = own.get("inherits_from")
        return {**(self.resolved(parent, where, (*above, name)) if parent else {}), **own}


class Dataset(_Read):
    """``dataset.json``."""

    labels: dict[str, Any]
    channel_names: dict[str, Any] = Field(validation_alias=AliasChoices("channel_names", "modality"))
    regions_class_order: tuple[int, ...] | None = None

    def label_table(self, where: Path) -> LabelSchema:
        """The labels by name and value. Raises: ModelFileError if their values have gaps."""
        labels = labels_of(self.labels, where)
        if not labels.regions and labels.output_values != tuple(range(len(labels.names))):
            raise ModelFileError(
                f"{where}: nnU-Net's label values are 0, 1, 2, …; these are {labels.output_values}"
            )
        return labels

    def painted(self, labels: LabelSchema, where: Path) -> tuple[int, ...]:
        """What each region is painted with. Raises: ModelFileError if that is not one value a region."""
        if not labels.regions:
            return ()
        order = self.regions_class_order or ()
        if len(order) != len(labels.regions):
            raise ModelFileError(
                f"{where}: regions_class_order has {len(order)} values for {len(labels.regions)} regions"
            )
        return order


def parse(kind: type[Plans] | type[Dataset], content: Mapping[str, Any], where: Path) -> Any:
    """Validate a file's content. Raises: ModelFileError naming what is missing or of another type."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ModelFileError(f"{where}: not as nnU-Net v2 writes it: {_first(error)}") from error


def read_stage(
    plans: Plans,
    dataset: Dataset,
    configuration: str,
    *,
    trainer: str,
    folds: tuple[str, ...],
    mirror_axes: tuple[int, ...],
    where: Path,
) -> Stage:
    """One configuration of the plans, all that it says understood.

    Raises: ModelFileError naming what medseg does not know to do as nnU-Net does.
    """
    raw = plans.resolved(configuration, where)
    try:
        entry = Configuration.model_validate(raw)
    except ValidationError as error:
        raise ModelFileError(f"{where}: configuration {configuration}: {_first(error)}") from error
    dims = len(entry.patch_size)
    known = {
        "preprocessor_name": (entry.preprocessor_name, ["DefaultPreprocessor"]),
        "label_manager": (plans.label_manager, ["LabelManager"]),
        "image_reader_writer": (plans.image_reader_writer, list(_READERS)),
        "patch_size": (dims, [2, 3]),
        "spacing": (len(entry.spacing), [dims]),
        "transpose_forward": (sorted(plans.transpose_forward), [[0, 1, 2]]),
    }
    for key, (value, allowed) in known.items():
        if value not in allowed:
            shown = ", ".join(map(str, allowed))
            raise ModelFileError(f"{where}: {key}: medseg knows {shown}; the plans have {value}")
    labels = dataset.label_table(where.with_name("dataset.json"))
    foreground = tuple(v for v in _all_values(labels) if v != 0)
    return Stage(
        configuration=configuration,
        folds=folds,
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
        mirror_axes=mirror_axes,
        architecture=read_architecture(raw, dims, batch_norm=trainer.endswith("BN"), where=where),
    )


def refuse_trainer(trainer: str, accepted: str | None, where: Path) -> None:
    """Raises: ModelFileError if a trainer is none of nnU-Net's own that keep to the plans."""
    if trainer == accepted or _STOCK_TRAINER.fullmatch(trainer):
        return
    raise ModelFileError(
        f"{where}: was trained by {trainer}, which is none of the trainers of nnU-Net that keep to the plans' "
        "network: it may have changed the network or the preprocessing. If it did not, say so: medseg import "
        f"nnunet {where} --trainer {trainer} -o FILE.safetensors"
    )


def _all_values(labels: LabelSchema) -> tuple[int, ...]:
    return tuple(sorted(labels.output_values))


def _normalizations(
    plans: Plans, entry: Configuration, channels: int, where: Path
) -> tuple[Normalization, ...]:
    schemes, masks = entry.normalization_schemes, entry.use_mask_for_norm
    if not len(schemes) == len(masks) == channels:
        raise ModelFileError(f"{where}: {channels} channels, {len(schemes)} normalizations, {len(masks)} masks")
    found: list[Normalization] = []
    for channel, (scheme, masked) in enumerate(zip(schemes, masks, strict=True)):
        if scheme not in _SCHEMES:
            raise ModelFileError(f"{where}: normalization {scheme}: medseg knows {', '.join(_SCHEMES)}")
        numbers = plans.intensities.get(str(channel), Intensities())
        if _SCHEMES[scheme] != "ct":
            found.append(Normalization(scheme=_SCHEMES[scheme], masked=masked))
            continue
        found.append(
            Normalization(
                scheme="ct",
                low=numbers.percentile_00_5,
                high=numbers.percentile_99_5,
                mean=numbers.mean,
                std=numbers.std,
            )
        )
    return tuple(found)


def _resampling(function: str, options: Mapping[str, Any], where: Path) -> Resampling:
    used = {k: v for k, v in options.items() if k not in ("is_dicom_seg", "num_threads", "device")}
    separate = used.pop("force_separate_z", False if function == "resample_data_or_seg_to_shape" else None)
    threshold, order_z = used.pop("separate_z_anisotropy_threshold", 3.0), 0
    if function == "resample_data_or_seg_to_shape":
        order_z = used.pop("order_z", 0)
        found = Resampling(order=used.pop("order", 3), separate=separate, threshold=threshold)
    elif function == "resample_torch_fornnunet":
        used.pop("memefficient_seg_resampling", None)
        modes = used.pop("mode", "linear"), used.pop("aniso_axis_mode", "nearest-exact")
        if modes != ("linear", "nearest-exact"):
            used["mode"], used["aniso_axis_mode"] = modes
        found = Resampling(method="torch", order=1, separate=separate, threshold=threshold)
    else:
        raise ModelFileError(
            f"{where}: resampling by {function}: medseg knows resample_data_or_seg_to_shape and "
            "resample_torch_fornnunet"
        )
    if used:
        raise ModelFileError(f"{where}: resampling by {function} with {used}, which medseg does not know")
    if order_z != 0:
        raise ModelFileError(
            f"{where}: resampling across slices of order {order_z}; medseg knows 0, nnU-Net's own"
        )
    return found


def _linear(resampling: Resampling, where: Path) -> Resampling:
    if resampling.order != 1:
        raise ModelFileError(
            f"{where}: logits are resampled with order {resampling.order}; medseg knows 1, nnU-Net's own"
        )
    return resampling


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def backward(transpose: tuple[int, ...]) -> tuple[int, ...]:
    """The transposition that undoes another."""
    return tuple(int(i) for i in np.argsort(transpose))
