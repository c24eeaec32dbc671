"""The Optuna study of a sweep: its journal, which several processes and machines share, sampler and pruner."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import ConfigError
from medseg.study.status import SWEEP_JOURNAL
from medseg.study.sweep.search_space.options import SweepConfig

if TYPE_CHECKING:
    import optuna

_LOGGER = logging.getLogger(__name__)

RUNGS = 10
"""Positions in a training with a time budget at which trials are compared."""
_STUDY = "sweep"
_LOCK_SECONDS = 30
"""Seconds after which the journal's lock of a process that was killed is removed."""


def import_optuna() -> Any:
    """Import Optuna, whose messages go to the loggers of medseg from then on.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "a sweep needs the package optuna", hint="Install it with: pip install 'medseg[hpo]'"
        ) from error
    optuna.logging.disable_default_handler()
    optuna.logging.disable_propagation()
    logger = logging.getLogger("optuna")
    if not any(isinstance(handler, _Forward) for handler in logger.handlers):
        logger.addHandler(_Forward())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class _Forward(logging.Handler):
    """Passes the messages of Optuna on to a logger of medseg."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one message on."""
        _LOGGER.log(record.levelno, "%s", record.getMessage())


@dataclass
class _JournalLock:
    """The lock of a journal: before anything is appended, a last line that a killed process cut off is removed.

    What is appended to such a line would make the journal unreadable.

    Attributes:
        path: the journal.
        lock: lock of Optuna.
    """

    path: Path
    lock: Any

    def acquire(self) -> bool:
        """Take the lock."""
        taken = bool(self.lock.acquire())
        if taken and self.path.exists():
            self._remove_unfinished_line()
        return taken

    def release(self) -> None:
        """Give the lock back."""
        self.lock.release()

    def _remove_unfinished_line(self) -> None:
        with self.path.open("r+b") as stream:
            if not stream.seek(0, os.SEEK_END):
                return
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) == b"\n":
                return
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
        _LOGGER.warning("%s: the last line was cut off, as by a full disk or a kill, and is removed", self.path)


def open_study(root: Path, sweep: SweepConfig, epochs: int | None) -> optuna.Study:
    """Open the study in a folder, or create it.

    Args:
        root: folder of the sweep.
        sweep: what is optimized, and how.
        epochs: length of the longest training; None if a time budget limits them.

    Raises:
        ConfigError: if Optuna is not installed, or the journal is damaged.
    """
    optuna = import_optuna()
    journal = optuna.storages.journal
    path = (root / SWEEP_JOURNAL).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _JournalLock(path, journal.JournalFileOpenLock(str(path), grace_period=_LOCK_SECONDS))
    try:
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=lock))
        return optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            directions=["maximize" if up else "minimize" for up in sweep.maximized],
            pruner=_build_pruner(optuna, sweep, epochs),
            load_if_exists=True,
        )
    except ValueError as error:
        raise ConfigError(
            f"{path}: the journal of the sweep is damaged ({error})",
            hint="Remove its last line, if a full disk cut it off, or choose another --output.",
            path=path,
        ) from error


def build_sampler(sweep: SweepConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial; its draws follow from the seed, the number and the earlier trials.

    A sweep that is interrupted therefore draws the same trials as one that is not, in one process.
    """
    optuna = import_optuna()
    address = hashlib.sha256(f"{sweep.seed} {number}".encode()).digest()
    seed = int.from_bytes(address[:4], "little")
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def _build_pruner(optuna: Any, sweep: SweepConfig, epochs: int | None) -> optuna.pruners.BasePruner:
    if sweep.pruning == "median":
        warmup = math.ceil(sweep.warmup * (epochs or RUNGS))
        return optuna.pruners.MedianPruner(n_startup_trials=sweep.startup, n_warmup_steps=warmup)
    if sweep.pruning == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=epochs or RUNGS)
    return optuna.pruners.NopPruner()
