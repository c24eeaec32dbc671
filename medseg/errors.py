"""The errors medseg raises on purpose, and the exit code each one ends a command with.

    MedsegError (1)
    ├── ConfigError (2)       a setting is unknown, contradicts another, or has the wrong type
    ├── DataError (3)         a file, label or case is missing, broken or unusable
    │   ├── ExistingFileError (3) a file that is there is not replaced
    │   └── GeometryError (3) two grids that must agree do not
    ├── ModelFileError (2)    a model file is foreign, damaged or needs a network of the user's own
    ├── ConversionError (2)   a network cannot be converted for another runtime
    ├── TrainingError (2)     a training cannot go on with these settings or this run folder (loss not finite,
    │                         checkpoint damaged, a worker killed for want of memory)
    ├── DiskFullError (1)     a disk has no room left for what is to be written
    ├── NumericalError (1)    a network's logits are NaN or infinite
    └── OutOfMemoryError (5)  the device or the machine has too little memory

Every message says what happened, where, what was got, what was expected, and the way out.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_SOME_FAILED = 4
EXIT_OUT_OF_MEMORY = 5


class MedsegError(Exception):
    """Base of all errors that medseg raises on purpose; ``exit_code`` is the command's exit status."""

    exit_code = 1


class ConfigError(MedsegError):
    """A setting is unknown, has the wrong type or contradicts another."""

    exit_code = 2


class DataError(MedsegError):
    """A file, label or case is missing, broken or unusable."""

    exit_code = 3


class ExistingFileError(DataError):
    """A file that is there is not replaced: another result, or not one of medseg's."""


class GeometryError(DataError):
    """Two grids that must agree do not."""


class ModelFileError(MedsegError):
    """A model file is foreign, damaged, or needs a network that it does not hold."""

    exit_code = 2


class ConversionError(MedsegError):
    """A network cannot be converted for another runtime, or gives other scores there."""

    exit_code = 2


class TrainingError(MedsegError):
    """A training cannot go on with its settings or its run folder; the last good checkpoint is kept."""

    exit_code = 2


class DiskFullError(MedsegError):
    """A disk has no room left for what is to be written."""


class NumericalError(MedsegError):
    """A network's logits are NaN or infinite, so that nothing can be decided by them."""


class OutOfMemoryError(MedsegError):
    """The device or the machine has too little memory for what was asked."""

    exit_code = EXIT_OUT_OF_MEMORY
