"""Medical Segmentation Decathlon: a ``dataset.json`` lists the cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from medseg.data.cases import Case, Part
from medseg.data.io.readers import image_stem
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import (
    DatasetListing,
    LayoutOptions,
    check_unique_ids,
    partner_problem,
    with_channel_names,
)
from medseg.data.layouts.nnunet import declared_channels, parse_label_table, read_json
from medseg.errors import DataError, Finding


class MsdLayout:
    """``dataset.json`` with ``training`` (image and label), ``test`` (images) and ``labels`` (value → name)."""

    name = "Medical Segmentation Decathlon"

    def holds(self, root: Path) -> bool:
        path = root / "dataset.json"
        return path.is_file() and isinstance(read_json(path).get("training"), list)

    def find(self, root: Path, choice: LayoutOptions) -> DatasetListing:
        where = root / "dataset.json"
        content = read_json(where)
        cases: list[Case] = []
        problems: list[Finding] = []
        training, test = content["training"], content.get("test") or []
        for number, entry in enumerate([*training, *test]):
            part: Part | None = "test" if number >= len(training) else None
            image, label = _files(entry, root, where)
            missing = [p for p in (image, label) if p is not None and not p.exists()]
            if missing and part == "test" and label is None:
                continue  # many downloads do not include the test images
            if missing:
                names = ", ".join(map(str, missing))
                message = f"{where} lists files that do not exist: {names}"
                hint = "download them again, or remove them from the list"
                problems.append(partner_problem(image_stem(image), message, hint))
            else:
                cases.append(Case(image_stem(image), image, label, part))
        check_unique_ids(cases)
        labels = _labels(content.get("labels"), where)
        cases = with_channel_names(cases, declared_channels(content.get("modality")))
        return DatasetListing(self.name, sorted(cases, key=lambda c: c.id), problems, labels)


def _labels(declared: Any, where: Path) -> LabelSchema | None:
    """Read the labels from the table of the Decathlon, value → name; None if it has at most one entry."""
    if isinstance(declared, dict):
        declared = {str(name): value for value, name in cast(dict[str, Any], declared).items()}
        return parse_label_table(declared, where) if len(declared) > 1 else None
    return parse_label_table(declared, where) if declared else None


def _files(entry: Any, root: Path, where: Path) -> tuple[Path, Path | None]:
    if isinstance(entry, str):
        return root / entry, None
    if isinstance(entry, dict) and isinstance(entry.get("image"), str):
        label = entry.get("label")
        return root / entry["image"], root / label if isinstance(label, str) else None
    raise DataError(f"{where}: expected entries with image and label, got {entry!r}", path=where)
