"""The names that packages export, and their signatures, equal those in ``public_api.json``.

A package exports its ``__all__``; without one, the functions, classes and constants defined in its
``__init__``. Update the file with ``python -m pytest tests/golden -m "" --update-golden``.
"""

import inspect
import pkgutil
import re
from importlib import import_module
from typing import Annotated, get_args, get_origin

import medseg


def packages():
    """Import medseg and all its subpackages."""
    below = pkgutil.walk_packages(medseg.__path__, "medseg.")
    return [medseg, *(import_module(module.name) for module in below if module.ispkg)]


def exports(package):
    """Map each exported name to its description; public methods are listed as ``Class.method``."""
    names = getattr(package, "__all__", None)
    if names is None:
        names = [name for name, value in vars(package).items() if is_own(package, name, value)]
    found = {}
    for name in names:
        value = getattr(package, name)
        found[name] = describe(value)
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(function) and not method.startswith("_"):
                found[f"{name}.{method}"] = describe(function)
    return dict(sorted(found.items()))


def is_own(package, name, value):
    """Return whether a public name is defined in the package itself, or is a constant."""
    defined = getattr(value, "__module__", None) == package.__name__
    return not name.startswith("_") and (defined or name.isupper())


def describe(value):
    """Describe a value by its signature, union members or type, without module names."""
    if inspect.isclass(value) or inspect.isfunction(value):
        try:
            text = str(inspect.signature(value))
        except ValueError:  # classes written in C
            text = "(...)"
    elif get_origin(value) is Annotated:
        text = " | ".join(sorted(member.__name__ for member in get_args(get_args(value)[0])))
    elif get_args(value):
        text = str(value)
    else:
        text = type(value).__name__
    return re.sub(r"\bmedseg(\.\w+)+\.| at 0x[0-9a-f]+", "", text)


def test_exported_names_are_unchanged(golden):
    found = {package.__name__: exports(package) for package in packages()}
    golden.check("public_api.json", {name: names for name, names in found.items() if names})
