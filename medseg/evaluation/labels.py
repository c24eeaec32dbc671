"""Labels of an evaluation: given, recorded with the predictions, or guessed from the references."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from medseg.data.curation.case_statistics import count_values
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema, guess_schema, shorten_values
from medseg.data.parallel import Job, run_jobs
from medseg.data.scans import as_label_map
from medseg.errors import ConfigError, DataError
from medseg.evaluation.options import EvaluationOptions
from medseg.evaluation.voxel_count import declared_voxels
from medseg.geometry import Array
from medseg.metrics import IntArray

_LOGGER = logging.getLogger(__name__)
_MOST_GUESSED = 64
_VOXEL_BYTES, _VOXEL_SECONDS = 16, 2e-8
"""Approximate memory and time per voxel of counting the values of a label map."""


def parse_labels(text: str) -> LabelSchema:
    """Parse label names and values.

    Args:
        text: ``NAME=VALUE[,NAME=VALUE…]``, where ``NAME=1+2`` merges values and the background is 0 unless it
            is named; or the path of a ``medseg.json``.

    Raises:
        ConfigError: if the text is neither, or a name or value appears twice.

    Example:
        >>> parse_labels("organ=1,vessels=2+3").names
        {'background': (0,), 'organ': (1,), 'vessels': (2, 3)}
    """
    if Path(text).is_file():
        return read_labels(Path(text))
    if "=" not in text:
        raise ConfigError(
            f"--labels {text!r}: no such file, and not of the form NAME=VALUE[,NAME=VALUE…]",
            hint="For example --labels organ=1,vessel=2.",
        )
    names: dict[str, Any] = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        name = name.strip()
        if name in names:
            raise ConfigError(
                f"--labels {text!r}: {name!r} appears twice", hint=f"Merge values with +, such as {name}=1+2."
            )
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
    """Read the labels from a ``medseg.json``.

    Raises:
        ConfigError: if the file contains no labels.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return LabelSchema.model_validate(content.get("labels", content))
    except (ValueError, AttributeError) as error:
        reason = _reason(error) if isinstance(error, ValidationError) else error
        raise ConfigError(f"{path}: not a medseg.json with labels ({reason})", path=path) from error


def resolve_labels(
    options: EvaluationOptions, folder: Path, references: Iterable[Path], predictions: Iterable[Path] = ()
) -> LabelSchema:
    """Return the labels of the options, else of ``medseg.json``, else guessed from the files.

    ``others`` and ``ignore_value`` of the options override those of the labels.

    Args:
        options: options of the evaluation.
        folder: folder of the predictions, which may contain ``medseg.json``.
        references: label maps to guess from.
        predictions: label maps that may contain labels that no reference contains.

    Raises:
        ConfigError: if labels cannot be guessed, or the ignore value belongs to a label.
    """
    recorded = folder / "medseg.json"
    labels = options.labels or (read_labels(recorded) if recorded.is_file() else None)
    if labels is None:
        labels = _guess_from(options, list(references), list(predictions))
    changes: dict[str, Any] = {}
    if options.others is not None:
        changes["others"] = "refuse" if options.others == "error" else options.others
    if options.ignore_value is not None:
        changes["ignore_value"] = options.ignore_value
    try:
        return LabelSchema.model_validate(labels.model_dump() | changes)
    except ValidationError as error:
        raise ConfigError(f"--ignore {options.ignore_value}: {_reason(error)}") from error


def encode_label_map(values: Array, labels: LabelSchema, path: Path) -> Array:
    """Encode a label map: class index + 1, and 0 for ignored voxels.

    Raises:
        DataError: if there are values without a name; the message lists them with ``path``.
    """
    try:
        return labels.encode(values, str(path))
    except DataError as error:
        unnamed = [int(value) for value in np.unique(values) if labels.is_undeclared(int(value))]
        shown = shorten_values(unnamed)
        expected = ", ".join(f"{name}={'+'.join(map(str, group))}" for name, group in labels.names.items())
        raise DataError(
            f"{path}: label values without a name: {shown}; expected {expected}",
            hint="Name them with --labels, or choose --others background, --others ignore, or --ignore VALUE.",
            path=path,
        ) from error


def warn_about_absent_values(
    options: EvaluationOptions, labels: LabelSchema, counts: IntArray, label_maps: Iterable[Path]
) -> None:
    """Log a warning about labels, or an ignore value, that were given and that no label map contains.

    Args:
        options: options of the evaluation.
        labels: labels of the evaluation.
        counts: (1 + labels,) voxels of all cases that are ignored or belong to each label.
        label_maps: files whose values are listed; they are only read if a value is absent.
    """
    given = list(labels.names.items()) if options.labels is not None else []
    suspect = [
        ("--labels", f"{name}={'+'.join(map(str, values))}", set(values))
        for index, (name, values) in enumerate(given, start=1)
        if not counts[index] and 0 not in values
    ]
    if options.ignore_value is not None and not counts[0]:
        suspect.append(("--ignore", str(options.ignore_value), {options.ignore_value}))
    if not suspect:
        return
    found = _read_values(list(label_maps), replace(options, ignore_value=None))
    for option in ("--labels", "--ignore"):
        absent = [text for source, text, values in suspect if source == option and not values & found]
        if absent:
            _LOGGER.warning(
                "%s: no label map contains %s; they contain the values %s",
                option, ", ".join(absent), shorten_values(sorted(found)),
            )  # fmt: skip


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {message}" if where else message


def _guess_from(options: EvaluationOptions, references: list[Path], predictions: list[Path]) -> LabelSchema:
    """Guess the labels from the values in the references, and in the predictions if both share a label.

    Without a shared label the files rather have different codes, such as 1 and 255, than spurious structures.
    """
    given, predicted = (_read_values(paths, options) for paths in (references, predictions))
    values = given | predicted if given & predicted - {0} else given
    if not 2 <= len(values) <= _MOST_GUESSED:
        got = f"{len(values)} different values" if len(values) > 1 else f"only the value {sorted(values)}"
        raise ConfigError(
            f"labels cannot be guessed: the references contain {got if values else 'no readable values'}, "
            f"expected 2 to {_MOST_GUESSED} values",
            hint="Name them: --labels NAME=VALUE[,…], or a medseg.json.",
        )
    return guess_schema(values, most=_MOST_GUESSED)


def _read_values(paths: list[Path], options: EvaluationOptions) -> set[int]:
    """Return the values that occur in label maps, without the ignored one."""
    voxels = [declared_voxels(path) for path in paths]
    jobs = [
        Job(path, count * _VOXEL_BYTES, count * _VOXEL_SECONDS)
        for path, count in zip(paths, voxels, strict=True)
    ]
    values = set[int]().union(*run_jobs(_values, jobs, limit=options.jobs, on_error=lambda path, error: set()))
    return {value for value in values if value != options.ignore_value}


def _values(path: Path) -> set[int]:
    return set(count_values(as_label_map(read_scan(path))))
