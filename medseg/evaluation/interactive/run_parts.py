"""The cases of a dataset that a run was not trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg.data.io.content_digest import content_digest
from medseg.errors import ConfigError, DataError
from medseg.evaluation.interactive.baselines import BASELINES
from medseg.evaluation.interactive.cases import CaseSource, DatasetCase

Part = Literal["train", "val", "test", "all"]

_RECORD = "cases.json"


@dataclass(frozen=True)
class ChosenCases:
    """Cases to evaluate.

    Attributes:
        cases: the cases.
        selection: how they were chosen, in words.
    """

    cases: Sequence[CaseSource]
    selection: str


def choose_cases(cases: Sequence[CaseSource], model: Path, part: Part | None = None) -> ChosenCases:
    """Leave out the cases that a run was trained on or that chose its weights.

    A case belongs to a part of the run if its image has the recorded SHA-256, or the recorded path.

    Args:
        cases: cases of a dataset, as `find_interactive_cases` returns them.
        model: run folder, or ``model.safetensors`` in one; its ``cases.json`` names the cases of the training.
        part: part of the run to keep; ``all`` keeps every case. If None, all but ``train`` and ``val``.

    Raises:
        ConfigError: if ``part`` is a part of a run and the model is none.
        DataError: if no case is left, or ``cases.json`` is damaged.
    """
    record = (model if model.is_dir() else model.parent) / _RECORD
    if part == "all":
        if str(model) in BASELINES:
            return ChosenCases(cases, "all cases; a baseline is not trained")
        return ChosenCases(cases, "all cases, also those of the training")
    if not (model.exists() and record.is_file()):  # a baseline's name is no path
        if part is not None:
            raise ConfigError(
                f"--cases {part}: {model} is no run folder with {_RECORD}",
                hint="Leave out --cases.",
                path=model,
            )
        if str(model) in BASELINES:
            return ChosenCases(cases, "all cases; a baseline is not trained")
        return ChosenCases(cases, "all cases; which of them the model was trained on is not recorded")
    parts = _read_parts(record)
    found = [(case, _part(case, parts)) for case in cases]
    if part is not None:
        kept = [case for case, own in found if own == part]
        selection = f"part {part} of the run: {len(kept)} of {len(cases)} cases"
    else:
        kept = [case for case, own in found if own not in ("train", "val")]
        selection = f"{len(kept)} of {len(cases)} cases; training and validation cases of the run are left out"
    if not kept:
        raise DataError(
            f"no case is left: {selection}",
            hint="Give other data, or evaluate all with --cases all.",
            path=record,
        )
    return ChosenCases(kept, selection)


def _read_parts(record: Path) -> dict[str, str]:
    """Return SHA-256 and path of each image → part."""
    try:
        entries: list[dict[str, Any]] = json.loads(record.read_text(encoding="utf-8"))
        return {str(entry[key]): str(entry["part"]) for entry in entries for key in ("image", "image_sha256")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record}: damaged, expected the list of cases of a training", path=record) from error


def _part(case: CaseSource, parts: dict[str, str]) -> str | None:
    if not isinstance(case, DatasetCase):
        return None
    image = case.case.image
    return parts.get(str(image.resolve())) or parts.get(content_digest(image))
