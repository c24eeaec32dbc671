"""The settings ``train.tracking``: services that receive the course of a training."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medseg.config.base import FieldTraits, Spec

_RESUME_SAFE = FieldTraits(resume_safe=True)
_Text = Annotated[str, Field(min_length=1)]


class MlflowConfig(Spec):
    """MLflow: a local database, or a tracking server.

    Attributes:
        database: SQLite file, created if it does not exist; nothing leaves the machine.
        artifacts: folder of pictures and model files beside a database; if None, the name of the database with
            ``-artifacts`` in place of its suffix.
        uri: tracking server, such as ``http://server:5000``; in place of ``database``.
        experiment: name of the experiment.
        run_name: name of the run; if None, that of the run folder.
        pictures: whether pictures of validation cases are sent.
        model: whether the model file is sent.
    """

    database: Annotated[Path | None, _RESUME_SAFE] = None
    artifacts: Annotated[Path | None, _RESUME_SAFE] = None
    uri: Annotated[_Text | None, _RESUME_SAFE] = None
    experiment: Annotated[_Text, _RESUME_SAFE] = "medseg"
    run_name: Annotated[_Text | None, _RESUME_SAFE] = None
    pictures: Annotated[bool, _RESUME_SAFE] = True
    model: Annotated[bool, _RESUME_SAFE] = True

    @model_validator(mode="after")
    def _check_place(self) -> MlflowConfig:
        if (self.database is None) == (self.uri is None):
            raise ValueError("mlflow needs a place: set database to a file, or uri to a tracking server")
        if self.artifacts is not None and self.database is None:
            raise ValueError("mlflow.artifacts is for mlflow.database; a tracking server has its own place")
        return self


class WandbConfig(Spec):
    """Weights & Biases.

    Attributes:
        mode: ``offline`` writes a folder that ``wandb sync`` can send later; ``online`` sends at once.
        project: name of the project.
        entity: user or team; if None, the default of the account.
        folder: the folder ``wandb`` is created in it; if None, in the run folder.
        run_name: name of the run; if None, that of the run folder.
        pictures: whether pictures of validation cases are sent.
        model: whether the model file is sent.
    """

    mode: Annotated[Literal["offline", "online"], _RESUME_SAFE] = "offline"
    project: Annotated[_Text, _RESUME_SAFE] = "medseg"
    entity: Annotated[_Text | None, _RESUME_SAFE] = None
    folder: Annotated[Path | None, _RESUME_SAFE] = None
    run_name: Annotated[_Text | None, _RESUME_SAFE] = None
    pictures: Annotated[bool, _RESUME_SAFE] = True
    model: Annotated[bool, _RESUME_SAFE] = True


class TrackingConfig(Spec):
    """Services that receive the course of a training, beside ``log.jsonl`` and TensorBoard.

    Attributes:
        mlflow: if None, it is off.
        wandb: Weights & Biases; if None, it is off.
    """

    mlflow: Annotated[MlflowConfig | None, _RESUME_SAFE] = None
    wandb: Annotated[WandbConfig | None, _RESUME_SAFE] = None

    def named(self, name: str) -> TrackingConfig:
        """Return the settings for one of several trainings.

        The name of its runs is ``name``, after the ``run_name`` that all of them share, if it is set. A name
        that contains a path, which services do not receive, is replaced by its digest.

        Example:
            >>> tracking = TrackingConfig(wandb=WandbConfig(run_name="first"))
            >>> tracking.named("fold 0").wandb.run_name
            'first, fold 0'
        """
        if "/" in name or "\\" in name:
            name = sha256(name.encode()).hexdigest()[:8]
        services: dict[str, MlflowConfig | WandbConfig] = {}
        for key, service in (("mlflow", self.mlflow), ("wandb", self.wandb)):
            if service is not None:
                text = name if service.run_name is None else f"{service.run_name}, {name}"
                services[key] = service.model_copy(update={"run_name": text})
        return self.model_copy(update=services)
