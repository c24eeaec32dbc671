"""A short start: names that are imported when they are first used, imports without optional packages."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
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


def import_without(package: str, left_out: Sequence[str]) -> None:
    """Let a package, which imports every optional package that it finds, find some of them absent.

    Only the first import of the package is affected, and only in the thread that executes it: the packages that
    are left out can be imported by everyone else, before, meanwhile and afterwards. Nothing happens if the
    package is imported already.

    Args:
        package: name of a package of the top level.
        left_out: names of packages of the top level.
    """
    known = any(isinstance(one, _PackageFinder) and one.package == package for one in sys.meta_path)
    if package not in sys.modules and not known:
        sys.meta_path.insert(0, _PackageFinder(package, tuple(left_out)))


class _PackageFinder(MetaPathFinder):
    """Finds a package once, and lets it be executed behind an :class:`_Absent`."""

    def __init__(self, package: str, left_out: tuple[str, ...]) -> None:
        self.package, self._left_out = package, left_out

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_execute, self._left_out, spec.loader.exec_module)
        return spec


class _Absent(MetaPathFinder):
    """Lets the thread that created it find none of some packages."""

    def __init__(self, left_out: tuple[str, ...]) -> None:
        self._left_out, self._thread = left_out, threading.get_ident()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._left_out and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is left out of this import", name=fullname)
        return None


def _execute(left_out: tuple[str, ...], execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    absent = _Absent(left_out)
    sys.meta_path.insert(0, absent)
    try:
        execute(module)
    finally:
        sys.meta_path.remove(absent)
