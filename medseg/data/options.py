"""Options of the data: where the cases are and what their labels mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medseg.config.base import FieldTraits, Spec
from medseg.data.curation.duplicates import Duplicates
from medseg.data.curation.splits import AutoSplit, SplitConfig
from medseg.data.labels.resolution import LabelStatement, Missing, merge_labels
from medseg.data.labels.schema import Color, LabelSchema, Others, Values
from medseg.data.labels.terminology import TerminologyCode
from medseg.data.layouts.discovery import LayoutOptions
from medseg.errors import ConfigError

_RESUME_SAFE, _WITHIN_DATASET = FieldTraits(resume_safe=True), FieldTraits(resolve_path=False)


class DataConfig(Spec):
    """Where the cases are and what their labels mean.

    Attributes:
        path: the folder of cases, or a manifest; its layout is found out and said aloud.
        label_suffix: what a label file's name adds to its image's; of several the first that an image has;
            none tries the usual separators.
        image_dir, label_dir: the folders of images and of label maps, relative to ``path`` or to the folders of
            its parts; none tries the usual names (``images``, ``imgs``, ``scans``…; ``labels``, ``masks``…).
        unlabeled: whether images without a label map are a mistake to ``refuse``, or to ``leave_out``.
        modalities: which kinds of image are the channels, in order (BIDS suffixes, BraTS contrasts,
            ``image:…`` columns of a manifest); none takes what the layout has.
        labels: name → value, or values merged into one; the first is the background. None: as the layout
            or a file beside the data names them, else by value.
        others: what values that are not declared are: ``refuse`` them, count them as ``background``, or
            ``ignore``. Here and in ``background``, ``codes``, ``ignore_value``, ``regions`` and ``pairs``, what
            is set wins over what the layout declares; none takes that (else ``refuse``, true, nothing).
        background: whether the first label is background, which has no metric and is not drawn.
        colors: name → [red, green, blue], where label maps are coded by colors; they are drawn in them, too.
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
        channels: of pictures: 1 turns color to gray, 3 repeats gray; none takes the most any picture has.
        split: how cases are divided.
        duplicates: what is done with cases whose images are the same: ``group`` keeps them on one side of the
            split, ``drop`` keeps one of each, ``refuse`` stops. Blank images are no copies of each other.
        cache: folder of measured and preprocessed cases, which runs may share; none: the run folder's.
        workers: processes that prepare patches; 0 does it in the training process.
        worker_timeout: seconds after which a worker that gives no batch is taken for stuck.
    """

    path: Annotated[Path | None, _RESUME_SAFE] = None
    label_suffix: str | tuple[str, ...] | None = None
    image_dir: Annotated[Path | None, _WITHIN_DATASET] = None
    label_dir: Annotated[Path | None, _WITHIN_DATASET] = None
    unlabeled: Literal["refuse", "leave_out"] = "refuse"
    modalities: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    labels: Annotated[dict[str, Values], Field(min_length=2)] | None = None
    others: Others | None = None
    background: bool | None = None
    colors: dict[str, Color] | None = None
    codes: dict[str, TerminologyCode] | None = None
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
    cache: Annotated[Path | None, _RESUME_SAFE] = None
    workers: Annotated[int, _RESUME_SAFE] = Field(default=1, ge=0)
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

    def choice(self, label_suffix: str | None = None) -> LayoutOptions:
        """What is said here of the files; ``label_suffix`` of a command counts before the setting."""
        return LayoutOptions(label_suffix or self.label_suffix, self.modalities, self.image_dir, self.label_dir)

    def statement(self) -> LabelStatement:
        """What is said here of the labels."""
        return LabelStatement(
            colors=self.colors,
            overlapping=self.overlapping,
            soft=self.soft,
            missing=self.missing,
            fields=self._label_fields(),
        )

    def declared_labels(self) -> LabelSchema | None:
        """The labels as named here, or none if the layout or the files name them."""
        fields = self._label_fields()
        named = "names" in fields or fields.get("collapse_instances")
        return merge_labels(None, fields) if named else None

    def _label_fields(self) -> dict[str, Any]:
        """The fields of ``LabelSchema`` that are set here; the others are as the layout declares them."""
        names: Any = self.labels
        if names is None and self.instances == "keep" and self.colors is not None:
            names = {name: (i,) for i, name in enumerate(n for n in self.colors if n != "ignore")}
        fields = {
            "names": names,
            "ignore_value": self.ignore_value,
            "collapse_instances": self.instances == "foreground" or None,
            "regions": self.regions,
            "pairs": self.pairs,
            "others": self.others,
            "background": self.background,
            "terminology": self.codes,
        }
        return {name: value for name, value in fields.items() if value is not None}
