"""What a tracking service receives: settings and facts without paths, host names or identities."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from medseg.config.schema import RunConfig
from medseg.training.run_folder.log import curve_name
from medseg.training.tracking.callbacks import LogEntry, TrainStart

Scalar = str | int | float | bool
_LEFT_OUT = ("data.patient", "train.tracking.")
"""Settings that are not sent, besides paths: they describe file names, or the services themselves."""


@dataclass(frozen=True)
class SentRecord:
    """What a service receives at the start of a training.

    Attributes:
        name: of the run.
        settings: dotted key → value; no paths.
        facts: versions, hardware and counts of cases.
    """

    name: str
    settings: dict[str, Scalar]
    facts: dict[str, Scalar]

    @classmethod
    def of(cls, start: TrainStart, name: str | None) -> SentRecord:
        """Return the record of a training.

        Args:
            start: the training.
            name: of the run; if None, that of the run folder.
        """
        facts: dict[str, Scalar] = {f"cases.{part}": count for part, count in start.cases.items()}
        facts["labels"] = ", ".join(start.labels)
        facts |= flatten(start.environment)
        return cls(name or start.run.resolve().name, sent_settings(start.config), facts)


def sent_settings(config: RunConfig) -> dict[str, Scalar]:
    """Return the settings by dotted keys, without paths.

    Example:
        >>> sent = sent_settings(RunConfig.model_validate({"data": {"path": "/scans/liver"}}))
        >>> sent["train.batch_size"], "data.path" in sent
        (2, False)
    """
    flat = flatten(config.model_dump())
    return {key: value for key, value in flat.items() if not key.startswith(_LEFT_OUT)}


def numbers(entry: LogEntry) -> dict[str, float]:
    """Return the numbers of a line of ``log.jsonl`` by the names of their curves.

    Example:
        >>> numbers({"epoch": 2, "step": 8, "loss": 0.5, "val_dice:core": None})
        {'epoch': 2.0, 'loss': 0.5}
    """
    return {
        curve_name(key): float(value)
        for key, value in entry.items()
        if key != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


def flatten(block: Mapping[str, Any], above: str = "") -> dict[str, Scalar]:
    """Return the values of nested mappings by dotted keys: lists as JSON; neither paths nor None.

    Example:
        >>> flatten({"a": {"b": 1, "c": (2, 3)}, "d": None, "e": PurePath("/scans")})
        {'a.b': 1, 'a.c': '[2, 3]'}
    """
    flat: dict[str, Scalar] = {}
    for key, value in block.items():
        dotted = f"{above}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{dotted}.")
        elif value is not None and not isinstance(value, PurePath):
            scalar = isinstance(value, str | int | float | bool)
            flat[dotted] = value if scalar else json.dumps(value, default=lambda one: None)
    return flat
