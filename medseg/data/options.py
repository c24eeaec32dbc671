"""``DataConfig``: where the cases are, what their labels mean and how they are split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medseg.config.base import FieldTraits, Spec
from medseg.data.curation.duplicates import Duplicates
from medseg.data.curation.splits import AutoSplit, SplitConfig
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.objects.numbering import InstanceSource
from medseg.data.layouts.discovery import LayoutOptions

_RESUME_SAFE, _WITHIN_DATASET = FieldTraits(resume_safe=True), FieldTraits(resolve_path=False)


class DataConfig(Spec):
    """Where the cases are, what their labels mean and how they are split.

    Attributes:
        path: folder of cases, or a manifest; its layout is detected and printed.
        label_suffix: what a label file's name adds to its image's; of several, the first that an image has. If
            None, the usual separators are tried.
        image_dir, label_dir: folders of images and of label maps, relative to ``path`` or to the folders of
            its parts. If None, the usual names are tried (``images``, ``scans``…; ``labels``, ``masks``…).
        unlabeled: whether images without a label map are an error (``refuse``) or skipped (``leave_out``).
        modalities: kinds of image that are the channels, in order (BIDS suffixes, BraTS contrasts, ``image:…``
            columns of a manifest). If None, those of the layout.
        labels: names, values and meaning of the labels; see :class:`LabelConfig`.
        instances: train and predict each object on its own (``task.name=instances``): ``keep`` if label files
            number the objects (one label in a map, or a file for each label) or list them (COCO);
            ``components`` if the connected parts of each label are its objects. If None, labels are classes.
        patient: regular expression whose first group is the patient in a case's id; cases of one patient stay
            together in a split. Layouts that name patients do not need it.
        channels: channels of pictures: 1 turns color to gray, 3 repeats gray. If None, the most that any
            picture has.
        split: how cases are divided into training, validation and test.
        duplicates: treatment of cases with the same image: ``group`` keeps them in one part of the split,
            ``drop`` keeps one of each, ``refuse`` stops. Blank images are not duplicates of each other.
        cache: folder of measured and preprocessed cases, which runs may share. If None, the run folder's.
        workers: processes that prepare patches; 0 prepares them in the training process.
        worker_timeout: seconds without a batch after which a worker counts as stuck.
    """

    path: Annotated[Path | None, _RESUME_SAFE] = None
    label_suffix: str | tuple[str, ...] | None = None
    image_dir: Annotated[Path | None, _WITHIN_DATASET] = None
    label_dir: Annotated[Path | None, _WITHIN_DATASET] = None
    unlabeled: Literal["refuse", "leave_out"] = "refuse"
    modalities: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    labels: LabelConfig = LabelConfig()
    instances: InstanceSource | None = None
    patient: str | None = None
    channels: Literal[1, 3] | None = None
    split: SplitConfig = AutoSplit()
    duplicates: Duplicates = "group"
    cache: Annotated[Path | None, _RESUME_SAFE] = None
    workers: Annotated[int, _RESUME_SAFE] = Field(default=1, ge=0)
    worker_timeout: float = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _check_patient(self) -> DataConfig:
        try:
            groups = re.compile(self.patient).groups if self.patient is not None else 1
        except re.error as error:
            raise ValueError(f"patient: {self.patient!r} is not a regular expression ({error})") from error
        if groups < 1:
            raise ValueError(f"patient: {self.patient!r} has no group in parentheses, which is the patient")
        return self

    @property
    def layout(self) -> LayoutOptions:
        """Settings that select files where the layout leaves it open."""
        return LayoutOptions(self.label_suffix, self.modalities, self.image_dir, self.label_dir)
