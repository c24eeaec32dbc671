"""The predictions of a folder: their files, the cases that were to be predicted, and those that failed."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.cases import join_problems, list_images
from medseg.data.io.readers import image_stem
from medseg.data.requested_cases import REQUESTED_FILE, read_requested
from medseg.dicom import OBJECTS_FOLDER
from medseg.errors import DataError
from medseg.evaluation.options import MissingPolicy

FAILURES_FILE = "failures.csv"
MISSING_COUNT = {"worst": "counted as without objects", "ignore": "left out"}
"""Policy for cases without a prediction → how they count in evaluations of objects."""
NO_LABEL_MAP = "there is no label map"


@dataclass(frozen=True)
class MissingCase:
    """A case with a reference and without a prediction.

    Attributes:
        reference: file of the reference.
        reason: why there is no prediction.
    """

    reference: Path
    reason: str


@dataclass(frozen=True)
class Predictions:
    """The predictions of a folder.

    Attributes:
        files: case → its label map.
        named: case → a path in the folder whose stem is the case: the file itself, except where names have a
            suffix or files are in subfolders.
        requested: cases that were to be predicted, from ``requested.json``; None without that file.
        failures: case → why it failed, from ``failures.csv``.
    """

    files: dict[str, Path]
    named: dict[str, Path]
    requested: tuple[str, ...] | None
    failures: dict[str, str]

    @property
    def absent(self) -> list[str]:
        """Requested cases without a label map."""
        return [case for case in self.requested or () if case not in self.files]

    def why_missing(self, case: str) -> str | None:
        """Return why a case has no prediction; None if it has one. A failed case has none even with a file."""
        if case in self.failures:
            return f"{FAILURES_FILE}: {self.failures[case]}"
        if case in self.files:
            return None
        listed = case in (self.requested or ())
        return f"listed in {REQUESTED_FILE}, but {NO_LABEL_MAP}" if listed else NO_LABEL_MAP


def read_predictions(folder: Path, suffix: str | None) -> Predictions:
    """Read which cases a folder of predictions has, was to have, and failed on.

    Args:
        folder: output folder of ``medseg infer``, or any folder of label maps.
        suffix: suffix that names of label maps add to names of cases; other files are skipped.

    Raises:
        DataError: if the folder has no label maps and none were requested, two label maps belong to the same
            case, or a record cannot be read.
    """
    found, requested = _list_predictions(folder, suffix), read_requested(folder)
    if not found and not requested:
        ending = f" whose names end with {suffix}" if suffix else ""
        raise DataError(f"{folder}: no label maps{ending} in this folder")
    return Predictions(
        {image_stem(name): path for name, path in found.items()},
        {image_stem(name): name for name in found},
        None if requested is None else tuple(requested),
        read_failures(folder),
    )


def check_missing(policy: MissingPolicy, missing: Mapping[str, str], total: str, *, worst: str) -> None:
    """Check that no case lacks a prediction, if that is an error.

    Args:
        policy: what cases without a prediction are.
        missing: case → why it has no prediction.
        total: number of all cases, in words.
        worst: how ``--missing worst`` counts them.

    Raises:
        DataError: cases are missing, and the policy is ``error``.
    """
    if policy != "error" or not missing:
        return
    verb = "has" if len(missing) == 1 else "have"
    raise DataError(
        join_problems(
            f"{len(missing)} of {total} {verb} no prediction; a mean over the other cases is too optimistic",
            [f"{case}: {reason}" for case, reason in missing.items()],
        ),
        hint=f"Predict these cases, count them with --missing worst ({worst}), leave them out with --missing "
        "ignore, or give a folder that contains only the references you need.",
    )


def read_failures(folder: Path) -> dict[str, str]:
    """Return the reasons of failed cases, by case, from ``failures.csv``."""
    path = folder / FAILURES_FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row["case"]: row["error"] or "failed" for row in csv.DictReader(stream)}
    except (ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: not a table of cases and errors ({error})", path=path) from error


def file_ending(path: Path) -> str:
    """Return what a file's name adds to its stem, such as ``.nii.gz``."""
    return path.name.removeprefix(image_stem(path))


def _list_predictions(folder: Path, suffix: str | None) -> dict[Path, Path]:
    """Return the label maps of a folder by a path whose stem is the case.

    The key is the path itself, without the suffix. In layouts with subfolders, such as BIDS, it is built from
    the provenance record.

    Raises:
        DataError: if two label maps belong to the same case.
    """
    files = [path for path in list_images(folder) if path.name != OBJECTS_FOLDER]
    if files:
        duplicates = [stem for stem, count in Counter(map(image_stem, files)).items() if count > 1]
        if duplicates:
            raise DataError(
                f"{folder}: several label maps of one name: {', '.join(duplicates)}",
                hint="Keep one file per case.",
                path=folder,
            )
        if suffix is None:
            return {path: path for path in files}
        return {
            path.with_name(f"{image_stem(path).removesuffix(suffix)}{file_ending(path)}"): path
            for path in files
            if image_stem(path).endswith(suffix)
        }
    outputs = (_read_provenance(path) for path in sorted(folder.glob("provenance/*.json")))
    by_case = {case: folder / output for case, output in outputs if output}
    return {
        folder / f"{case}{file_ending(path)}": path
        for case, path in by_case.items()
        if path.is_file() and path.resolve().is_relative_to(folder.resolve())
    }


def _read_provenance(path: Path) -> tuple[str, str]:
    """Return the case and the file in the folder that a provenance record names."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return str(record["case"]), str(record.get("output", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a provenance record", hint="Predict the case again with --overwrite.", path=path
        ) from error
