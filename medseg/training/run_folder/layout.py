"""The run folder: its file names, and the records written into it."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from medseg.config.fields import walk_fields
from medseg.config.schema import RunConfig, load_config, to_yaml
from medseg.errors import ConfigError
from medseg.files import TEMPORARY, remove_stale_temporaries, write_json, write_text
from medseg.system.locks import LOCK_NAME
from medseg.system.platform import usable_cores
from medseg.system.version import medseg_version

_NOT_OF_THE_RUN = ("cache", LOCK_NAME)
"""What may lie in the folder of a run that never began."""
_PACKAGES = ("medseg", "torch", "monai", "numpy", "nibabel", "SimpleITK", "pillow", "tifffile", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def cases(self) -> Path:
        """Case ids, parts, files and hashes."""
        return self.root / "cases.json"

    @property
    def dataset(self) -> Path:
        """Labels, channels and fitted preprocessing."""
        return self.root / "dataset.json"

    @property
    def messages(self) -> Path:
        """What was reported while the run went on, one line each."""
        return self.root / "messages.log"

    @property
    def log(self) -> Path:
        """One JSON object an epoch."""
        return self.root / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The log again, for TensorBoard."""
        return self.root / "tensorboard"

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

    def cache(self, config: RunConfig) -> Path:
        """The folder of preprocessed and measured cases: the run's own, or one that runs share."""
        return config.data.cache or self.root / "cache"

    def check_foreign(self) -> None:
        """Raises: ConfigError if the folder holds files, but no run."""
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"{self.root}: is a file; choose another --run folder")
        if not self.config.exists() and self.root.is_dir() and any(map(_is_foreign, self.root.iterdir())):
            raise ConfigError(f"{self.root}: holds other files and no run; choose another --run folder")

    def check(self, config: RunConfig, *, resume: bool) -> None:
        """Check, without writing, that the folder can take a new run or continue the one it holds.

        Raises: ConfigError if it holds other files, a run and ``resume`` is not asked for, or one of other
        settings.
        """
        self.check_foreign()
        if not self.config.exists():
            return
        if not resume:
            raise ConfigError(
                f"{self.root}: holds a run already. Continue it with --resume auto, or choose another folder."
            )
        earlier = load_config(self.config)
        changed = _differences(
            earlier, config, free=("train.epochs",) if config.train.epochs > earlier.train.epochs else ()
        )
        if changed:
            raise ConfigError(
                f"{self.root}: the run was started with other settings: {'; '.join(changed)}. An exact resume "
                "needs the same; start a new run in another folder to change them."
            )

    def start(self, config: RunConfig, *, resume: bool) -> bool:
        """Take the folder for a new run (True), or for the one it holds (False).

        A run may be continued with more epochs; the folder then has the new settings.
        Raises: as :meth:`check`.
        """
        self.check(config, resume=resume)
        for folder in (self.root, self.last.parent):
            remove_stale_temporaries(folder)
        earlier = self.planned_epochs()
        if earlier is None or config.train.epochs > earlier:
            write_text(self.config, to_yaml(config))
        return earlier is None

    def planned_epochs(self) -> int | None:
        """The epochs the run was last started for; none where there is no run."""
        return load_config(self.config).train.epochs if self.config.exists() else None

    def recorded_threads(self) -> int | None:
        """The threads the run was last started with; none where nothing is recorded."""
        try:
            return json.loads((self.root / "environment.json").read_text(encoding="utf-8")).get("threads")
        except (OSError, ValueError):
            return None

    def write_cases(self, cases: list[dict[str, object]], *, keep_earlier_as: str | None = None) -> None:
        """Record the cases; an earlier record may be kept beside it under another name."""
        if keep_earlier_as is not None and self.cases.exists():
            write_text(self.root / keep_earlier_as, self.cases.read_text(encoding="utf-8"))
        write_json(self.cases, cases)

    def abandon(self) -> None:
        """Empty the folder of a run that never began; the cache stays."""
        for path in self.root.iterdir():
            if path.name in _NOT_OF_THE_RUN:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def write_environment(self, device: torch.device, threads: int) -> None:
        """Record versions and hardware; no user or host name."""
        cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        write_json(
            self.root / "environment.json",
            {
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
                "packages": {name: _version(name) for name in _PACKAGES},
                "device": str(device),
                "cuda_device": cuda,
                "cpus": usable_cores(),
                "threads": threads,
            },
        )


def _is_foreign(path: Path) -> bool:
    return path.name not in _NOT_OF_THE_RUN and not path.name.startswith(TEMPORARY)


def _version(package: str) -> str | None:
    try:
        return medseg_version() if package == "medseg" else version(package)
    except PackageNotFoundError:
        return None


def _differences(old: RunConfig, new: RunConfig, *, free: tuple[str, ...] = ()) -> list[str]:
    """The settings that differ and matter, as ``key: old → new``."""
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
