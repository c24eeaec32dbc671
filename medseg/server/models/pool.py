"""The models of a server: each is in memory once and used by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.errors import ConfigError
from medseg.geometry import Array
from medseg.inference.model.prediction import Prediction
from medseg.inference.model.protocols import Segmenter
from medseg.prompts import Promptable, PromptSession
from medseg.server.errors import BusyError, UnknownIdError

_LARGEST_BYTE = 255


class Turns:
    """Lets one request at a time use a model; others wait, up to a number and for a time.

    Args:
        waiting: requests that may wait.
        seconds: time that each waits at most.
    """

    def __init__(self, waiting: int = 8, seconds: float = 600.0) -> None:
        self._lock, self._places = threading.Lock(), threading.BoundedSemaphore(waiting + 1)
        self._seconds = seconds

    @contextmanager
    def take(self) -> Iterator[None]:
        """Use the model while the block runs.

        Raises:
            BusyError: too many requests wait, or it takes too long.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("too many requests wait for this model; try again in a moment")
        try:
            if not self._lock.acquire(timeout=self._seconds):
                raise BusyError("the model is busy; try again in a moment")
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._places.release()


class AutomaticModel:
    """A model that segments a scan without prompts.

    Args:
        name: name for clients.
        predictor: the model, or several that are averaged.
        source: run folder or file that it was loaded from, which trainings start from.
        turns: order of the requests.
    """

    kind: Literal["segmentation"] = "segmentation"

    def __init__(
        self, name: str, predictor: Segmenter[Any], source: Path | None = None, turns: Turns | None = None
    ) -> None:
        self.name, self.predictor, self.source = name, predictor, source
        self.turns = turns or Turns()

    @property
    def schema(self) -> LabelSchema:
        """The labels that it predicts."""
        return self.predictor.header.labels

    @property
    def digest(self) -> str:
        """SHA-256 of the model."""
        return self.predictor.digest

    @property
    def labels(self) -> dict[str, int]:
        """Name → value in its label maps, without the background."""
        named = list(self.schema.names.items())[1 if self.schema.background else 0 :]
        return {name: values[0] for name, values in named}

    @property
    def served_labels(self) -> dict[str, int]:
        """Name → value for viewers, whose label maps hold one byte a voxel: 1, 2, … if values are larger."""
        labels = self.labels
        if all(0 <= value <= _LARGEST_BYTE for value in labels.values()):
            return labels
        return {name: index for index, name in enumerate(labels, 1)}

    @property
    def spatial_dims(self) -> int:
        """Number of axes of the scans that it segments."""
        header: Any = self.predictor.header
        if getattr(getattr(header, "preprocess", None), "slices", None) is not None:
            return 3
        return int(getattr(header, "spatial_dims", 3))

    def predict(self, scan: Scan, *, probabilities: bool = False) -> Prediction:
        """Segment a scan; requests take turns.

        Raises:
            DataError: the scan does not suit the model.
            BusyError: too many requests wait.
        """
        with self.turns.take():
            predictor = self.predictor
            return predictor.run(predictor.prepare(scan), probabilities=probabilities)


class PromptModel:
    """A model that answers prompts.

    Args:
        name: name for clients.
        promptable: the model.
        source: run folder or file that it was loaded from.
        turns: order of the requests.
    """

    kind: Literal["deepgrow"] = "deepgrow"

    def __init__(
        self, name: str, promptable: Promptable, source: Path | None = None, turns: Turns | None = None
    ) -> None:
        self.name, self.promptable, self.source = name, promptable, source
        self.turns = turns or Turns()

    @property
    def digest(self) -> str:
        """SHA-256 of the model; empty if it is not known."""
        return str(getattr(self.promptable, "digest", ""))

    @property
    def spatial_dims(self) -> tuple[int, ...]:
        """Numbers of axes of the scans that it segments."""
        return tuple(self.promptable.spatial_dims)

    def open(self, scan: Scan) -> PromptSession:
        """Open a scan.

        Raises:
            DataError: the scan does not suit the model.
        """
        if scan.spatial_dims not in self.spatial_dims:
            wanted = " or ".join(f"{n}D" for n in self.spatial_dims)
            raise ConfigError(f"the model {self.name} takes {wanted} images")
        promptable: Any = self.promptable
        with self.turns.take():
            return promptable.open(scan)

    def open_slice(self, plane: Array, spacing: tuple[float, ...]) -> PromptSession:
        """Open one slice (C, H, W) of a volume."""
        with self.turns.take():
            return self.promptable.open(plane[0] if len(plane) == 1 else plane, spacing)


Model = AutomaticModel | PromptModel


class ModelPool:
    """The models of a server by name.

    Args:
        models: the models; names are unique.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self._models: dict[str, Model] = {}
        for model in models:
            if model.name in self._models:
                raise ConfigError(
                    f"two models have the name {model.name}", hint="Rename one: --model NAME=PATH."
                )
            self._models[model.name] = model

    def names(self) -> list[str]:
        """Return the names of all models."""
        return list(self._models)

    def all(self) -> list[Model]:
        """Return all models."""
        return list(self._models.values())

    def get(self, name: str) -> Model:
        """Return a model.

        Raises:
            UnknownIdError: there is no model of this name.
        """
        if name not in self._models:
            raise UnknownIdError("there is no model of this name")
        return self._models[name]

    @property
    def automatic(self) -> list[AutomaticModel]:
        """The models that segment without prompts."""
        return [model for model in self._models.values() if isinstance(model, AutomaticModel)]

    @property
    def prompted(self) -> list[PromptModel]:
        """The models that answer prompts."""
        return [model for model in self._models.values() if isinstance(model, PromptModel)]

    def put(self, model: Model) -> None:
        """Serve a model, in the place of the one with the same name; requests that use that one go on."""
        known = self._models.get(model.name)
        if known is not None:
            model.turns = known.turns
        self._models[model.name] = model
