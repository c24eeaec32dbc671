"""Where label maps go in the output folder, and what is written beside them for other tools."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from medseg.data.labels import Labels
from medseg.errors import ConfigError
from medseg.files import write_json, write_text

Layout = Literal["flat", "nnunet", "bids"]

_SUBJECT = re.compile(r"sub-([A-Za-z0-9]+)(?:_ses-([A-Za-z0-9]+))?")


def label_path(output: Path, case: str, suffix: str, layout: Layout) -> Path:
    """The label map's file: ``CASE.nii.gz``, or ``sub-CASE/anat/sub-CASE_dseg.nii.gz`` as BIDS derivatives."""
    if layout != "bids":
        return output / f"{case}{suffix}"
    found = _SUBJECT.match(case)
    name = case if found else f"sub-{re.sub(r'[^A-Za-z0-9]', '', case)}"
    subject, session = (found[1], found[2]) if found else (name.removeprefix("sub-"), None)
    folder = output / f"sub-{subject}"
    folder = folder / f"ses-{session}" if session else folder
    return folder / "anat" / f"{name}_dseg{suffix}"


def refuse_clashes(output: Path, cases: list[str], layout: Layout) -> None:
    """Raises: ConfigError if two cases would have one file."""
    places: dict[Path, list[str]] = defaultdict(list)
    for case in cases:
        places[label_path(output, case, "", layout)].append(case)
    same = [" and ".join(ids) for ids in places.values() if len(ids) > 1]
    if same:
        raise ConfigError(
            f"--layout {layout}: names keep letters and digits only, without which these are one: "
            f"{'; '.join(same)}. Rename them, or use --layout flat."
        )


def write_legend(output: Path, labels: Labels, suffix: str, layout: Layout) -> None:
    """What other tools read of the values: nnU-Net's ``dataset.json``; BIDS's description and ``dseg.tsv``."""
    values = {name: group[0] for name, group in labels.names.items()}
    if layout == "nnunet":
        write_json(output / "dataset.json", {"labels": values, "file_ending": suffix})
    if layout == "bids":
        made: dict[str, Any] = {"Name": "medseg", "Version": version("medseg")}
        write_json(
            output / "dataset_description.json",
            {
                "Name": "Segmentations",
                "BIDSVersion": "1.9.0",
                "DatasetType": "derivative",
                "GeneratedBy": [made],
            },
        )
        stream = StringIO()
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "name", "color"))
        for name, value in values.items():
            colour = labels.colours.get(name)
            writer.writerow((value, name, "#{:02x}{:02x}{:02x}".format(*colour) if colour else "n/a"))
        write_text(output / "dseg.tsv", stream.getvalue())
