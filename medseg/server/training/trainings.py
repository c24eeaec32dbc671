"""The trainings of a server: one at a time, on the labels in the dataset."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.files import remove_stale_temporaries
from medseg.server.datastore import Datastore
from medseg.server.datastore.store import HIDDEN
from medseg.server.errors import BusyError, ConflictError, RefusedError, UnknownIdError
from medseg.server.http.logs import LOGGER, describe_failure
from medseg.server.models import ModelPool
from medseg.server.models.loading import load_from
from medseg.server.options import ServerOptions
from medseg.server.training.process import TrainingProcess, describe_interrupted, training_statistics
from medseg.system.locks import is_locked
from medseg.training.run_folder.layout import RunFolder

NEW = "new"
"""Name of the trainer that chooses settings for the dataset, for servers without a trained model."""
_FEWEST = 2
_NUMBERS = {"epochs": "train.epochs", "max_epochs": "train.epochs", "budget": "train.budget"}


class Trainings:
    """Starts, stops and describes trainings.

    A training continues the last one of the same model if that was stopped or killed, with the labels that were
    added meanwhile; else it begins a new run folder. Once it is complete, its model is served.

    Args:
        options: the server's options.
        datastore: the dataset.
        models: the models.
    """

    def __init__(self, options: ServerOptions, datastore: Datastore, models: ModelPool) -> None:
        self._options, self._store, self._models = options, datastore, models
        self._lock = threading.Lock()
        self._last: TrainingProcess | None = None
        self.runs = options.runs or datastore.folder / HIDDEN / "runs"

    def names(self) -> list[str]:
        """Return the models that can be trained: those from run folders, or ``new`` without any."""
        found = [model.name for model in self._models.all() if self._config_of(model.name) is not None]
        return [*found, *([] if found else [NEW])]

    def start(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Start a training and return its description.

        Args:
            name: name of a model; the first if it is empty.
            parameters: ``epochs`` or ``budget`` (minutes) of the training.

        Raises:
            UnknownIdError: there is no such model.
            BusyError: a training is running.
            ConflictError: too few images are labeled.
            RefusedError: a parameter is not a number.
        """
        name = name or self.names()[0]
        if name not in self.names():
            raise UnknownIdError("there is no model of this name that can be trained")
        settings = _settings(parameters.get(name) if isinstance(parameters.get(name), dict) else parameters)
        with self._lock:
            if self._last is not None and self._last.is_running:
                raise BusyError("a training is running")
            if len(self._store.labeled()) < _FEWEST:
                raise ConflictError(f"a training needs at least {_FEWEST} labeled images")
            run = self._next_run(name)
            process = TrainingProcess(
                name, run, self._command(name, run, settings), lambda: self._serve(name, run)
            )
            process.start()
            self._last = process
        LOGGER.info("a training started")
        return process.describe()

    def stop(self) -> dict[str, Any] | None:
        """Stop the training, whose state is saved, and return its description; None if none was started."""
        process = self._last
        if process is None:
            return None
        if process.is_running:
            process.stop()
            LOGGER.info("a training was stopped")
        return process.describe()

    def current(self, *, running: bool = False) -> dict[str, Any] | None:
        """Return the description of the last training; None if there is none, or none is running.

        A training that ended with an earlier server is described as stopped.
        """
        process = self._last
        if process is None:
            return None if running else self._interrupted()
        return None if running and not process.is_running else process.describe()

    def statistics(self) -> dict[str, Any]:
        """Return the progress of each model's last training."""
        found = {name: training_statistics(run) for name in self.names() if (run := self._newest(name))}
        if self._last is not None:
            found[self._last.model] = self._last.statistics()
        return found

    def _interrupted(self) -> dict[str, Any] | None:
        """Describe the newest training that an earlier server left incomplete; None without one."""
        newest = [(name, run) for name in self.names() if (run := self._newest(name)) is not None]
        left = [
            (run.stat().st_mtime, name, run)
            for name, run in newest
            if not RunFolder(run).model.exists() and not is_locked(run)  # another server may train there
        ]
        return describe_interrupted(*max(left)[1:]) if left else None

    def _config_of(self, name: str) -> Path | None:
        """Return the settings that a model was trained with; None if it is not from a run folder."""
        source = self._models.get(name).source
        if source is None:
            return None
        folder = source if source.is_dir() else source.parent
        config = RunFolder(folder).config
        return config if config.is_file() else None

    def _command(self, name: str, run: Path, settings: dict[str, float]) -> list[str]:
        """Return the arguments of ``medseg`` that train a model in a run folder.

        A run that is continued keeps its own settings; it can only become longer.
        """
        resumed = ["--run", str(run), "--resume", "auto", "--accept-new-cases"]
        if RunFolder(run).last.exists():
            epochs, planned = int(settings.get("train.epochs", 0)), RunFolder(run).planned_epochs() or 0
            longer = [f"train.epochs={epochs}"] if epochs > planned else []
            return ["train", str(RunFolder(run).config), *resumed, *longer]
        data, layout = self._store.root.resolve(), self._options.layout
        config = None if name == NEW else self._config_of(name)
        given = [f"{key}={value:g}" for key, value in settings.items()]
        common = ["data.unlabeled=leave_out", *self._options.train, *given]
        if layout.label_suffix is not None:
            common.append(f"data.label_suffix={layout.label_suffix}")
        if config is not None:
            common.insert(0, f"data.path={data}")
        source = data if config is None else config
        return ["train", str(source), *resumed, *common]

    def _newest(self, name: str) -> Path | None:
        """Return the newest run folder of a model."""
        pattern = re.compile(re.escape(_plain(name)) + r"-(\d+)")
        folders = self.runs.iterdir() if self.runs.is_dir() else ()
        found = [(int(m[1]), folder) for folder in folders if (m := pattern.fullmatch(folder.name))]
        return max(found)[1] if found else None

    def _next_run(self, name: str) -> Path:
        """Return the run folder to train in: the newest if its training is not complete, else a new one."""
        newest = self._newest(name)
        number = int(newest.name.rpartition("-")[2]) if newest is not None else 0
        if newest is not None and not RunFolder(newest).model.exists() and newest not in self._failed():
            remove_stale_temporaries(newest)
            if not RunFolder(newest).last.exists():  # it failed before the first checkpoint
                shutil.rmtree(newest, ignore_errors=True)
            return newest
        return self.runs / f"{_plain(name)}-{number + 1}"

    def _failed(self) -> list[Path]:
        """Return the run folder of the last training if it ended with an error: it is not tried again."""
        last = self._last
        return (
            [last.run]
            if last is not None and last.status == "ERROR" and RunFolder(last.run).last.exists()
            else []
        )

    def _serve(self, name: str, run: Path) -> None:
        """Serve the model of a training that is complete."""
        try:
            self._models.put(load_from([str(run)], name, self._options.device))
            LOGGER.info("a training is complete; its model is served")
        except MedsegError as error:
            LOGGER.error("a trained model cannot be served: %s", describe_failure(error))

    def close(self) -> None:
        """Stop a running training, whose state is saved."""
        if self._last is not None and self._last.is_running:
            self._last.stop()


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _settings(parameters: Any) -> dict[str, float]:
    """Return the settings that clients may choose."""
    settings: dict[str, float] = {}
    for key, setting in _NUMBERS.items():
        value = parameters.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise RefusedError(f"{key} is a positive number")
        settings[setting] = max(1, int(value)) if setting == "train.epochs" else value
    return settings
