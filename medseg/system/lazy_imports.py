"""A short start: names and optional packages that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
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


def import_optional_late(package: str, late: Sequence[str]) -> None:
    """Let a package that imports every optional package that it finds import some of them when they are used.

    It is for packages like MONAI, whose modules call ``PACKAGE.utils.module.optional_import``. For the late
    ones, this function then returns a :class:`LateImport`. Nothing else changes: neither for other packages,
    nor if ``package`` or the optional package is imported already.

    Args:
        package: name of a package of the top level.
        late: names of packages of the top level.
    """
    module = f"{package}.utils.module"
    known = any(isinstance(one, _ModuleFinder) and one.module == module for one in sys.meta_path)
    if module not in sys.modules and not known:
        sys.meta_path.insert(0, _ModuleFinder(module, tuple(late)))


class LateImport:
    """What an optional import will give: it is imported when it is called, or an attribute of it is used.

    Args:
        load: imports it.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self.__dict__["_load"] = load

    def _found(self) -> Any:
        if "_object" not in self.__dict__:
            self.__dict__["_object"] = self.__dict__["_load"]()
        return self.__dict__["_object"]

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # asked by module inspect, of every name in a module
            raise AttributeError(name)
        return getattr(self._found(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._found()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found())

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._found())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._found(),)


class _ModuleFinder(MetaPathFinder):
    """Finds one module once, and changes its function ``optional_import`` after it was executed."""

    def __init__(self, module: str, late: tuple[str, ...]) -> None:
        self.module, self._late = module, late

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_execute, self._late, spec.loader.exec_module)
        return spec


def _execute(late: tuple[str, ...], execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    if hasattr(module, "optional_import"):
        vars(module)["optional_import"] = _late_import(late, module.optional_import)


def _late_import(late: tuple[str, ...], optional_import: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``optional_import`` that imports some packages late, if neither version nor kind is asked for."""

    @wraps(optional_import)
    def wrapper(module: str, *args: Any, **kwargs: Any) -> Any:
        top = module.partition(".")[0]
        plain = not args and kwargs.keys() <= {"name", "descriptor"}
        if top not in late or top in sys.modules or not plain or find_spec(top) is None:
            return optional_import(module, *args, **kwargs)
        return LateImport(lambda: optional_import(module, **kwargs)[0]), True

    return wrapper
