"""Versions and the machine that a report was made with, without user or host name."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from markupsafe import Markup

from medseg.report.html import Content, folded, pairs
from medseg.system.version import medseg_version

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-image",
    "connected-components-3d",
    "nibabel",
    "SimpleITK",
    "torch",
    "monai",
)


def describe_environment() -> dict[str, str]:
    """Return the versions of Python, medseg and its packages, and the system."""
    return {
        "medseg": medseg_version(),
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{name} {one}" for name in _PACKAGES if (one := _version(name))),
    }


def provenance(definitions: Mapping[str, Any], more: Mapping[str, Content] | None = None) -> Markup:
    """Return the definitions of the metrics and the environment, folded."""
    shown: dict[str, Content] = {}
    for key, value in definitions.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            shown[name] = "; ".join(f"{inner} {one}" for inner, one in value.items())
        else:
            shown[name] = str(value)
    parts = [folded("Definitions of the metrics", pairs(shown))] if shown else []
    environment: dict[str, Content] = {**(more or {}), **describe_environment()}
    return Markup("").join([*parts, folded("Environment", pairs(environment))])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
