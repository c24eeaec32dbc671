"""Which prediction is compared with which reference, and which cases have none."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.cases import join_problems, list_images, match
from medseg.data.io.readers import image_stem, is_image_file, is_zarr
from medseg.data.requested_cases import REQUESTED_FILE, read_requested
from medseg.dicom import OBJECTS_FOLDER
from medseg.errors import DataError

FAILURES_FILE = "failures.csv"


@dataclass(frozen=True)
class MissingCase:
    """A case with a reference and without a prediction, and why."""

    reference: Path
    reason: str


@dataclass(frozen=True)
class Pairing:
    """The cases of an evaluation.

    Attributes:
        pairs: case → its prediction and its reference.
        missing: case → its reference; it was to be predicted and is not.
        not_requested: references of cases that the predictions were never to hold.
    """

    pairs: dict[str, tuple[Path, Path]]
    missing: dict[str, MissingCase] = field(default_factory=dict)
    not_requested: tuple[Path, ...] = ()

    @property
    def references(self) -> int:
        """How many references there are."""
        return len(self.pairs) + len(self.missing) + len(self.not_requested)


def pair_cases(predictions: Path, references: Path, suffix: str | None) -> Pairing:
    """Pair two folders by name, one file with a reference of its name in a folder, or two files.

    ``requested.json`` beside the predictions says which cases they were to hold; without it every reference
    without a prediction is missing. Cases that ``failures.csv`` lists are missing, whatever file is there.
    Raises: DataError if a path is not there, a case has no reference or several, or nothing is predicted.
    """
    for path in (predictions, references):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
    if not _is_one_file(predictions):
        if _is_one_file(references):
            raise DataError(
                f"{references} is a file and {predictions} a folder: give two folders, two files, or a "
                "prediction's file and a folder of references"
            )
        return _pair_folders(predictions, references, suffix)
    case = image_stem(predictions)
    if _is_one_file(references):
        return Pairing({case: (predictions, references)})
    known = _list_references(references, suffix)
    found = _match([predictions], known, references, suffix)[predictions]
    others = tuple(path for path in known if path != found)
    return Pairing({case: (predictions, found)}, not_requested=others)


def _pair_folders(predictions: Path, references: Path, suffix: str | None) -> Pairing:
    predicted, requested = _list_predictions(predictions), read_requested(predictions)
    if not predicted and not requested:
        raise DataError(f"{predictions}: no label maps in this folder")
    made = {image_stem(name): path for name, path in predicted.items()}
    absent = [predictions / f"{case}.nii.gz" for case in requested or () if case not in made]
    known = _list_references(references, suffix)
    matches = {image_stem(p): r for p, r in _match([*predicted, *absent], known, references, suffix).items()}
    failures = _read_failures(predictions)
    pairs: dict[str, tuple[Path, Path]] = {}
    missing: dict[str, MissingCase] = {}
    for case, reference in sorted(matches.items()):
        if case in failures:
            missing[case] = MissingCase(reference, f"{FAILURES_FILE}: {failures[case]}")
        elif case in made:
            pairs[case] = (made[case], reference)
        else:
            missing[case] = MissingCase(reference, f"in {REQUESTED_FILE}, but no label map is there")
    rest = sorted(set(known) - set(matches.values()))
    if requested is not None:
        return Pairing(pairs, missing, tuple(rest))
    names = _names(rest, references, suffix)
    missing |= {name: MissingCase(path, "no label map is there") for name, path in names.items()}
    return Pairing(pairs, missing)


def _is_one_file(path: Path) -> bool:
    return path.is_file() or is_zarr(path)


def _list_references(folder: Path, suffix: str | None) -> list[Path]:
    known = sorted(p for p in folder.rglob("*") if is_image_file(p))
    if not known:
        raise DataError(
            f"{folder}: no label maps in this folder or below it. References in another layout become label "
            "maps by: medseg data convert DATA OUT --to folders"
        )
    if suffix is None:
        return known
    ending = [path for path in known if image_stem(path).endswith(suffix)]
    if not ending:
        raise DataError(
            f"--label-suffix {suffix}: no name in {folder} ends in it; there is, for example, {known[0].name}"
        )
    return ending


def _match(
    predicted: Iterable[Path], known: list[Path], references: Path, suffix: str | None
) -> dict[Path, Path]:
    """Prediction → its reference. Raises: DataError if one has none or several."""
    paths = list(predicted)
    matches, _ = match(paths, known, label_suffix=suffix)
    problems = [f"{p.name} has no reference in {references}" for p, found in matches.items() if not found]
    problems += [
        f"{p.name} has {len(found)} references: {', '.join(str(f) for f in found)} (see --label-suffix)"
        for p, found in matches.items()
        if len(found) > 1
    ]
    if problems:
        other = "references in another layout become label maps by: medseg data convert DATA OUT --to folders"
        raise DataError(join_problems(f"predictions without exactly one reference ({other})", problems))
    return {path: found[0] for path, found in matches.items()}


def _names(paths: list[Path], root: Path, suffix: str | None) -> dict[str, Path]:
    """References by the name their prediction would have; by their place in the folder where two share one."""
    stems = {path: image_stem(path).removesuffix(suffix or "") for path in paths}
    counts = Counter(stems.values())
    return {
        stem if counts[stem] == 1 else path.relative_to(root).as_posix(): path for path, stem in stems.items()
    }


def _list_predictions(folder: Path) -> dict[Path, Path]:
    """Label maps of a folder, each by a path whose stem is its case: its own, or, in folders below as BIDS has
    them, one made of what its provenance says. Raises: DataError if two are of one case.
    """
    files = [path for path in list_images(folder) if path.name != OBJECTS_FOLDER]
    if files:
        doubles = [stem for stem, count in Counter(map(image_stem, files)).items() if count > 1]
        if doubles:
            raise DataError(
                f"{folder}: several label maps of one name: {', '.join(doubles)}. Leave one file of each case."
            )
        return {path: path for path in files}
    outputs = (_read_provenance(path) for path in sorted(folder.glob("provenance/*.json")))
    placed = {case: folder / output for case, output in outputs if output}
    return {
        folder / f"{case}{_ending(path)}": path
        for case, path in placed.items()
        if path.is_file() and path.resolve().is_relative_to(folder.resolve())
    }


def _read_provenance(path: Path) -> tuple[str, str]:
    """The case and the file within the folder that a record of a prediction names."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return str(record["case"]), str(record.get("output", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged; predict the case again, with --overwrite") from error


def _ending(path: Path) -> str:
    return path.name.removeprefix(image_stem(path))


def _read_failures(folder: Path) -> dict[str, str]:
    """Case → why it failed, as ``failures.csv`` lists them."""
    path = folder / FAILURES_FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row["case"]: row["error"] or "failed" for row in csv.DictReader(stream)}
    except (ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: damaged, expected the columns case and error ({error})") from error
