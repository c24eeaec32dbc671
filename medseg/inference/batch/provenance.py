"""Provenance records: what a result is made of, which files it consists of, and whether it is still current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import image_digest
from medseg.data.io.dicom.series import UnevenSlices, series_slices
from medseg.data.io.readers import is_dicom_series
from medseg.errors import DataError, ExistingFileError, GeometryError
from medseg.files import sha256_file, sha256_json
from medseg.inference.model.protocols import Segmenter
from medseg.inference.options import InferenceConfig

RECORDS = "provenance"

_WITHOUT_EFFECT = frozenset({"batch_size", "large_above"})
"""Settings of the inference that change how a result is computed, not what it is."""

_NAMES = {
    "input": "the input",
    "foreground": "the foreground mask",
    "dicom_geometry": "--dicom-geometry",
    "windowed": "reading window by window",
}
_ABSENT = object()


@dataclass(frozen=True)
class Record:
    """What ``provenance/<case>.json`` in an output folder says.

    ``content`` of a case that is being written, or whose writing was interrupted, has ``"unfinished": true``.
    """

    output: Path
    content: Mapping[str, Any]

    @property
    def case(self) -> str:
        return str(self.content["case"])

    @property
    def label_map(self) -> Path:
        """The label map's file, whether it is there or not."""
        return self.output / str(self.content["output"])

    @property
    def finished(self) -> bool:
        """Whether everything was written, and the label map is still there."""
        return not self.content.get("unfinished") and self.label_map.is_file()

    @property
    def files(self) -> frozenset[Path]:
        """Every file of the case that medseg wrote: of the result, and what is left of earlier ones.

        Records without a list mean all that a case had then.
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
        """The files of the result, if it is finished and what ``made_of`` would be now; else none."""
        if self.content.get("unfinished") or self.content.get("made_of_sha256") != sha256_json(current):
            return frozenset()
        return frozenset(self._result)

    def holds(self, folder: str) -> bool:
        """Whether a file of the result lies in a folder of the output, such as ``overlays``."""
        return any(path.parent == self.output / folder and path.is_file() for path in self._result)

    def names(self, path: Path) -> bool:
        """Whether a file is one of the result."""
        return path in self._result

    @property
    def _result(self) -> list[Path]:
        return [self.output / name for name in self.content.get("files", [])]

    def edited(self) -> bool:
        """Whether the label map was changed after it was written."""
        return sha256_file(self.label_map) != self.content.get("output_sha256")


def record_path(output: Path, case: str) -> Path:
    """Where the record of a case lies in an output folder."""
    return output / RECORDS / f"{case}.json"


def read_record(output: Path, case: str) -> Record | None:
    """The record of a case, if there is one. Raises: DataError if the file is no such record."""
    path = record_path(output, case)
    return _parse(output, path, case) if path.is_file() else None


def read_records(output: Path) -> list[Record]:
    """The records of an output folder, sorted by case; other files there are left aside."""
    records: list[Record] = []
    for path in sorted((output / RECORDS).glob("*.json")):
        try:
            records.append(_parse(output, path, path.name.removesuffix(".json")))
        except DataError:
            continue
    return records


def record_of(label_map: Path) -> Record | None:
    """The record that names a label map, in its folder or one of the three above (BIDS has folders in it)."""
    path = label_map.resolve()
    for folder in (label_map.parent, *label_map.absolute().parent.parents[:3]):
        if not (folder / RECORDS).is_dir():
            continue
        for record in read_records(folder):
            if record.label_map.resolve() == path:
                return record
    return None


def is_output_folder(folder: Path) -> bool:
    """Whether an inference wrote its results to a folder."""
    return (folder / "medseg.json").is_file() and (folder / RECORDS).is_dir()


def made_of(predictor: Segmenter, case: Case, uneven: UnevenSlices, *, windowed: bool) -> dict[str, Any]:
    """Everything that determines a result, as JSON has it.

    Left out is what changes no more than rounding: batch size, device, number of threads, versions. The backend
    is the one that was to be used; where it cannot convert a network, another takes its place each time.
    ``windowed`` pictures are read window by window.
    """
    parts = [
        {
            "model": part.digest,
            "backend": part.planned_backend.backend,
            "precision": part.planned_backend.precision,
            "inference": [_effective(settings) for settings in part.settings],
        }
        for part in predictor.members
    ]
    found: dict[str, Any] = {"input": image_digest(replace(case, foreground=None)), "models": parts}
    if case.foreground is not None:
        found["foreground"] = image_digest(Case(case.id, case.foreground))
    if uneven == "resample" and _is_uneven(case):
        found["dicom_geometry"] = "resample"
    if windowed:
        found["windowed"] = True
    return json.loads(json.dumps(found))


def check_current(record: Record, current: Mapping[str, Any]) -> None:
    """Raises: ExistingFileError that names what differs between a finished result and one made now."""
    then = record.content.get("made_of")
    if record.content.get("made_of_sha256") == sha256_json(current):
        return
    if then is None:
        reason = "an earlier version of medseg made it and did not record its settings"
    else:
        changed = differences(then, current)
        if not changed:
            return
        reason = "it was made otherwise: " + "; ".join(changed)
    edited = " The file was edited since." if record.edited() else ""
    raise ExistingFileError(
        f"{record.label_map}: exists, and {reason}.{edited} Replace it with --overwrite, or choose another "
        "--output."
    )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two results of ``made_of``, one line each.

    A setting that only one version of medseg has counts as its default.
    """
    old, new = _flat(then), _flat(now)
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        default = _default(name)
        one, two = old.get(name, default), new.get(name, default)
        if one == two:
            continue
        hashed = name.split(": ")[-1] in ("model", *_NAMES) and name != "dicom_geometry"
        shown = _NAMES.get(name, name)
        lines.append(f"{shown} is another" if hashed else f"{shown} was {_shown(one)}, is {_shown(two)} now")
    return lines


def _effective(settings: InferenceConfig) -> dict[str, Any]:
    return {k: v for k, v in settings.model_dump(mode="json").items() if k not in _WITHOUT_EFFECT}


def _is_uneven(case: Case) -> bool:
    """Whether a DICOM series of the case is read onto an even grid, if that is allowed."""
    for path in case.images:
        if is_dicom_series(path):
            try:
                series_slices(path, "refuse")
            except GeometryError:
                return True
            except DataError:  # reading says more
                continue
    return False


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """Names, as a user knows them, with their values."""
    flat = {name: value for name, value in found.items() if name != "models"}
    models = found.get("models", [])
    for number, part in enumerate(models, start=1):
        which = f"model {number}: " if len(models) > 1 else ""
        flat |= {f"{which}{name}": value for name, value in part.items() if name != "inference"}
        for index, settings in enumerate(part["inference"], start=1):
            stage = f"stage {index}: " if len(part["inference"]) > 1 else ""
            flat |= {f"{which}{stage}inference.{name}": value for name, value in settings.items()}
    return flat


def _default(name: str) -> Any:
    """A setting's default; of anything else, that it is absent."""
    setting = name.partition("inference.")[2]
    defaults = InferenceConfig().model_dump(mode="json")
    return defaults.get(setting, _ABSENT) if setting else _ABSENT


def _shown(value: Any) -> str:
    return "not used" if value is _ABSENT else str(value)


def _parse(output: Path, path: Path, case: str) -> Record:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a record of provenance ({error}). Remove it.") from error
    if not isinstance(content, dict) or content.get("case") != case or "output" not in content:
        raise DataError(f"{path}: is no record of provenance. Move it away, or choose another --output.")
    return Record(output, content)
