"""The report of a run, ``report.html``, written after every validation and at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medseg.config.schema import RunConfig, load_config
from medseg.files import write_json
from medseg.report.folder_names import without_folders
from medseg.report.pages.training import TrainingRecord, write_training_page
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.log import read_log

_LOGGER = logging.getLogger(__name__)


@dataclass
class RunReport:
    """Writes the report of a run from the files in its folder.

    Attributes:
        run: the run folder.
        total: planned number of updates; None if it is not known.
        scores: scores of the latest validation: one dict per case and label, with ``case``, ``name``, ``dice``.
    """

    run: RunFolder
    total: int | None = None
    scores: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    def write(self, *, running: bool) -> None:
        """Write ``report.html`` and ``validation.json``; an error is logged and does not end the training."""
        try:
            if self.scores:
                write_json(self.run.validation, list(self.scores))
            write_training_page(self.run.report, self._record(running))
        except Exception:  # a page is not worth a training
            _LOGGER.warning("%s was not written", self.run.report, exc_info=True)

    def _record(self, running: bool) -> TrainingRecord:
        scores = self.scores or _read_json(self.run.validation) or ()
        return TrainingRecord(
            name=self.run.root.resolve().name,
            log=read_log(self.run.log),
            cases=self._cases,
            validation=scores,
            monitor=self._config.train.monitor,
            total=self.total,
            running=running,
            data=self._data,
            settings=_describe_settings(self._config),
            environment=self._environment,
            warnings=without_folders("\n".join(_read_warnings(self.run.messages)), self._files).splitlines(),
        )

    @cached_property
    def _config(self) -> RunConfig:
        return load_config(self.run.config)

    @cached_property
    def _cases(self) -> list[dict[str, Any]]:
        return _read_json(self.run.cases) or []

    @cached_property
    def _files(self) -> set[Path]:
        """One file of each folder of the dataset, the dataset's folder, and the run folder."""
        data = self._config.data.path
        by_folder = {Path(file).parent: Path(file) for case in self._cases for file in _files_of(case)}
        return {*by_folder.values(), self.run.report, *([] if data is None else [Path(data)])}

    @cached_property
    def _data(self) -> dict[str, str]:
        content = _read_json(self.run.dataset) or {}
        labels, preprocess = content.get("labels") or {}, content.get("preprocess") or {}
        facts: dict[str, Any] = {
            "labels": ", ".join(labels.get("names") or ()),
            "regions": ", ".join(labels.get("regions") or ()),
            "channels": content.get("channels"),
            "spacing (mm)": " × ".join(f"{one:.4g}" for one in preprocess.get("spacing") or ()),
            "normalization": (preprocess.get("normalize") or {}).get("name"),
        }
        return {key: str(value) for key, value in facts.items() if value}

    @cached_property
    def _environment(self) -> dict[str, str]:
        content = _read_json(self.run.root / "environment.json") or {}
        packages = content.pop("packages", {})
        shown = {key.replace("_", " "): str(value) for key, value in content.items() if value is not None}
        return shown | {name: str(version) for name, version in packages.items() if version}


def _files_of(case: Mapping[str, Any]) -> list[str]:
    """Return the files in an entry of ``cases.json``."""
    files = [case.get("image"), *(case.get("other_channels") or ()), case.get("label")]
    return [str(one) for one in (*files, *(case.get("masks") or {}).values()) if one]


def _describe_settings(config: RunConfig) -> dict[str, str]:
    train = config.train
    length = f"{train.epochs} epochs of {train.iterations} updates" if train.budget is None else "a time budget"
    return {
        "network": f"{config.model.name}, {config.spatial_dims}D",
        "patches": f"{' × '.join(map(str, config.sampling.patch_size))}, {train.batch_size} in a batch",
        "loss": str(config.loss.name),
        "optimizer": f"{train.optimizer.name}, learning rate {train.optimizer.lr:g}",
        "length": length,
        "seed": str(config.seed),
    }


def _read_warnings(path: Path) -> list[str]:
    """Return the warnings of the run, each once, in the order of their last occurrence."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    texts = [line.partition(" WARNING ")[2] for line in lines if " WARNING " in line]
    return list(dict.fromkeys(reversed(texts)))[::-1]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
