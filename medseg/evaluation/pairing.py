"""Pairs of predictions and references, and the cases without a prediction."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.cases import join_problems, match
from medseg.data.io.readers import image_stem, is_image_file, is_zarr
from medseg.errors import ConfigError, DataError
from medseg.evaluation.options import ExtraPolicy
from medseg.evaluation.predictions import NO_LABEL_MAP, MissingCase, file_ending, read_predictions

_SUFFIX_HINT = (
    "If names of files have a suffix, give it: --label-suffix that of the references, --prediction-suffix that "
    "of the predictions (of a second observer in medseg compare: --observer-suffix)."
)
EXTRA_HINT = (
    "Predictions that have no reference: move them, or leave them out with medseg evaluate --extra ignore."
)
_CONVERT_HINT = "Convert references in another layout: medseg data convert DATA OUT --to folders."


@dataclass(frozen=True)
class Pairing:
    """The cases of an evaluation.

    Attributes:
        pairs: case → prediction and reference.
        missing: case → reference of a case that was requested but not predicted.
        not_requested: references of cases that were not requested.
        requested: number of cases in ``requested.json``; None without that file.
        extra: cases that were left out because they have no reference.
    """

    pairs: dict[str, tuple[Path, Path]]
    missing: dict[str, MissingCase] = field(default_factory=dict[str, MissingCase])
    not_requested: tuple[Path, ...] = ()
    requested: int | None = None
    extra: tuple[str, ...] = ()

    @property
    def references(self) -> int:
        """Number of references."""
        return len(self.pairs) + len(self.missing) + len(self.not_requested)


@dataclass(frozen=True)
class Suffixes:
    """What names of files add to the name of their case.

    Attributes:
        reference: suffix of references; other files are skipped.
        prediction: suffix of predictions; other files are skipped.
    """

    reference: str | None = None
    prediction: str | None = None


NO_SUFFIXES = Suffixes()


def pair_cases(
    predictions: Path, references: Path, suffixes: Suffixes = NO_SUFFIXES, extra: ExtraPolicy = "error"
) -> Pairing:
    """Pair two folders by name, one file with the reference of the same name in a folder, or two files.

    ``requested.json`` in the folder of the predictions lists the cases that were to be predicted; without it,
    every reference without a prediction is missing. Cases in ``failures.csv`` are missing even if there is a
    file.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of label maps, searched recursively, or one file.
        suffixes: what names of files add to the name of their case.
        extra: whether predictions of a folder that have no reference are an error, or are left out.

    Raises:
        DataError: if a path does not exist, a case has no reference or several, or there is no prediction.
        ConfigError: if every prediction is the same file as its reference.
    """
    pairing = _pair_paths(predictions, references, suffixes, extra)
    check_other_files(pairing.pairs.values(), predictions, references)
    return pairing


def check_other_files(pairs: Iterable[tuple[Path, Path]], predictions: Path, references: Path) -> None:
    """Check that some prediction is another file than its reference.

    Raises:
        ConfigError: if every prediction is the same file as its reference.
    """
    same = [reference.exists() and own.samefile(reference) for own, reference in pairs]  # not FILE.json#1
    if same and all(same):
        raise ConfigError(
            f"{predictions} and {references}: every prediction is the same file as its reference",
            hint="Give the predictions first, then the references.",
            path=predictions,
        )


def _pair_paths(predictions: Path, references: Path, suffixes: Suffixes, extra: ExtraPolicy) -> Pairing:
    check_exists(predictions, references)
    if not _is_one_file(predictions):
        if _is_one_file(references):
            raise DataError(
                f"{predictions} is a folder, but {references} is a file",
                hint="To compare, give two folders, two files, or a prediction and a folder of references.",
            )
        return _pair_folders(predictions, references, suffixes, extra)
    case = image_stem(predictions).removesuffix(suffixes.prediction or "")
    if _is_one_file(references):
        return Pairing({case: (predictions, references)})
    candidates = _list_references(references, suffixes.reference)
    named = predictions.with_name(f"{case}{file_ending(predictions)}")
    reference = _match([named], candidates, references, suffixes.reference)[named]
    others = tuple(path for path in candidates if path != reference)
    return Pairing({case: (predictions, reference)}, not_requested=others)


def check_exists(*paths: Path) -> None:
    """Raise DataError if a path does not exist."""
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", path=path)


def are_copies(pairs: Iterable[tuple[Path, Path]]) -> bool:
    """Return whether in every pair both files have the same bytes."""
    try:
        return all(filecmp.cmp(*pair, shallow=False) for pair in pairs)
    except OSError:  # folders of Zarr, or a file that was removed meanwhile
        return False


def find_images(folder: Path, cases: Iterable[str], suffix: str | None) -> dict[str, Path]:
    """Find the images of cases by name in a folder; cases without exactly one are left out.

    Args:
        folder: folder of images, searched recursively.
        cases: names of the cases.
        suffix: suffix of references, which some cases are named after.

    Raises:
        DataError: if the folder does not exist.
    """
    check_exists(folder)
    images: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if is_image_file(p)):
        for name in dict.fromkeys((image_stem(path), image_stem(path).removesuffix("_0000"))):
            images.setdefault(name, []).append(path)
    by_case = {case: images.get(case) or images.get(case.removesuffix(suffix or ""), []) for case in cases}
    return {case: paths[0] for case, paths in by_case.items() if len(paths) == 1}


def _pair_folders(predictions: Path, references: Path, suffixes: Suffixes, extra: ExtraPolicy) -> Pairing:
    suffix = suffixes.reference
    predicted = read_predictions(predictions, suffixes.prediction)
    candidates = _list_references(references, suffix)
    absent = [predictions / f"{case}.nii.gz" for case in predicted.absent]
    found = _match([*predicted.named.values(), *absent], candidates, references, suffix, extra)
    matches = {image_stem(path): reference for path, reference in found.items()}
    left_out = tuple(sorted(predicted.files.keys() - matches.keys()))
    pairs: dict[str, tuple[Path, Path]] = {}
    missing: dict[str, MissingCase] = {}
    for case, reference in sorted(matches.items()):
        reason = predicted.why_missing(case)
        if reason is None:
            pairs[case] = (predicted.files[case], reference)
        else:
            missing[case] = MissingCase(reference, reason)
    rest = sorted(set(candidates) - set(matches.values()))
    if predicted.requested is not None:
        return Pairing(pairs, missing, tuple(rest), len(predicted.requested), left_out)
    names = _names(rest, references, suffix)
    missing |= {name: MissingCase(path, NO_LABEL_MAP) for name, path in names.items()}
    return Pairing(pairs, missing, extra=left_out)


def _is_one_file(path: Path) -> bool:
    return path.is_file() or is_zarr(path)


def _list_references(folder: Path, suffix: str | None) -> list[Path]:
    candidates = sorted(p for p in folder.rglob("*") if is_image_file(p))
    if not candidates:
        raise DataError(f"{folder}: no label maps in this folder or below it", hint=_CONVERT_HINT, path=folder)
    if suffix is None:
        return candidates
    selected = [path for path in candidates if image_stem(path).endswith(suffix)]
    if not selected:
        raise DataError(
            f"--label-suffix {suffix}: no file name in {folder} ends with it",
            hint=f"A name in this folder is, for example, {candidates[0].name}.",
        )
    return selected


def _match(
    predicted: Iterable[Path],
    candidates: list[Path],
    references: Path,
    suffix: str | None,
    extra: ExtraPolicy = "error",
) -> dict[Path, Path]:
    """Return the reference of each prediction.

    Raises:
        DataError: if a prediction has several references; without any, if that is an error, or if none has one.
    """
    paths = list(predicted)
    matches, _ = match(paths, candidates, label_suffix=suffix)
    problems: list[str] = []
    if extra == "error" or not any(matches.values()):
        problems = [f"{p.name} has no reference in {references}" for p, own in matches.items() if not own]
    hints = [_SUFFIX_HINT, *([EXTRA_HINT] if problems and extra == "error" else []), _CONVERT_HINT]
    problems += [
        f"{p.name} has {len(matching)} references: {', '.join(map(str, matching))}"
        for p, matching in matches.items()
        if len(matching) > 1
    ]
    if problems:
        raise DataError(
            join_problems("predictions without exactly one reference", problems),
            hint=" ".join(hints),
        )
    return {path: matching[0] for path, matching in matches.items() if matching}


def _names(paths: list[Path], root: Path, suffix: str | None) -> dict[str, Path]:
    """Return references by the name of their prediction, or by relative path if two share a name."""
    stems = {path: image_stem(path).removesuffix(suffix or "") for path in paths}
    counts = Counter(stems.values())
    return {
        stem if counts[stem] == 1 else path.relative_to(root).as_posix(): path for path, stem in stems.items()
    }
