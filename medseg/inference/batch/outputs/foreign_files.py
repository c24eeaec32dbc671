"""Files of others in the output folder that would be in the way of those that describe all cases."""

from __future__ import annotations

import os
from pathlib import Path

from medseg.dicom import OBJECTS_FOLDER
from medseg.errors import ConfigError
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.instance_files import FOLDER as INSTANCES_FOLDER
from medseg.inference.batch.outputs.instance_files import TABLE, instance_paths, is_instance_table
from medseg.inference.batch.outputs.provenance import RECORDS, read_records
from medseg.inference.model.protocols import AnySegmenter
from medseg.inference.shift.warnings_table import WARNING_COLUMNS, WARNINGS

FAILURES = "failures.csv"
FAILURE_COLUMNS = ["case", "error"]
OTHER_OUTPUT = "Choose another --output."


def check_tables(segmenter: AnySegmenter, output: Path) -> None:
    """Check that the tables of all cases replace no table of others.

    ``instances.csv`` is written if the model tells objects apart, or if earlier results of the folder have
    objects.

    Raises:
        ConfigError: a file of these names exists that medseg did not write.
    """
    for name, columns in ((FAILURES, FAILURE_COLUMNS), (WARNINGS, WARNING_COLUMNS)):
        path = output / name
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace", newline="") as stream:
                header = stream.readline().strip()
            if header != ",".join(columns):
                raise _foreign(path)
    table = output / TABLE
    if os.path.lexists(table) and not is_instance_table(table) and _has_objects(segmenter, output):
        raise _foreign(table)


def check_folders(segmenter: AnySegmenter, output: Path, options: BatchOptions) -> None:
    """Check that no file has the name of a folder of outputs.

    Raises:
        ConfigError: there is such a file.
    """
    names = {
        RECORDS: True,
        INSTANCES_FOLDER: segmenter.header.instances is not None,
        "probabilities": options.probabilities,
        "overlays": options.overlays,
        OBJECTS_FOLDER: bool(options.dicom),
    }
    for name in (name for name, written in names.items() if written):
        path = output / name
        if os.path.lexists(path) and not path.is_dir():
            raise ConfigError(
                f"{path}: expected a folder, which takes outputs of each case, found a file",
                hint="Move it, or choose another --output.",
                path=path,
            )


def _has_objects(segmenter: AnySegmenter, output: Path) -> bool:
    """Return whether the table of objects is written: by the model, or of earlier results."""
    return segmenter.header.instances is not None or any(
        record.finished and instance_paths(output, record.case)[0].is_file() for record in read_records(output)
    )


def _foreign(path: Path) -> ConfigError:
    return ConfigError(f"{path}: file exists, and medseg did not write it", hint=OTHER_OUTPUT, path=path)
