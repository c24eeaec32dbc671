"""Where label maps go in the output folder, and what is written beside them for other tools."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.inference.batch.options import Layout


def label_path(output: Path, case: str, suffix: str, layout: Layout) -> Path:
    """The label map's file: ``CASE.nii.gz``, or ``sub-CASE/anat/sub-CASE_dseg.nii.gz`` as BIDS derivatives.

    Raises: ConfigError if the case's name holds nothing that BIDS allows in one.
    """
    if layout != "bids":
        return output / f"{case}{suffix}"
    entities = _entities(case)
    folder = output / f"sub-{entities['sub']}"
    folder = folder / f"ses-{entities['ses']}" if "ses" in entities else folder
    name = "_".join(f"{key}-{value}" for key, value in entities.items())
    return folder / "anat" / f"{name}_dseg{suffix}"


def _entities(case: str) -> dict[str, str]:
    """BIDS entities of a case's name. An image's suffix (``_T1w``) is left out, as a name has one only.

    What is neither becomes part of ``desc``; a name that is none of BIDS's becomes the subject.
    """
    first, *others = case.split("_")
    if not re.fullmatch(r"sub-[A-Za-z0-9]+", first):
        return {"sub": _plain(case, case)}
    entities = {"sub": first.removeprefix("sub-")}
    if others and "-" not in others[-1]:
        others.pop()
    rest: list[str] = []
    for part in others:
        key, hyphen, value = part.partition("-")
        if hyphen and key.isalnum() and key not in entities and re.search("[A-Za-z0-9]", value):
            entities[key] = _plain(value, case)
        else:
            rest.append(part)
    if rest:
        entities["desc"] = entities.get("desc", "") + _plain("".join(rest), case)
    return entities


def _plain(text: str, case: str) -> str:
    """Letters and digits only. Raises: ConfigError if there are none."""
    kept = re.sub(r"[^A-Za-z0-9]", "", text)
    if not kept:
        raise ConfigError(f"--layout bids: the case {case!r} has no letters or digits; use --layout flat")
    return kept


def check_clashes(output: Path, cases: list[str], layout: Layout) -> None:
    """Raises: ConfigError if two cases would have one file."""
    places: dict[Path, list[str]] = defaultdict(list)
    for case in cases:
        places[label_path(output, case, "", layout)].append(case)
    same = [" and ".join(ids) for ids in places.values() if len(ids) > 1]
    if same:
        raise ConfigError(
            f"--layout {layout}: label maps of these cases would share a name, as BIDS keeps letters and "
            f"digits and no suffix of an image such as _T1w: {'; '.join(same)}. "
            "Rename them, or use --layout flat."
        )


def legend_texts(labels: LabelSchema, suffix: str, layout: Layout) -> dict[str, str]:
    """What other tools read of the values, by file name: nnU-Net's ``dataset.json``; BIDS's description and
    ``dseg.tsv``.
    """
    values = {name: group[0] for name, group in labels.names.items()}
    if layout == "nnunet":
        return {"dataset.json": _json({"labels": values, "file_ending": suffix})}
    if layout == "flat":
        return {}
    stream = StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(("index", "name", "color"))
    for name, value in values.items():
        color = labels.colors.get(name)
        writer.writerow((value, name, "#{:02x}{:02x}{:02x}".format(*color) if color else "n/a"))
    made: dict[str, Any] = {"Name": "medseg", "Version": version("medseg")}
    description = {
        "Name": "Segmentations",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [made],
    }
    return {"dataset_description.json": _json(description), "dseg.tsv": stream.getvalue()}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
