"""The callbacks of the tracking services that the settings select."""

from __future__ import annotations

from importlib.util import find_spec

from medseg.errors import ConfigError
from medseg.training.run_folder.layout import RunFolder
from medseg.training.tracking.mlflow_service import MlflowService
from medseg.training.tracking.options import TrackingConfig
from medseg.training.tracking.service import ServiceCallback
from medseg.training.tracking.wandb_service import WandbService

_PACKAGES = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
"""Packages of each extra."""


def check_services(options: TrackingConfig) -> None:
    """Check that the packages of the selected services are installed.

    Raises:
        ConfigError: with the name of the extra.
    """
    for extra, packages in _PACKAGES.items():
        missing = [name for name in packages if find_spec(name) is None]
        if getattr(options, extra) is not None and missing:
            raise ConfigError(
                f"train.tracking.{extra} needs {', '.join(missing)}, which is not installed",
                hint=f"Run pip install '.[{extra}]' in the folder of medseg, or leave the setting out.",
            )


def service_callbacks(options: TrackingConfig, run: RunFolder) -> tuple[ServiceCallback, ...]:
    """Return a callback for each selected service.

    Args:
        options: the settings ``train.tracking``.
        run: the run folder, which records the ids of the runs of the services.
    """
    callbacks: list[ServiceCallback] = []
    if options.mlflow is not None:
        service = MlflowService(options.mlflow)
        callbacks.append(ServiceCallback(service, run.tracking, "mlflow", options.mlflow.run_name))
    if options.wandb is not None:
        service = WandbService(options.wandb, run.root)
        callbacks.append(ServiceCallback(service, run.tracking, "wandb", options.wandb.run_name))
    return tuple(callbacks)
