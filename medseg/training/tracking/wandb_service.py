"""Weights & Biases: a run in a local folder, or online."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError
from medseg.geometry import Array
from medseg.training.tracking.options import WandbConfig
from medseg.training.tracking.sent_record import SentRecord
from medseg.training.tracking.service import Outcome

_EXIT_CODES = {"finished": 0, "stopped": 130, "failed": 1}
_INIT_SECONDS, _FINISH_SECONDS = 30.0, 120.0
"""Patience with a server that is away."""


class WandbService:
    """Logs to Weights & Biases; see :class:`medseg.training.tracking.service.Service`.

    The client's own collection of host, user, program, packages, code and console output is switched off.

    Args:
        options: where, and what is sent.
        run: the run folder.
    """

    label = "Weights & Biases"

    def __init__(self, options: WandbConfig, run: Path) -> None:
        self.options, self.folder = options, (options.folder or run).absolute()
        self.place = "/".join([options.mode, options.entity or "", options.project])
        self._run: Any = None

    def open(self, record: SentRecord, run_id: str | None) -> str:
        """Begin a run, or continue an earlier one; offline, a new folder with the same id continues it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for variable in (
            "WANDB_DATA_DIR",
            "WANDB_CACHE_DIR",
        ):  # else copies of model files are in the home folder
            os.environ.setdefault(variable, str(self.folder / "wandb"))
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        online = self.options.mode == "online"
        if online and not wandb.login(prompt=False):
            raise ConfigError("Weights & Biases: not logged in", hint="Run wandb login.")
        self._run = wandb.init(
            project=self.options.project,
            entity=self.options.entity,
            name=record.name,
            id=run_id,
            dir=str(self.folder),
            mode=self.options.mode,
            resume="allow" if online else None,
            reinit="create_new",
            config={**record.settings, **record.facts},
            settings=_private_settings(wandb.Settings),
        )
        return str(self._run.id)

    def log(self, step: int, values: Mapping[str, float], pictures: Mapping[str, Array]) -> None:
        """Log the numbers and the pictures of a step."""
        import wandb

        images = {
            name: wandb.Image(picture) for name, picture in (pictures.items() if self.options.pictures else ())
        }
        self._run.log({**values, **images}, step=step)

    def close(self, outcome: Outcome, model: Path | None) -> None:
        """Send the model file and end the run."""
        import wandb

        if model is not None and self.options.model:
            artifact = wandb.Artifact(f"model-{self._run.id}", type="model")
            artifact.add_file(str(model.absolute()), name=model.name, policy="immutable", skip_cache=True)
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=_EXIT_CODES[outcome])


def _private_settings(settings: Any) -> Any:
    """Return settings under which the client sends what it is given and nothing else, without a console."""
    return settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        host="",
        username="",
        email="",
        program="",
        init_timeout=_INIT_SECONDS,
        finish_timeout=_FINISH_SECONDS,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
