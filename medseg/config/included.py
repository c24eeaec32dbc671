"""The configuration files that come with medseg."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

_SHARE_FOLDER = "share/medseg/configs/"
"""Folder of the configuration files below the installation prefix, as in ``pyproject.toml``."""


def included_configs() -> list[Path]:
    """Return the configuration files of the checkout, or those that the installation recorded, sorted.

    The record is found for every kind of installation: in an environment, in the system or with ``--user``.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "configs").is_dir():
        return sorted((checkout / "configs").rglob("*.yaml"))
    try:
        recorded = metadata.files("medseg") or []
    except metadata.PackageNotFoundError:
        return []
    paths = (Path(str(one.locate())) for one in recorded if _SHARE_FOLDER in one.as_posix())
    return sorted(path.resolve() for path in paths if path.suffix == ".yaml" and path.is_file())
