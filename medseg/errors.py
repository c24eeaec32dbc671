"""Errors that medseg raises, with the exit code of each, and findings, which are reported and not raised.

    MedsegError (1)
    ├── ConfigError (2)       a setting is unknown, contradicts another, or has the wrong type
    ├── DataError (3)         a file, label or case is missing, broken or unusable
    │   ├── ExistingFileError (3) an existing file is not replaced
    │   │   └── OtherResultError (3) it is a finished result of other inputs or settings
    │   ├── ChangedDataError (3) the dataset of a run that is continued changed since its start
    │   ├── NonFiniteError (3) an image has NaN or infinite voxels
    │   └── GeometryError (3) two grids that must agree differ
    │       └── LabelGridError (3) a label map lies on another grid than its image
    ├── ModelFileError (2)    a model file is foreign, damaged or needs a custom network
    ├── ConversionError (2)   a network cannot be converted for another runtime
    ├── TrainingError (2)     training cannot continue with these settings or this run folder (loss not finite,
    │                         damaged checkpoint, a worker killed for lack of memory)
    ├── TrainingStopped (128 + signal) a signal stopped a training after its state was saved
    │   └── StudyStopped (128 + signal) a signal stopped a study after its cells were saved
    ├── DiskFullError (1)     no space is left on a disk
    ├── NotWritableError (1)  a file or folder cannot be written to
    ├── NumericalError (2)    a network's logits are NaN or infinite: model, precision and input do not match
    └── OutOfMemoryError (5)  the device or the machine has too little memory

A message states what happened, where, what was found and what was expected; the hint states what to do next.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "note", "warning", "problem"]

EXIT_OK = 0
EXIT_SOME_FAILED = 4
EXIT_OUT_OF_MEMORY = 5
EXIT_INTERRUPTED = 130


class MedsegError(Exception):
    """Base class of the errors that medseg raises.

    Args:
        message: what happened, where, what was found and what was expected.
        hint: what to do next.
        case: id of the case the error belongs to.
        path: file or folder the error belongs to.

    Attributes:
        exit_code: exit status of a command that ends with this error.
        shown: whether the command prints it; of several processes with the same error, only one does.

    Example:
        >>> error = MedsegError("a.nii.gz: 2 axes, expected 3", hint="Set spatial_dims=2.")
        >>> str(error)
        'a.nii.gz: 2 axes, expected 3. Set spatial_dims=2.'
    """

    exit_code = 1
    shown = True

    def __init__(
        self, message: str = "", *, hint: str | None = None, case: str | None = None, path: Path | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.case = case
        self.path = path

    @property
    def message(self) -> str:
        """The message without the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        end = "" if self.message.endswith((".", ":", "!", "?")) else "."
        return f"{self.message}{end} {self.hint}"


class ConfigError(MedsegError):
    """A setting is unknown, has the wrong type or contradicts another."""

    exit_code = 2


class DataError(MedsegError):
    """A file, label or case is missing, broken or unusable."""

    exit_code = 3


class ExistingFileError(DataError):
    """An existing file is not replaced: it is another result or was not written by medseg."""


class OtherResultError(ExistingFileError):
    """A finished result of other inputs or settings is not replaced.

    Attributes:
        reason: how it was made, such as ``made with other settings: overlap 0.5 → 0.25``.
    """

    def __init__(
        self, message: str, *, reason: str, hint: str, case: str | None = None, path: Path | None = None
    ) -> None:
        super().__init__(message, hint=hint, case=case, path=path)
        self.reason = reason


class GeometryError(DataError):
    """Two grids that must agree differ."""


class LabelGridError(GeometryError):
    """A label map lies on another grid than its image.

    Attributes:
        same_shape: whether the label map has the image's shape, so that its header may be wrong.
    """

    def __init__(
        self,
        message: str = "",
        *,
        same_shape: bool = False,
        hint: str | None = None,
        case: str | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(message, hint=hint, case=case, path=path)
        self.same_shape = same_shape


class ChangedDataError(DataError):
    """The dataset of a run that is continued changed since its start."""


class NonFiniteError(DataError):
    """An image has NaN or infinite voxels."""


class ModelFileError(MedsegError):
    """A model file is foreign, damaged, or needs a custom network."""

    exit_code = 2


class ConversionError(MedsegError):
    """A network cannot be converted for another runtime, or computes other logits there."""

    exit_code = 2


class TrainingError(MedsegError):
    """Training cannot continue with its settings or its run folder; the last good checkpoint is kept."""

    exit_code = 2


class TrainingStopped(MedsegError):  # noqa: N818 (a request, not a failure)
    """A signal stopped a training after its state was saved.

    Args:
        signal_number: the signal received, such as 15 for SIGTERM.
        resume: the command that continues the training.
    """

    def __init__(self, signal_number: int, resume: str | None = None) -> None:
        cause = "interrupted (Ctrl+C)"
        if signal_number != signal.SIGINT:
            cause = f"stopped by signal {signal_number}"
        super().__init__(
            f"training {cause}; its state is saved",
            hint=f"Continue with: {resume}" if resume else "Continue with --resume auto.",
        )
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class StudyStopped(TrainingStopped):
    """A signal stopped a study after the running cells had saved their state.

    Args:
        signal_number: the signal received, such as 15 for SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.args = (self.message.replace("training", "study", 1).replace("its state is", "its cells are"),)
        self.hint = "Repeat the command to continue."


class DiskFullError(MedsegError):
    """No space is left on a disk."""


class NotWritableError(MedsegError):
    """A file or folder cannot be written to: no permission, or a disk that is read only."""


class NumericalError(MedsegError):
    """A network's logits are NaN or infinite: model, precision and input do not match."""

    exit_code = 2


class OutOfMemoryError(MedsegError):
    """The device or the machine has too little memory."""

    exit_code = EXIT_OUT_OF_MEMORY


@dataclass(frozen=True)
class Finding:
    """One result of checking a dataset, a folder layout or an installation.

    Attributes:
        status: ``problem`` if something fails because of it, ``warning`` if it is probably a mistake, ``note``
            for information, ``ok`` otherwise.
        topic: group the check belongs to, such as ``memory`` or ``duplicate``.
        subject: what was checked: a case, file, package or device. If several cases are affected, the first.
        message: what was found.
        hint: what to do about it; empty if nothing needs to be done.
        cases: ids of all affected cases, if there are several.

    Example:
        >>> finding = Finding("note", "memory", "RAM", "1.5 GiB", hint="Use smaller patches.")
        >>> finding.is_problem
        False
    """

    status: Status
    topic: str
    subject: str
    message: str
    hint: str = ""
    cases: tuple[str, ...] = ()

    @property
    def is_problem(self) -> bool:
        """Whether something fails because of this finding."""
        return self.status == "problem"

    @property
    def subjects(self) -> str:
        """The subject, with the number of other cases: ``liver_1 and 3 more``."""
        others = len(self.cases) - 1 if self.subject in self.cases else 0
        return f"{self.subject} and {others} more" if others else self.subject

    @property
    def is_warning(self) -> bool:
        """Whether this finding is probably a mistake, though nothing fails because of it."""
        return self.status == "warning"

    @property
    def affected(self) -> tuple[str, ...]:
        """Ids of the affected cases: ``cases``, or the subject alone."""
        return self.cases or (self.subject,)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``cases`` only if there are several."""
        content = asdict(self)
        if self.cases:
            return content | {"cases": list(self.cases)}
        del content["cases"]
        return content


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return a hint that asks for the known name nearest to a given one; None if none is near.

    Example:
        >>> did_you_mean("dise", ["dice", "focal"])
        'Did you mean dice?'
    """
    near = difflib.get_close_matches(name, list(known), 1)
    return f"Did you mean {near[0]}?" if near else None
