"""Version of medseg."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@cache
def source_digest() -> str:
    """Return the SHA-256 of medseg's Python files: it changes with every change of the code.

    Line endings do not count.
    """
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py"), key=lambda one: one.relative_to(root).as_posix()):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@cache
def medseg_version() -> str:
    """Return the version of the installed package, or of the checkout that medseg is imported from.

    Returns:
        For example ``1.2.0``; ``0+unknown`` if medseg is neither installed nor in a checkout.
    """
    try:
        return version("medseg")
    except PackageNotFoundError:
        pass
    try:
        project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == "medseg" else "0+unknown"
    except (OSError, ValueError, KeyError):
        return "0+unknown"
