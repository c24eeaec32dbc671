"""MLflow: a run in a local database or on a tracking server."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.geometry import Array
from medseg.system.locks import wait_for_lock
from medseg.training.tracking.options import MlflowConfig
from medseg.training.tracking.sent_record import Scalar, SentRecord
from medseg.training.tracking.service import Outcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMETERS = 100
"""Largest number of parameters that MLflow accepts at once."""
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""A server that is away delays an epoch by less than a minute, unless the user set these variables."""


class MlflowService:
    """Logs to MLflow; see :class:`medseg.training.tracking.service.Service`.

    Args:
        options: where, and what is sent.
    """

    label = "MLflow"

    def __init__(self, options: MlflowConfig) -> None:
        self.options = options
        where = options.uri or str(options.database)
        self.place = f"{where}#{options.experiment}"
        self._client: MlflowClient | None = None
        self._run = ""

    def open(self, record: SentRecord, run_id: str | None) -> str:
        """Begin a run, or continue an earlier one."""
        client = self._connect()
        if run_id is not None and _exists(client, run_id):
            client.update_run(run_id, status="RUNNING")
            self._run = run_id
            return run_id
        tags = {_key(name): str(value) for name, value in record.facts.items()}
        run = client.create_run(self._experiment(client), tags=tags, run_name=record.name)
        self._run = run.info.run_id
        self._log_parameters(client, record.settings)
        return self._run

    def log(self, step: int, values: Mapping[str, float], pictures: Mapping[str, Array]) -> None:
        """Log the numbers and the pictures of a step."""
        from mlflow.entities import Metric

        client, now = self._connect(), int(1000 * time.time())
        metrics = [Metric(_key(name), value, now, step) for name, value in values.items()]
        client.log_batch(self._run, metrics=metrics, synchronous=True)
        for name, picture in pictures.items() if self.options.pictures else ():
            client.log_image(self._run, picture, key=_picture_key(name), step=step, synchronous=True)

    def close(self, outcome: Outcome, model: Path | None) -> None:
        """Send the model file and end the run."""
        client = self._connect()
        if model is not None and self.options.model:
            client.log_artifact(self._run, str(model))
        client.set_terminated(self._run, _STATUS[outcome])

    def _connect(self) -> MlflowClient:
        """Return the client; the tables of a new database are created by one process at a time."""
        if self._client is not None:
            return self._client
        uri = self.options.uri
        if uri is not None:
            for name, value in _PATIENCE.items():
                os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        database = self.options.database
        if uri is None and database is not None:
            database = database.absolute()
            database.parent.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{database.as_posix()}"
            with _quiet("mlflow", "alembic"), wait_for_lock(database.with_name(f".{database.name}.lock")):
                client = MlflowClient(uri, uri)
        else:
            client = MlflowClient(uri, uri)
        self._client = client
        return client

    def _experiment(self, client: MlflowClient) -> str:
        """Return the id of the experiment; create it if it does not exist."""
        name = self.options.experiment
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        try:
            return client.create_experiment(name, artifact_location=self._artifacts())
        except Exception:  # another process created it at the same time
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
            return experiment.experiment_id

    def _artifacts(self) -> str | None:
        """Location of pictures and model files; None leaves it to the server."""
        database = self.options.database
        if database is None:
            return None
        folder = self.options.artifacts or database.with_name(f"{database.stem}-artifacts")
        return folder.absolute().as_uri()

    def _log_parameters(self, client: MlflowClient, settings: Mapping[str, Scalar]) -> None:
        from mlflow.entities import Param

        parameters = [Param(_key(name), str(value)) for name, value in settings.items()]
        for first in range(0, len(parameters), _PARAMETERS):
            client.log_batch(self._run, params=parameters[first : first + _PARAMETERS], synchronous=True)


def _exists(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _key(name: str) -> str:
    """Replace what MLflow does not accept in the name of a parameter, metric or tag."""
    return re.sub(r"[^\w\-./: ]", "_", name)


def _picture_key(name: str) -> str:
    """Replace what MLflow does not accept in the name of a picture; different names stay different."""
    plain = re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII)
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:4]}"


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Silence the messages below warnings of some loggers, such as those about each table that is created."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
