"""Which predicted objects are compared with which reference objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.data.cases import join_problems
from medseg.data.io.multichannel import read_image
from medseg.data.io.readers import read_scan
from medseg.data.scans import Scan, align_to_grid
from medseg.errors import DataError
from medseg.evaluation.objects.references import (
    DatasetReferences,
    FileReferences,
    NumberedObjects,
    numbered_objects,
    object_table,
    read_class_table,
)
from medseg.evaluation.options import ExtraPolicy, MissingPolicy
from medseg.evaluation.pairing import EXTRA_HINT, Suffixes, check_other_files, pair_cases
from medseg.evaluation.predictions import check_missing, read_predictions


@dataclass(frozen=True)
class PairedObjects:
    """Predictions with their references.

    Attributes:
        folder: of the predictions; tables of objects are in ``instances`` there.
        predictions: case → its label map; None if it is missing.
        references: reads the reference of a case.
        missing: case → why its prediction is missing.
        extra: predicted cases that were left out because they have no reference.
        missing_policy: whether missing cases count as without objects (``worst``) or are left out.
    """

    folder: Path
    predictions: dict[str, Path | None]
    references: FileReferences | DatasetReferences
    missing: dict[str, str]
    extra: tuple[str, ...] = ()
    missing_policy: MissingPolicy = "worst"

    def with_missing(self, policy: MissingPolicy) -> PairedObjects:
        """Return the pairs as a policy for cases without a prediction wants them.

        Raises:
            DataError: there are such cases, and they are an error.
        """
        check_missing(policy, self.missing, f"{len(self.predictions)} cases", worst="without objects")
        kept = self.predictions
        if policy == "ignore":
            kept = {case: file for case, file in kept.items() if case not in self.missing}
        return replace(self, predictions=kept, missing_policy=policy)

    def files(self) -> Iterator[tuple[Path, Path]]:
        """Yield each predicted label map with the files of its reference."""
        for case, prediction in self.predictions.items():
            if prediction is not None:
                yield from ((prediction, file) for file in self.references.files_of(case))

    def read(self, case: str) -> tuple[NumberedObjects, NumberedObjects]:
        """Return the reference and the predicted objects of a case, on the grid of the reference."""
        expected, prediction = self.references.read(case), self.predictions[case]
        if prediction is None:
            return expected, NumberedObjects(np.zeros_like(expected.numbers), expected.grid)
        own = numbered_objects(align_to_grid(read_scan(prediction), expected.grid))
        classes = read_class_table(object_table(self.folder, case))
        return expected, NumberedObjects(own.numbers, expected.grid, classes)

    def only(self, case: str) -> PairedObjects:
        """Return what one case needs; small enough to be sent to another process."""
        return PairedObjects(self.folder, {case: self.predictions[case]}, self.references.only(case), {})

    def reference_file(self, case: str) -> Path:
        """Return a file of the size of a case: its reference, or the image of a case of a dataset."""
        if isinstance(self.references, FileReferences):
            return self.references.files[case]
        return self.references.cases[case].image

    def image(self, case: str) -> Scan | None:
        """Return the image of a case of a dataset; None where the references are label maps."""
        if isinstance(self.references, FileReferences):
            return None
        return read_image(self.references.cases[case])


def pair_objects(
    predictions: Path,
    references: Path,
    suffixes: Suffixes,
    ignore_value: int | None,
    extra: ExtraPolicy = "error",
) -> PairedObjects:
    """Pair the predictions with label maps, or with the cases of a dataset.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of label maps, one file, or a dataset.
        suffixes: what names of files add to names of cases.
        ignore_value: value of reference voxels that do not count.
        extra: whether predictions of a folder that have no reference are an error, or are left out.

    Raises:
        DataError: a prediction has no reference, or none has one.
        ConfigError: every prediction is the same file as its reference.
    """
    folder = predictions if predictions.is_dir() else predictions.parent
    dataset = DatasetReferences.of(references, ignore_value) if predictions.is_dir() else None
    if dataset is not None:
        return _pair_with_dataset(predictions, references, dataset, suffixes.prediction, extra)
    pairing = pair_cases(predictions, references, suffixes, extra)
    files = {case: pair[1] for case, pair in pairing.pairs.items()}
    files |= {case: one.reference for case, one in pairing.missing.items()}
    found: dict[str, Path | None] = {case: pair[0] for case, pair in pairing.pairs.items()}
    found |= dict.fromkeys(pairing.missing)
    missing = {case: one.reason for case, one in pairing.missing.items()}
    return PairedObjects(folder, found, FileReferences(files, ignore_value), missing, pairing.extra)


def _pair_with_dataset(
    folder: Path, references: Path, dataset: DatasetReferences, suffix: str | None, extra: ExtraPolicy
) -> PairedObjects:
    """Pair predictions with the cases of a dataset, whose ids are the names of the label maps."""
    predicted = read_predictions(folder, suffix)
    left_out = sorted(predicted.files.keys() - dataset.cases.keys())
    if left_out and (extra == "error" or len(left_out) == len(predicted.files)):
        known = ", ".join(sorted(dataset.cases)[:3]) or "none"
        hints = [
            f"Cases of the dataset are, for example, {known}.",
            "If names of predictions have a suffix, give it: --prediction-suffix.",
        ]
        raise DataError(
            join_problems(
                "predictions without a reference",
                [f"{predicted.files[case].name}: no labeled case {case} in {references}" for case in left_out],
            ),
            hint=" ".join([*hints, *([EXTRA_HINT] if extra == "error" else [])]),
            path=folder,
        )
    requested = predicted.requested
    wanted = [
        case for case in dataset.cases if case in predicted.files or requested is None or case in requested
    ]
    missing = {case: reason for case in wanted if (reason := predicted.why_missing(case)) is not None}
    files = {case: None if case in missing else predicted.files[case] for case in wanted}
    paired = PairedObjects(folder, files, dataset, missing, tuple(left_out))
    check_other_files(paired.files(), folder, references)
    return paired
