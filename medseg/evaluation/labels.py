"""The labels of an evaluation: stated, recorded beside the predictions, or guessed from the references."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from medseg.data.curation.case_statistics import count_values
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema, guess_schema
from medseg.data.scans import as_label_map
from medseg.errors import ConfigError, DataError
from medseg.evaluation.options import EvaluationOptions
from medseg.geometry import Array

_MOST_GUESSED = 64
_MOST_SHOWN = 10


def parse_labels(text: str) -> LabelSchema:
    """Labels from ``organ=1,vessel=2`` (the background is 0), or from a ``medseg.json``.

    Raises: ConfigError if the text is neither.
    """
    if Path(text).is_file():
        return read_labels(Path(text))
    if "=" not in text:
        raise ConfigError(
            f"--labels {text!r}: no such file, and not of the form NAME=VALUE[,NAME=VALUE…], for example "
            "organ=1,vessel=2"
        )
    names: dict[str, Any] = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        name = name.strip()
        if name in names:
            raise ConfigError(f"--labels {text!r}: {name!r} appears twice; merged values are {name}=1+2")
        try:
            names[name] = tuple(int(v) for v in value.split("+"))
        except ValueError as error:
            raise ConfigError(
                f"--labels {text!r}: expected NAME=VALUE[,NAME=VALUE…] or a file such as medseg.json"
            ) from error
    if not any(0 in values for values in names.values()):
        names = {"background": (0,), **names}
    try:
        return LabelSchema(names=names)
    except ValidationError as error:
        raise ConfigError(f"--labels {text!r}: {_reason(error)}") from error


def read_labels(path: Path) -> LabelSchema:
    """The labels in a ``medseg.json``. Raises: ConfigError if it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return LabelSchema.model_validate(content.get("labels", content))
    except (ValueError, AttributeError) as error:
        reason = _reason(error) if isinstance(error, ValidationError) else error
        raise ConfigError(f"{path}: holds no labels as medseg writes them ({reason})") from error


def resolve_labels(options: EvaluationOptions, folder: Path, references: Iterable[Path]) -> LabelSchema:
    """The labels stated, those of ``medseg.json`` in ``folder``, or those guessed from the references' values.

    ``others`` and ``ignore_value`` of the options replace what the labels say.
    Raises: ConfigError if labels cannot be guessed, or the ignore value is a label's.
    """
    recorded = folder / "medseg.json"
    labels = options.labels or (read_labels(recorded) if recorded.is_file() else None)
    if labels is None:
        labels = _guess(references, options.ignore_value)
    changes: dict[str, Any] = {}
    if options.others is not None:
        changes["others"] = "refuse" if options.others == "error" else options.others
    if options.ignore_value is not None:
        changes["ignore_value"] = options.ignore_value
    try:
        return LabelSchema.model_validate(labels.model_dump() | changes)
    except ValidationError as error:
        raise ConfigError(f"--ignore {options.ignore_value}: {_reason(error)}") from error


def encode_checked(values: Array, labels: LabelSchema, path: Path) -> Array:
    """A label map as codes (class + 1; 0 for the ignore value).

    Raises: DataError naming ``path`` and the values that have no name.
    """
    try:
        return labels.encode(values, str(path))
    except DataError as error:
        unnamed = [int(value) for value in np.unique(values) if labels.is_undeclared(int(value))]
        shown = ", ".join(map(str, unnamed[:_MOST_SHOWN]))
        shown += f" and {len(unnamed) - _MOST_SHOWN} more" if len(unnamed) > _MOST_SHOWN else ""
        known = ", ".join(f"{name}={'+'.join(map(str, group))}" for name, group in labels.names.items())
        raise DataError(
            f"{path}: label values without a name: {shown}; expected {known}. Name them with --labels, or say "
            "what they are: --others background, --others ignore, or --ignore VALUE for one of them."
        ) from error


def _reason(error: ValidationError) -> str:
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


def _guess(references: Iterable[Path], ignore_value: int | None) -> LabelSchema:
    values: set[int] = set()
    for path in references:
        with suppress(DataError):  # listed as a failed case when it is compared
            values |= count_values(as_label_map(read_scan(path))).keys()
    values.discard(ignore_value)  # type: ignore[arg-type]
    if not 2 <= len(values) <= _MOST_GUESSED:
        found = f"{len(values)} different values" if len(values) > 1 else f"only the value {sorted(values)}"
        raise ConfigError(
            f"the references hold {found if values else 'no readable values'}, from which no labels can be "
            f"guessed (2 to {_MOST_GUESSED} values are expected). Name them: --labels NAME=VALUE[,…], or a "
            "medseg.json."
        )
    return guess_schema(values, most=_MOST_GUESSED)
