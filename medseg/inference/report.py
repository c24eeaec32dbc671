"""The report of an output folder: ``report.html``."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.data.labels.schema import LabelSchema
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.batch.outputs.provenance import Record, read_record
from medseg.report.folder_names import without_folders
from medseg.report.pages.case_sections import CaseFiles, CaseSections, DrawingLimits, draw_case_sections
from medseg.report.pages.inference import SegmentedCase, write_inference_page

REPORT_FILE = "report.html"

_LOGGER = logging.getLogger(__name__)
_LIMITS = DrawingLimits(figures=8, volumes=2)


def write_inference_report(output: Path, cases: Sequence[Case], outcomes: Sequence[CaseOutcome]) -> Path | None:
    """Write the report of a batch, with pictures of the cases that differ most from the training.

    Args:
        output: output folder of the batch.
        cases: its cases.
        outcomes: their outcomes.

    Returns:
        The page; None if no case was segmented, or if it could not be written, which is logged.
    """
    path = Path(output) / REPORT_FILE
    if not any(one.status in ("done", "skipped") for one in outcomes):
        return None
    try:
        records = {
            one.case: record for one in outcomes if (record := read_record(output, one.case)) is not None
        }
        contents = {case: record.content for case, record in records.items()}
        files = {
            one.id: (*one.images, *one.label_files, *filter(None, [one.foreground]), path) for one in cases
        }
        segmented = [
            _without_folders(SegmentedCase.of(vars(one), contents.get(one.case)), files.get(one.case, (path,)))
            for one in outcomes
        ]
        sections = _draw(segmented, records, {case.id: case.image for case in cases})
        write_inference_page(path, segmented, _describe_model(contents.values()), sections)
    except Exception as error:  # the results are complete without the page
        _LOGGER.warning("%s was not written: %s", path, error)
        return None
    return path


def _without_folders(case: SegmentedCase, files: Sequence[Path]) -> SegmentedCase:
    """Return a case whose messages do not name the folders of its files."""
    warnings = tuple(without_folders(text, files) for text in case.warnings)
    return replace(case, error=without_folders(case.error, files), warnings=warnings)


def _draw(cases: Sequence[SegmentedCase], records: dict[str, Record], images: dict[str, Path]) -> CaseSections:
    """Draw the cases that differ most from the training."""
    drawable = [one for one in cases if one.case in records and _is_drawable(records[one.case])]
    drawable.sort(key=lambda one: 1.0 if math.isnan(one.score) else -one.score)
    files = {
        one.case: CaseFiles(image=images.get(one.case), prediction=records[one.case].label_map)
        for one in drawable[: _LIMITS.figures]
    }
    output = next(iter(records.values())).output if records else Path()
    return draw_case_sections(files, _read_labels(output / "medseg.json"), _LIMITS)


def _is_drawable(record: Record) -> bool:
    """Return whether the label map exists, and its image was small enough to be read as a whole."""
    return record.label_map.is_file() and not record.content.get("made_of", {}).get("windowed")


def _read_labels(path: Path) -> LabelSchema | None:
    try:
        return LabelSchema.model_validate(json.loads(path.read_text(encoding="utf-8"))["labels"])
    except (OSError, ValueError, KeyError):
        return None


def _describe_model(records: Iterable[Any]) -> dict[str, str]:
    """Return facts about the model that the records agree on; others are listed."""
    names = {
        "model_sha256": "model (SHA-256)",
        "medseg_version": "medseg",
        "torch_version": "torch",
        "device": "device",
        "precision": "precision",
    }
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for key, name in names.items():
            if record.get(key) is not None:
                found.setdefault(name, {})[str(record[key])] = None
    return {name: ", ".join(values) for name, values in found.items()}
