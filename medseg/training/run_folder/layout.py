"""The run folder: its file names, and the records in it."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from medseg.config.fields import walk_fields
from medseg.config.schema import RunConfig, load_config, to_yaml, with_absolute_paths
from medseg.errors import ConfigError
from medseg.files import TEMPORARY, check_writable, remove_stale_temporaries, write_json, write_text
from medseg.system.locks import LOCK_NAME
from medseg.system.platform import usable_cores
from medseg.system.processes.cores import processor_name
from medseg.system.version import medseg_version, source_digest

_NOT_OF_THE_RUN = ("cache", "replay.json", LOCK_NAME)
"""What the folder of a run that was never started may contain."""
_OTHER_FOLDER = "Choose another --run folder."
_PACKAGES = ("medseg", "torch", "monai", "numpy", "nibabel", "SimpleITK", "pillow", "tifffile", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def cases(self) -> Path:
        """The ids, parts, files and hashes of the cases."""
        return self.root / "cases.json"

    @property
    def dataset(self) -> Path:
        """Labels, channels and fitted preprocessing."""
        return self.root / "dataset.json"

    @property
    def unlabeled(self) -> Path:
        """The ids and hashes of the unlabeled images."""
        return self.root / "unlabeled.json"

    @property
    def messages(self) -> Path:
        """The messages of the run, one line each."""
        return self.root / "messages.log"

    @property
    def log(self) -> Path:
        """One JSON object per epoch."""
        return self.root / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The log for TensorBoard."""
        return self.root / "tensorboard"

    @property
    def tracking(self) -> Path:
        """The ids of the run in tracking services, and what they received."""
        return self.root / "tracking.json"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.root / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.root / "checkpoints" / "best.pt"

    @property
    def model(self) -> Path:
        """The model file."""
        return self.root / "model.safetensors"

    @property
    def first_stage(self) -> Path:
        """The first stage of a cascade: its networks, each a run folder, and its segmentations."""
        return self.root / "first_stage"

    @property
    def clock(self) -> Path:
        """The time used by a training with a time budget."""
        return self.root / "clock.json"

    @property
    def replay(self) -> Path:
        """The decisions of the clock of another run, which this run repeats instead of its own."""
        return self.root / "replay.json"

    @property
    def validation(self) -> Path:
        """The scores of each case in the latest validation."""
        return self.root / "validation.json"

    @property
    def report(self) -> Path:
        """The report of the run."""
        return self.root / "report.html"

    @property
    def extensions(self) -> Path:
        """The names of the user's own network, loss, transforms and callbacks."""
        return self.root / "extensions.json"

    @property
    def resume_command(self) -> str:
        """The command that continues the run with its own settings."""
        words = ["medseg", "train", str(self.config), "--run", str(self.root), "--resume", "auto"]
        names = self.extension_names()
        for option, key in (("--network", "model"), ("--loss", "loss")):
            if ":" in str(names.get(key, "")):  # named on the command line; an object of Python has no colon
                words += [option, names[key]]
        return shlex.join(words)

    def cache(self, config: RunConfig) -> Path:
        """Return the folder of preprocessed cases and statistics: that of the run, or one shared by runs."""
        return config.data.cache or self.root / "cache"

    def check_foreign(self) -> None:
        """Check that the folder is empty or contains a run.

        Raises:
            ConfigError: if it contains other files.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"{self.root}: is a file", hint=_OTHER_FOLDER, path=self.root)
        if not self.config.exists() and self.root.is_dir() and any(map(_is_foreign, self.root.iterdir())):
            raise ConfigError(f"{self.root}: holds other files and no run", hint=_OTHER_FOLDER, path=self.root)

    def check_start(self, *, resume: bool) -> None:
        """Check that a run can start in the folder, or that there is no other run in it unless ``resume``.

        Raises:
            ConfigError: if the folder contains other files, or a run although ``resume`` is False.
            NotWritableError: if it cannot be written to.
        """
        self.check_foreign()
        if self.config.exists() and not resume:
            raise ConfigError(
                f"{self.root}: already contains a run",
                hint=f"Continue it with: {self.resume_command}. Or choose another --run folder.",
                path=self.root,
            )
        check_writable(self.root)

    def check(self, config: RunConfig, *, resume: bool) -> None:
        """Check, without writing, that a new run can start in the folder, or that its run can be resumed.

        Raises:
            ConfigError: if the folder contains other files, a run although ``resume`` is False, or a run with
                other settings.
        """
        self.check_start(resume=resume)
        if not self.config.exists():
            return
        earlier, config = load_config(self.config), with_absolute_paths(config)
        changed = setting_differences(earlier, config, free=_extended(earlier, config))
        if changed:
            raise ConfigError(
                f"{self.root}: the run was started with other settings: {'; '.join(changed)}",
                hint=f"Continue it with its own settings: {self.resume_command}. For other settings, choose "
                "another --run folder.",
                path=self.root,
            )

    def start(self, config: RunConfig, *, resume: bool) -> bool:
        """Prepare the folder for a new run, or for the one in it; return whether the run is new.

        A run may be resumed with more epochs or a longer time budget; the folder then records the new settings.

        Raises:
            ConfigError: as :meth:`check`.
        """
        self.check(config, resume=resume)
        for folder in (self.root, self.last.parent):
            remove_stale_temporaries(folder)
        new = not self.config.exists()
        if new or _extended(load_config(self.config), config):
            write_text(self.config, to_yaml(with_absolute_paths(config)))
        return new

    def planned_epochs(self) -> int | None:
        """Return the number of epochs that the run was last started for; None without a run."""
        return load_config(self.config).train.epochs if self.config.exists() else None

    def environment(self) -> dict[str, Any]:
        """Return the recorded versions and hardware; {} if they are not recorded."""
        try:
            return dict(json.loads((self.root / "environment.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def recorded_threads(self) -> int | None:
        """Return the number of threads that the run was last started with; None if it is not recorded."""
        return self.environment().get("threads")

    def extension_names(self) -> dict[str, Any]:
        """Return the recorded names of the user's own network, loss, transforms and callbacks; {} without."""
        try:
            return dict(json.loads(self.extensions.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def write_cases(self, cases: list[dict[str, object]], *, keep_earlier_as: str | None = None) -> None:
        """Record the cases; keep the earliest record under another name, if one is given."""
        kept = None if keep_earlier_as is None else self.root / keep_earlier_as
        if kept is not None and self.cases.exists() and not kept.exists():
            write_text(kept, self.cases.read_text(encoding="utf-8"))
        write_json(self.cases, cases)

    def remove_empty_folders(self) -> None:
        """Remove the empty folders of a run that did not start; keep everything of one that did."""
        if not self.config.exists():
            for folder in sorted((path for path in self.root.rglob("*") if path.is_dir()), reverse=True):
                with suppress(OSError):  # not empty
                    folder.rmdir()
            self.remove_if_empty()

    def remove_if_empty(self) -> None:
        """Remove the folder if there is nothing in it."""
        with suppress(OSError):
            self.root.rmdir()

    def abandon(self) -> None:
        """Empty the folder of a run that could not start; the cache stays."""
        for path in self.root.iterdir():
            if path.name in _NOT_OF_THE_RUN:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def write_environment(self, device: torch.device, threads: int, processes: int) -> None:
        """Record versions and hardware, without user or host name."""
        write_json(self.root / "environment.json", current_environment(device, threads, processes))


def current_environment(device: torch.device, threads: int, processes: int = 1) -> dict[str, Any]:
    """Return versions and hardware of a training in this process, without user or host name."""
    cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "source_sha256": source_digest(),
        "device": str(device),
        "cuda_device": cuda,
        "cpu": processor_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpus": usable_cores(),
        "threads": threads,
        "processes": processes,
    }


def _extended(old: RunConfig, new: RunConfig) -> tuple[str, ...]:
    """Return the settings of the length of the training that were raised."""
    before, now = old.train, new.train
    epochs = ("train.epochs",) if now.epochs > before.epochs else ()
    longer = before.budget is not None and now.budget is not None and now.budget > before.budget
    return (*epochs, *(("train.budget",) if longer else ()))


def _is_foreign(path: Path) -> bool:
    return path.name not in _NOT_OF_THE_RUN and not path.name.startswith(TEMPORARY)


def _version(package: str) -> str | None:
    try:
        return medseg_version() if package == "medseg" else version(package)
    except PackageNotFoundError:
        return None


def setting_differences(old: RunConfig, new: RunConfig, *, free: tuple[str, ...] = ()) -> list[str]:
    """Return the relevant settings that differ, as ``key: old → new``."""
    free = (*free, *(field.dotted for field in walk_fields(RunConfig) if field.traits.resume_safe))
    a, b = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    keys = [k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k) and k not in free]
    return [f"{k}: {a.get(k)} → {b.get(k)}" for k in keys]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    return {
        k: v
        for key, below in node.items()
        for k, v in _flat(below, f"{prefix}.{key}" if prefix else str(key)).items()
    }
