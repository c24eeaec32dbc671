"""File names of label maps in the output folder, and the files that describe them for other tools."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from io import StringIO
from pathlib import Path
from typing import Any

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.inference.batch.options import Layout
from medseg.report.export.color_tables import itksnap_labels, slicer_color_table
from medseg.system.version import medseg_version

_VOLUME_SUFFIXES = (".nii.gz", ".nrrd")


def label_path(output: Path, case: str, suffix: str, layout: Layout) -> Path:
    """Path of the label map of a case: ``CASE.nii.gz``, or ``sub-CASE/anat/sub-CASE_dseg.nii.gz`` for BIDS.

    Raises: ConfigError if the case id has no characters that BIDS allows.

    Example:
        >>> label_path(Path("out"), "sub-01_T1w", ".nii.gz", "bids").as_posix()
        'out/sub-01/anat/sub-01_dseg.nii.gz'
    """
    if layout != "bids":
        return output / f"{case}{suffix}"
    entities = _entities(case)
    folder = output / f"sub-{entities['sub']}"
    folder = folder / f"ses-{entities['ses']}" if "ses" in entities else folder
    name = "_".join(f"{key}-{value}" for key, value in entities.items())
    return folder / "anat" / f"{name}_dseg{suffix}"


def _entities(case: str) -> dict[str, str]:
    """The BIDS entities of a case id.

    The suffix of an image (``_T1w``) is dropped, because a name has only one suffix. Other parts are joined to
    ``desc``. An id that does not follow BIDS becomes the subject.
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
    """Keep letters and digits only. Raises: ConfigError if there are none."""
    kept = re.sub(r"[^A-Za-z0-9]", "", text)
    if not kept:
        raise ConfigError(
            f"--layout bids: the case id {case!r} has no letters or digits",
            hint="Use --layout flat.",
            case=case,
        )
    return kept


def check_clashes(output: Path, cases: list[str], layout: Layout) -> None:
    """Check that no two cases have the same label map file. Raises: ConfigError if two have."""
    by_path: dict[Path, list[str]] = defaultdict(list)
    for case in cases:
        by_path[label_path(output, case, "", layout)].append(case)
    same = [" and ".join(ids) for ids in by_path.values() if len(ids) > 1]
    if same:
        raise ConfigError(
            f"--layout {layout}: these cases would have the same label map file, because BIDS names keep only "
            f"letters and digits, and no image suffix such as _T1w: {'; '.join(same)}",
            hint="Rename the cases, or use --layout flat.",
        )


def legend_texts(labels: LabelSchema, suffix: str, layout: Layout) -> dict[str, str]:
    """Content of the files that describe the label values for other tools, by file name.

    For volumes ``labels.ctbl`` (3D Slicer) and ``labels_itksnap.txt`` (ITK-SNAP); for nnU-Net ``dataset.json``;
    for BIDS ``dataset_description.json`` and ``dseg.tsv``.
    """
    tables: dict[str, str] = {}
    if suffix in _VOLUME_SUFFIXES:
        tables = {"labels.ctbl": slicer_color_table(labels), "labels_itksnap.txt": itksnap_labels(labels)}
    values = {name: group[0] for name, group in labels.names.items()}
    if layout == "nnunet":
        return tables | {"dataset.json": _json({"labels": values, "file_ending": suffix})}
    if layout == "flat":
        return tables
    stream = StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(("index", "name", "color"))
    for name, value in values.items():
        color = labels.colors.get(name)
        writer.writerow((value, name, "#{:02x}{:02x}{:02x}".format(*color) if color else "n/a"))
    generated_by: dict[str, Any] = {"Name": "medseg", "Version": medseg_version()}
    description = {
        "Name": "Segmentations",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [generated_by],
    }
    return tables | {"dataset_description.json": _json(description), "dseg.tsv": stream.getvalue()}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
