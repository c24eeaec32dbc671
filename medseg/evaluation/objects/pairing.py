"""Which predicted objects are compared with which reference objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import list_images
from medseg.data.io.multichannel import read_image
from medseg.data.io.readers import image_stem, read_scan
from medseg.data.requested_cases import read_requested
from medseg.data.scans import Scan, align_to_grid
from medseg.evaluation.objects.references import (
    DatasetReferences,
    FileReferences,
    NumberedObjects,
    numbered_objects,
    object_table,
    read_class_table,
)
from medseg.evaluation.pairing import Suffixes, pair_cases


@dataclass(frozen=True)
class PairedObjects:
    """Predictions with their references.

    Attributes:
        folder: of the predictions; tables of objects are in ``instances`` there.
        predictions: case → its label map; None if it is missing.
        references: reads the reference of a case.
        missing: case → why its prediction is missing.
    """

    folder: Path
    predictions: dict[str, Path | None]
    references: FileReferences | DatasetReferences
    missing: dict[str, str]

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
    predictions: Path, references: Path, suffixes: Suffixes, ignore_value: int | None
) -> PairedObjects:
    """Pair the predictions with label maps, or with the cases of a dataset.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of label maps, one file, or a dataset.
        suffixes: what names of files add to names of cases.
        ignore_value: value of reference voxels that do not count.
    """
    folder = predictions if predictions.is_dir() else predictions.parent
    dataset = DatasetReferences.of(references, ignore_value) if predictions.is_dir() else None
    if dataset is None:
        pairing = pair_cases(predictions, references, suffixes)
        files = {case: pair[1] for case, pair in pairing.pairs.items()}
        files |= {case: one.reference for case, one in pairing.missing.items()}
        found: dict[str, Path | None] = {case: pair[0] for case, pair in pairing.pairs.items()}
        found |= dict.fromkeys(pairing.missing)
        missing = {case: one.reason for case, one in pairing.missing.items()}
        return PairedObjects(folder, found, FileReferences(files, ignore_value), missing)
    ending = suffixes.prediction or ""
    own = {image_stem(path).removesuffix(ending): path for path in list_images(predictions)}
    requested = read_requested(predictions)
    wanted = [case for case in dataset.cases if case in own or requested is None or case in requested]
    absent = {case: "there is no label map" for case in wanted if case not in own}
    return PairedObjects(folder, {case: own.get(case) for case in wanted}, dataset, absent)
