"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Create the functions ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Importing the package then imports none of the modules. For type checkers, the package also imports the
    names under ``if TYPE_CHECKING``.

    Args:
        package: name of the package, ``__name__``.
        modules: absolute name of a module → names that are imported from it.

    Returns:
        ``__getattr__`` and ``__dir__``.

    Example:
        >>> __getattr__, __dir__ = lazy_names("shapes", {"math": ("pi", "tau")})
        >>> __getattr__("tau") == 2 * __getattr__("pi")
        True
        >>> __dir__()
        ['pi', 'tau']
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def getattr_(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return getattr_, lambda: sorted(homes)
