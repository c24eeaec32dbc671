"""``RunConfig``: everything a run depends on, from YAML and dotted overrides, in one validation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML

from medseg.config_errors import explain
from medseg.config_files import apply_override, in_order, plain, read_settings
from medseg.data.augment import AugmentConfig, preset
from medseg.data.codes import SegmentCode
from medseg.data.copies import Duplicates
from medseg.data.labelling import LabelStatement, Missing, merge_labels
from medseg.data.labels import Colour, Labels, Others, Values
from medseg.data.layouts.found import Choice
from medseg.data.postprocess import PostprocessConfig
from medseg.data.preprocess import PreprocessConfig
from medseg.data.sampling import SamplingConfig
from medseg.data.splits import AutoSplit, SplitConfig
from medseg.errors import ConfigError
from medseg.losses import LossConfig, default_loss
from medseg.models import ModelConfig, UNetConfig
from medseg.models.pretrained import WeightsConfig
from medseg.optim import AdamWConfig, OptimiserConfig, PolynomialSchedule, ScheduleConfig
from medseg.spec import Spec
from medseg.task import Activation

Fraction = Annotated[float, Field(ge=0, lt=1)]
Blend = Literal["gaussian", "constant", "exact"]


class DataConfig(Spec):
    """Where the cases are and what their labels mean.

    Attributes:
        path: the folder of cases, or a manifest; its layout is found out and said aloud.
        label_suffix: what a label file's name adds to its image's; of several the first that an image has;
            none tries the usual separators.
        image_dir, label_dir: the folders of images and of label maps, relative to ``path`` or to the folders of
            its parts; none tries the usual names (``images``, ``imgs``, ``scans``…; ``labels``, ``masks``…).
        unlabelled: whether images without a label map are a mistake to ``refuse``, or to ``leave_out``.
        modalities: which kinds of image are the channels, in order (BIDS suffixes, BraTS contrasts,
            ``image:…`` columns of a manifest); none takes what the layout has.
        labels: name → value, or values merged into one; the first is the background. None: as the layout
            or a file beside the data names them, else by value.
        others: what values that are not declared are: ``refuse`` them, count them as ``background``, or
            ``ignore``. Here and in ``background``, ``codes``, ``ignore_value``, ``regions`` and ``pairs``, what
            is set wins over what the layout declares; none takes that (else ``refuse``, true, nothing).
        background: whether the first label is background, which has no metric and is not drawn.
        colours: name → [red, green, blue], where label maps are coded by colours; they are drawn in them, too.
        codes: name → coded term of a label or region in DICOM objects; others are looked up by their names.
        overlapping: labels may overlap (a file each, segments, channels); each is trained with a sigmoid.
        soft: label files hold probabilities.
        missing: what the lack of a label's own file means: a mistake to ``refuse``, that the structure is not
            there (``empty``), or that nobody drew it (``unknown``: it has no loss and no score in that case).
        patient: a regular expression whose first group is the patient in a case's id; cases of one patient
            stay together in a split. Layouts that name patients need none.
        ignore_value: value of voxels that count in no loss and no metric.
        instances: ``foreground`` makes one class of all values other than the background's.
        regions: name → labels it unites; trained with a sigmoid each, may overlap.
        pairs: labels of the left and the right, [[left, right], …], exchanged where a volume or picture is
            mirrored along an odd number of axes (along two it is rotated by 180°, which keeps sides).
        channels: of pictures: 1 turns colour to grey, 3 repeats grey; none takes the most any picture has.
        split: how cases are divided.
        duplicates: what is done with cases whose images are the same: ``group`` keeps them on one side of the
            split, ``drop`` keeps one of each, ``refuse`` stops. Blank images are no copies of each other.
        cache: folder of measured and preprocessed cases, which runs may share; none: the run folder's.
        workers: processes that prepare patches; 0 does it in the training process.
        worker_timeout: seconds after which a worker that gives no batch is taken for stuck.
    """

    path: Path | None = None
    label_suffix: str | tuple[str, ...] | None = None
    image_dir: Path | None = None
    label_dir: Path | None = None
    unlabelled: Literal["refuse", "leave_out"] = "refuse"
    modalities: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    labels: Annotated[dict[str, Values], Field(min_length=2)] | None = None
    others: Others | None = None
    background: bool | None = None
    colours: dict[str, Colour] | None = None
    codes: dict[str, SegmentCode] | None = None
    overlapping: bool = False
    soft: bool = False
    missing: Missing = "refuse"
    patient: str | None = None
    ignore_value: int | None = None
    instances: Literal["keep", "foreground"] = "keep"
    regions: dict[str, tuple[str, ...]] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    channels: Literal[1, 3] | None = None
    split: SplitConfig = AutoSplit()
    duplicates: Duplicates = "group"
    cache: Path | None = None
    workers: int = Field(default=1, ge=0)
    worker_timeout: float = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _labels_agree(self) -> DataConfig:
        try:
            self.declared_labels()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if self.soft and (self.overlapping or self.regions):
            raise ValueError("soft labels are one distribution a voxel: they cannot overlap or make regions")
        if self.overlapping and self.regions:
            raise ValueError("overlapping labels are regions already: name either overlapping or regions")
        try:
            groups = re.compile(self.patient).groups if self.patient is not None else 1
        except re.error as error:
            raise ValueError(f"patient: {self.patient!r} is no regular expression ({error})") from error
        if groups < 1:
            raise ValueError(f"patient: {self.patient!r} has no group in parentheses that is the patient")
        return self

    def choice(self, label_suffix: str | None = None) -> Choice:
        """What is said here of the files; ``label_suffix`` of a command counts before the setting."""
        return Choice(label_suffix or self.label_suffix, self.modalities, self.image_dir, self.label_dir)

    def statement(self) -> LabelStatement:
        """What is said here of the labels."""
        return LabelStatement(
            colours=self.colours,
            overlapping=self.overlapping,
            soft=self.soft,
            missing=self.missing,
            fields=self._label_fields(),
        )

    def declared_labels(self) -> Labels | None:
        """The labels as named here, or none if the layout or the files name them."""
        fields = self._label_fields()
        named = "names" in fields or fields.get("collapse_instances")
        return merge_labels(None, fields) if named else None

    def _label_fields(self) -> dict[str, Any]:
        """The fields of ``Labels`` that are set here; the others are as the layout declares them."""
        names: Any = self.labels
        if names is None and self.instances == "keep" and self.colours is not None:
            names = {name: (i,) for i, name in enumerate(n for n in self.colours if n != "ignore")}
        fields = {
            "names": names,
            "ignore_value": self.ignore_value,
            "collapse_instances": self.instances == "foreground" or None,
            "regions": self.regions,
            "pairs": self.pairs,
            "others": self.others,
            "background": self.background,
            "codes": self.codes,
        }
        return {name: value for name, value in fields.items() if value is not None}


class TrainConfig(Spec):
    """The training.

    Attributes:
        epochs, iterations: an epoch is ``iterations`` updates of the weights.
        batch_size, accumulate: an update uses ``accumulate`` batches of ``batch_size`` patches.
        amp: ``bf16`` or ``fp16`` mixed precision; ``auto`` is bf16 where the device computes it natively.
        aux_weight: of the loss of an auxiliary head, where the network has one.
        gradient_clip: largest gradient norm; none leaves it alone.
        ema: decay of an exponential moving average of the weights, which is then validated and kept;
            0 keeps the weights themselves.
        validate_every: epochs between validations (the last epoch always validates).
        validate_cases: the most cases that a validation goes through; none leaves it to ``validate_share``.
        validate_share: the share of the updates' time that a validation may take, at least one case of each
            class apart; it is estimated from the voxels computed, so that every machine validates the same
            cases. None validates all cases.
        monitor: ``dice`` or ``iou``, of all classes or of one (``dice:lesion``): the best is kept.
        early_stop: validations without a better score after which the training ends.
        save_every_steps, save_every_minutes: when a checkpoint is written within an epoch; one is also
            written at each epoch's end.
        device: ``auto`` is the first CUDA device if there is one, else the CPU.
        threads: that compute on the CPU; none: one for each core this process may use. Beside other processes
            fewer can be faster. Another number changes the last digits of results.
    """

    epochs: int = Field(default=50, ge=1)
    iterations: int = Field(default=100, ge=1)
    batch_size: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimiser: OptimiserConfig = AdamWConfig()
    schedule: ScheduleConfig = PolynomialSchedule(warmup=0.02)
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    aux_weight: float = Field(default=0.4, ge=0)
    gradient_clip: Annotated[float, Field(gt=0)] | None = 12.0
    ema: Fraction = 0.0
    channels_last: bool = True
    validate_every: int = Field(default=1, ge=1)
    validate_cases: Annotated[int, Field(ge=1)] | None = None
    validate_share: Annotated[float, Field(gt=0)] | None = 0.2
    monitor: str = "dice"
    early_stop: Annotated[int, Field(ge=1)] | None = None
    save_every_steps: Annotated[int, Field(ge=1)] | None = None
    save_every_minutes: Annotated[float, Field(gt=0)] | None = 5.0
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None


class InferenceConfig(Spec):
    """The sliding window over whole cases.

    Attributes:
        roi_size: the window, voxels; none is the training's patch, and the whole image for published weights.
        overlap: share of a window its neighbour covers too.
        blend: how windows that overlap are averaged: ``gaussian`` weighs their middle most; ``exact`` averages
            nothing but takes from each what its border did not change (overlap-tile).
        batch_size: windows at once.
        flips: axes of the window that are mirrored too, in all combinations, scores averaged; labels that
            ``data.pairs`` names are exchanged where the number of mirrored axes is odd.
        scales: for networks of two dimensions: sizes of the window, besides 1, that are averaged too.
        postprocess: what is done to the components of labels; ``medseg tune`` chooses it on validation cases.
        skip_below: windows in which no voxel of the scan is above this value are background, unseen.
        skip_above: so are windows whose voxels are above this value in all channels (a slide's bright glass);
            with both, windows in which every voxel is one or the other.
        large_above: millions of pixels from which pictures are read window by window and written row by row,
            where their format allows it; whole slides and OME-Zarr always are.
        level: of the pyramid of pictures that have one, 0 the finest; others than 0 are read window by window.
    """

    roi_size: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    overlap: Fraction = 0.5
    blend: Blend = "gaussian"
    batch_size: int = Field(default=4, ge=1)
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = ()
    skip_below: float | None = None
    skip_above: float | None = None
    large_above: float = Field(default=64.0, ge=0)
    level: int = Field(default=0, ge=0)
    postprocess: PostprocessConfig = PostprocessConfig()

    @field_validator("flips")
    @classmethod
    def _once(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(axes)) < len(axes):
            raise ValueError(f"an axis stands there twice: {list(axes)}")
        return axes


class RunConfig(Spec):
    """Everything a run depends on. What YAML can say, Python can say with the same names."""

    seed: int = Field(default=0, ge=0)
    spatial_dims: Literal[2, 3] = 3
    data: DataConfig = DataConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    sampling: SamplingConfig = SamplingConfig(patch_size=(64, 64, 64))
    augment: AugmentConfig = preset("3d")
    model: ModelConfig = UNetConfig()
    weights: WeightsConfig = WeightsConfig()
    activation: Activation | None = None
    loss: LossConfig = default_loss()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_by_dims(cls, data: Any) -> Any:
        """Defaults that depend on the dimension: patch size and augmentation preset."""
        if not isinstance(data, dict):
            return data
        filled: dict[str, Any] = dict(cast(dict[str, Any], data))
        dims: int = 2 if filled.get("spatial_dims") == 2 else 3
        sampling: Any = filled.get("sampling") or {}
        if isinstance(sampling, dict) and "patch_size" not in sampling:
            size = (256, 256) if dims == 2 else (64, 64, 64)
            filled["sampling"] = {"patch_size": size, **cast(dict[str, Any], sampling)}
        if not isinstance(filled.get("augment"), AugmentConfig):
            filled["augment"] = _augment(filled.get("augment"), f"{dims}d")
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        sizes = {
            "sampling.patch_size": self.sampling.patch_size,
            "inference.roi_size": self.inference.roi_size,
            "preprocess.spacing": self.preprocess.spacing,
        }
        slices = self.preprocess.slices
        if slices is not None and self.spatial_dims != 2:
            raise ValueError(
                "preprocess.slices cuts volumes for networks of two dimensions: set spatial_dims=2"
            )
        for key, value in sizes.items():
            axes = 3 if key == "preprocess.spacing" and slices is not None else self.spatial_dims
            if value is not None and len(value) != axes:
                raise ValueError(f"{key} has {len(value)} numbers, expected {axes} (spatial_dims is "
                                 f"{self.spatial_dims})")  # fmt: skip
        flips = {"augment.flip.axes": self.augment.flip.axes, "inference.flips": self.inference.flips}
        for key, axes in flips.items():
            bad_axes = [axis for axis in axes if not 0 <= axis < self.spatial_dims]
            if bad_axes:
                raise ValueError(f"{key}: {bad_axes} are no axes of a {self.spatial_dims}D patch")
        if self.inference.scales and self.spatial_dims != 2:
            raise ValueError("inference.scales is for networks of two dimensions")
        if self.data.pairs and self.preprocess.orientation == "native":
            raise ValueError("data.pairs needs preprocess.orientation=RAS: else nobody knows left from right")
        if self.data.regions and self.activation == "softmax":
            raise ValueError("regions may overlap, so data.regions needs activation: sigmoid (or leave it out)")
        if self.train.monitor.split(":")[0] not in ("dice", "iou"):
            raise ValueError(f"train.monitor: {self.train.monitor!r} is not dice, iou, dice:LABEL or iou:LABEL")
        return self

    @property
    def roi_size(self) -> tuple[int, ...]:
        """The sliding window's size."""
        return self.inference.roi_size or self.sampling.patch_size


def load_config(
    source: Path | str | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Read a YAML file (or take a mapping), apply ``key.sub=value`` overrides, validate once.

    A file may stand on another, ``base: FILE``: its own settings go over that one's. Overriding a union's
    ``name`` replaces its block, here as there. Values of overrides are YAML; an override of a block
    comes before those of its settings, whatever the order they are given in.
    Raises: ConfigError naming each wrong setting, what was expected and, for an unknown key, the nearest.
    """
    where = "the configuration"
    raw: dict[str, Any] = {}
    if isinstance(source, str | Path):
        where = str(source)
        raw = read_settings(Path(source), _default_name)
    elif source is not None:
        raw = plain(source)
    for override in in_order(overrides):
        apply_override(raw, override, _default_name)
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = explain(error, RunConfig)
        several = f"{len(lines)} settings are wrong:\n  " if len(lines) > 1 else ""
        raise ConfigError(f"{where}: {several}" + "\n  ".join(lines)) from error


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, every default spelled out."""
    yaml = YAML()
    yaml.default_flow_style = None  # short lists on one line
    yaml.width = 110
    stream = StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()


def _augment(block: object, by_dims: str) -> object:
    """Merge an ``augment`` block over the preset it names, or over the one of its dimension."""
    if block is None or isinstance(block, str):
        block = {"preset": block or by_dims}
    if not isinstance(block, dict):
        return block
    own = dict(cast(dict[str, Any], block))
    name = own.pop("preset", by_dims)
    if name not in ("2d", "3d", "none"):
        raise ValueError(f"augment: {name!r} is no preset; known: 2d, 3d, none")
    return _merge(preset(name).model_dump(), own)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        nested = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merge(cast(dict[str, Any], below), cast(dict[str, Any], value)) if nested else value
    return merged


def _default_name(parents: Sequence[str]) -> str | None:
    """The ``name`` that the block at a place has where none is given."""
    block: Any = RunConfig()
    for key in parents:
        block = getattr(block, key, None)
    return getattr(block, "name", None)
