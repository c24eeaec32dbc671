"""The next image for a client: chosen by a strategy, and not given to two clients at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import numpy as np

from medseg.errors import MedsegError
from medseg.geometry import Array
from medseg.inference.disagreement import disagreement, views
from medseg.server.active_learning.descriptors import describe_scan
from medseg.server.active_learning.leases import Leases
from medseg.server.active_learning.selection import STRATEGIES, Strategy, select_cases
from medseg.server.datastore import Datastore
from medseg.server.datastore.store import HIDDEN
from medseg.server.errors import UnknownIdError
from medseg.server.models.pool import AutomaticModel, ModelPool

Value = TypeVar("Value")

_SCORING_SECONDS = 20.0
_DESCRIBING_SECONDS = 20.0
_MOST_LABELED = 500


class Strategies:
    """Chooses the next image for a client.

    Measurements are kept in memory; a call takes some seconds at most, and later calls know more images.

    Args:
        datastore: the images.
        models: the models; ``uncertainty`` uses the first that segments without prompts.
        lease_seconds: time for which an image is not given to another client, of this or another server.
        rng: source of random numbers.
    """

    def __init__(
        self,
        datastore: Datastore,
        models: ModelPool,
        lease_seconds: float = 900.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._store, self._models = datastore, models
        self._rng = rng or np.random.default_rng()
        self._leases = Leases(datastore.folder / HIDDEN / "leases.json", lease_seconds)
        self._described: dict[str, tuple[Array, Array]] = {}
        self._scores: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def names(self) -> dict[str, str]:
        """Return the strategies with their descriptions; ``uncertainty`` needs a model."""
        return {
            name: text for name, text in STRATEGIES.items() if name != "uncertainty" or self._models.automatic
        }

    def next(self, name: str, client: str = "") -> str | None:
        """Return an unlabeled image for a client, chosen by a strategy; None if there is none.

        Raises:
            UnknownIdError: there is no such strategy.
        """
        if name not in self.names():
            raise UnknownIdError("there is no strategy of this name")
        while candidates := self._free(client):
            with self._lock:
                chosen = self._choose(cast(Strategy, name), candidates)
            if self._leases.take(chosen, client):
                return chosen
        return None

    def release(self, image: str) -> None:
        """Let other clients get an image again."""
        self._leases.release(image)

    def _free(self, client: str) -> list[str]:
        """Return unlabeled images that no client got lately, else those that this client got."""
        owners = self._leases.owners()
        unlabeled = self._store.unlabeled()
        new = [image for image in unlabeled if image not in owners]
        return new or [image for image in unlabeled if owners.get(image) == client]

    def _choose(self, strategy: Strategy, candidates: Sequence[str]) -> str:
        mixed = [candidates[int(index)] for index in self._rng.permutation(len(candidates))]
        if strategy == "random":
            return mixed[0]
        if strategy == "uncertainty":
            scores = self._measure(mixed, self._score, self._known_score, _SCORING_SECONDS)
            if scores:
                return max(scores, key=lambda image: scores[image])
        labeled = self._store.labeled()
        labeled = [labeled[int(index)] for index in self._rng.permutation(len(labeled))[:_MOST_LABELED]]
        described = self._measure(
            [*_alternating(mixed, labeled)], self._describe, self._described.get, _DESCRIBING_SECONDS
        )
        pool = [image for image in mixed if image in described]
        if not pool:
            return mixed[0]
        known = [image for image in labeled if image in described]
        return select_cases("diversity", pool, known, 1, self._rng, describe=described.__getitem__)[0]

    def _measure(
        self,
        images: Sequence[str],
        measure: Callable[[str], Value],
        known: Callable[[str], Value | None],
        seconds: float,
    ) -> dict[str, Value]:
        """Return what is known of images, after measuring as many as there is time for, at least one."""
        until = time.monotonic() + seconds
        values: dict[str, Value] = {}
        for image in images:
            value = known(image)
            if value is None and (time.monotonic() < until or not values):
                try:
                    value = measure(image)
                except MedsegError:  # an image that cannot be read, or does not suit the model
                    continue
            if value is not None:
                values[image] = value
        return values

    def _describe(self, image: str) -> tuple[Array, Array]:
        self._described[image] = describe_scan(self._store.scan(image))
        return self._described[image]

    def _known_score(self, image: str) -> float | None:
        return self._scores.get((self._models.automatic[0].digest, image))

    def _score(self, image: str) -> float:
        model: AutomaticModel = self._models.automatic[0]
        scan = self._store.scan(image)
        with model.turns.take():
            score = disagreement(views(model.predictor), scan)
        self._scores[(model.digest, image)] = score
        return score


def _alternating(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the elements of two lists in turn."""
    paired = [one for pair in zip(first, second, strict=False) for one in pair]
    common = min(len(first), len(second))
    return [*paired, *first[common:], *second[common:]]
