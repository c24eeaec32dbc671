"""Provenance records: how a result was made, which files belong to it, and whether it is up to date."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import image_digest
from medseg.data.io.dicom.series import UnevenSlices, series_slices
from medseg.data.io.readers import is_dicom_series
from medseg.errors import DataError, GeometryError, OtherResultError
from medseg.files import as_json_object, sha256_file, sha256_json
from medseg.inference.model.protocols import AnySegmenter
from medseg.inference.options import InferenceConfig

RECORDS = "provenance"

_WITHOUT_EFFECT = frozenset({"batch_size", "large_above"})
"""Inference settings that change how a result is computed, but not the result."""

_NAMES = {
    "input": "the input",
    "foreground": "the foreground mask",
    "dicom_geometry": "--dicom-geometry",
    "windowed": "reading window by window",
}
_ABSENT = object()


@dataclass(frozen=True)
class Record:
    """Content of ``provenance/<case>.json`` in an output folder.

    Attributes:
        output: the output folder.
        content: the JSON object; contains ``"unfinished": true`` while the files of the case are written, or if
            writing was interrupted.
    """

    output: Path
    content: Mapping[str, Any]

    @property
    def case(self) -> str:
        """Id of the case."""
        return str(self.content["case"])

    @property
    def label_map(self) -> Path:
        """Path of the label map, which may not exist."""
        return self.output / str(self.content["output"])

    @property
    def finished(self) -> bool:
        """Whether all files were written and the label map exists."""
        return not self.content.get("unfinished") and self.label_map.is_file()

    @property
    def files(self) -> frozenset[Path]:
        """Every file of the case that medseg wrote, including those left by earlier results.

        For records of versions without a list of files: every file that a case could have.
        """
        listed = self.content.get("files")
        if listed is not None:
            earlier = self.content.get("earlier_files", [])
            return frozenset(self.output / name for name in (*listed, *earlier))
        case = self.case
        extras = [f"probabilities/{case}{suffix}" for suffix in (".nii.gz", ".npz", ".tif")]
        extras += [f"overlays/{folder}{case}.png" for folder in ("", "full_size/", "reduced/")]
        extras += [f"dicom/{case}.{kind}.dcm" for kind in ("seg", "rtstruct")]
        return frozenset(self.output / name for name in (str(self.content["output"]), *extras))

    def current_files(self, current: Mapping[str, Any]) -> frozenset[Path]:
        """The files of the result if it is finished and has the recipe ``current``; empty otherwise."""
        if self.content.get("unfinished") or self.content.get("made_of_sha256") != sha256_json(current):
            return frozenset()
        return frozenset(self._result)

    def has_file_in(self, folder: str) -> bool:
        """Whether the result has a file in a subfolder of the output folder, such as ``overlays``."""
        return any(path.parent == self.output / folder and path.is_file() for path in self._result)

    def includes(self, path: Path) -> bool:
        """Whether a file belongs to the result."""
        return path in self._result

    @property
    def _result(self) -> list[Path]:
        return [self.output / name for name in self.content.get("files", [])]

    def is_edited(self) -> bool:
        """Whether the label map was changed after medseg wrote it."""
        return sha256_file(self.label_map) != self.content.get("output_sha256")


def record_path(output: Path, case: str) -> Path:
    """Path of the record of a case in an output folder."""
    return output / RECORDS / f"{case}.json"


def read_record(output: Path, case: str) -> Record | None:
    """Read the record of a case; None if there is none. Raises: DataError if the file is not a record."""
    path = record_path(output, case)
    return _parse(output, path, case) if path.is_file() else None


def read_records(output: Path) -> list[Record]:
    """Read all records of an output folder, sorted by case; other files are ignored."""
    records: list[Record] = []
    for path in sorted((output / RECORDS).glob("*.json")):
        try:
            records.append(_parse(output, path, path.name.removesuffix(".json")))
        except DataError:
            continue
    return records


def find_record(label_map: Path) -> Record | None:
    """Find the record of a label map, in its folder or up to three folders above it (for the BIDS layout)."""
    path = label_map.resolve()
    for folder in (label_map.parent, *label_map.absolute().parent.parents[:3]):
        if not (folder / RECORDS).is_dir():
            continue
        for record in read_records(folder):
            if record.label_map.resolve() == path:
                return record
    return None


def is_output_folder(folder: Path) -> bool:
    """Whether a folder is the output folder of an inference."""
    return (folder / "medseg.json").is_file() and (folder / RECORDS).is_dir()


def result_recipe(
    segmenter: AnySegmenter, case: Case, dicom_geometry: UnevenSlices, *, windowed: bool
) -> dict[str, Any]:
    """Collect everything that determines a result, as JSON values.

    What changes only rounding is not included: batch size, device, number of threads, versions. The backend is
    the planned one; if it cannot convert a network, it is replaced by the same other backend each time.

    Args:
        segmenter: the model.
        case: the case.
        dicom_geometry: handling of uneven DICOM series.
        windowed: whether the picture is read window by window.
    """
    parts = [
        {
            "model": part.digest,
            "backend": part.planned_backend.backend,
            "precision": part.planned_backend.precision,
            "inference": [_effective(settings) for settings in part.settings],
            **({"first_stage": list(part.stage_digests)} if part.stage_digests else {}),
        }
        for part in segmenter.members
    ]
    recipe: dict[str, Any] = {"input": image_digest(replace(case, foreground=None)), "models": parts}
    if case.foreground is not None:
        recipe["foreground"] = image_digest(Case(case.id, case.foreground))
    if dicom_geometry == "resample" and _is_uneven(case):
        recipe["dicom_geometry"] = "resample"
    if windowed:
        recipe["windowed"] = True
    return json.loads(json.dumps(recipe))


def check_same_recipe(record: Record, current: Mapping[str, Any]) -> None:
    """Check that a finished result has the recipe ``current``.

    Raises:
        OtherResultError: there are differences; the message lists them.
    """
    recorded = record.content.get("made_of")
    if record.content.get("made_of_sha256") == sha256_json(current):
        return
    if recorded is None:
        reason = "made by an earlier version of medseg, which did not record its settings"
    else:
        changed = describe_changes(*_with_scales(recorded, current, record.content.get("rescale")))
        if not changed:
            return
        other = "settings" if all("→" in change for change in changed) else "inputs or settings"
        reason = f"made with other {other}: {'; '.join(changed)}"
    edited = "; the file was edited afterwards" if record.is_edited() else ""
    raise OtherResultError(
        f"{record.label_map}: existing result, {reason}{edited}",
        reason=f"{reason}{edited}",
        hint="Replace it with --overwrite, or choose another --output.",
        case=record.case,
        path=record.label_map,
    )


def describe_changes(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Describe the differences between two recipes, one line each.

    A setting that one recipe lacks, because its version of medseg does not have it, counts as the default.
    """
    old, new = _flatten(recorded), _flatten(current)
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        default = _default(name)
        one, two = old.get(name, default), new.get(name, default)
        if one == two:
            continue
        hashed = name.split(": ")[-1] in ("model", *_NAMES) and name != "dicom_geometry"
        shown = _NAMES.get(name, name.replace("inference.", ""))
        lines.append(f"{shown} differs" if hashed else f"{shown} {_format(one)} → {_format(two)}")
    return lines


def _with_scales(
    recorded: Mapping[str, Any], current: Mapping[str, Any], used: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two recipes in which a picture of its own size counts as not rescaled.

    Args:
        recorded: recipe of the result.
        current: recipe that is asked for.
        used: ``rescale`` of the record: the factor that ``auto`` chose.
    """
    one, two = copy.deepcopy(dict(recorded)), copy.deepcopy(dict(current))
    asked = {settings.get("rescale") for part in two.get("models", []) for settings in part["inference"]}
    for recipe in (one, two):
        for settings in (settings for part in recipe.get("models", []) for settings in part["inference"]):
            same = recipe is one and settings.get("rescale") == "auto" and used and used["factor"] == 1
            if settings.get("rescale") == 1 or (same and "auto" not in asked):
                settings["rescale"] = None
    return one, two


def _effective(settings: InferenceConfig) -> dict[str, Any]:
    return {k: v for k, v in settings.model_dump(mode="json").items() if k not in _WITHOUT_EFFECT}


def _is_uneven(case: Case) -> bool:
    """Whether the case has a DICOM series with uneven or missing slices."""
    for path in case.images:
        if is_dicom_series(path):
            try:
                series_slices(path, "refuse")
            except GeometryError:
                return True
            except DataError:  # reading the case reports the error
                continue
    return False


def _flatten(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a recipe to the names of settings, as users know them."""
    flat = {name: value for name, value in recipe.items() if name != "models"}
    models = recipe.get("models", [])
    for number, part in enumerate(models, start=1):
        which = f"model {number}: " if len(models) > 1 else ""
        flat |= {f"{which}{name}": value for name, value in part.items() if name != "inference"}
        for index, settings in enumerate(part["inference"], start=1):
            stage = f"stage {index}: " if len(part["inference"]) > 1 else ""
            flat |= {f"{which}{stage}inference.{name}": value for name, value in settings.items()}
    return flat


def _default(name: str) -> Any:
    """The default of an inference setting; ``_ABSENT`` for anything else."""
    setting = name.partition("inference.")[2]
    defaults = InferenceConfig().model_dump(mode="json")
    return defaults.get(setting, _ABSENT) if setting else _ABSENT


def _format(value: Any) -> str:
    return "not used" if value is _ABSENT else "not set" if value is None else str(value)


def _parse(output: Path, path: Path, case: str) -> Record:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as a provenance record ({error})", hint="Remove it.", path=path
        ) from error
    fields = as_json_object(content)
    if fields.get("case") != case or "output" not in fields:
        raise DataError(
            f"{path}: not a provenance record", hint="Move it, or choose another --output.", path=path
        )
    return Record(output, fields)
