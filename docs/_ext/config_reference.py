"""The ``config-reference`` directive: tables of a configuration block's keys, types, defaults and meanings.

The tables are generated from the pydantic classes and the ``Attributes`` sections of their docstrings, so they
always agree with the code.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ConfigReference(SphinxDirective):
    """Document one Spec and, unless ``:flat:`` is given, every Spec that its fields refer to."""

    required_arguments = 1
    option_spec: ClassVar = {"flat": lambda _: True}
    has_content = False

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        root = getattr(import_module(module), name)
        blocks = [root] if "flat" in self.options else list(reachable(root))
        text = "\n".join(line for block in blocks for line in described(block))
        container = nodes.section()
        container.document = self.state.document
        self.state.nested_parse(StringList(text.splitlines(), source=module), 0, container, match_titles=1)
        return container.children


def reachable(root: type[BaseModel]) -> list[type[BaseModel]]:
    """The Spec classes that the fields of ``root`` refer to, depth first, ``root`` itself first."""
    order: dict[type[BaseModel], None] = {}

    def visit(block: type[BaseModel]) -> None:
        if block in order:
            return
        order[block] = None
        for field in block.model_fields.values():
            for found in specs_in(field.annotation):
                visit(found)

    visit(root)
    return list(order)


def specs_in(annotation: Any) -> list[type[BaseModel]]:
    """The Spec classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in specs_in(argument)]


def described(block: type[BaseModel]) -> list[str]:
    """Markdown of one Spec: heading, summary and a list of its keys."""
    doc = inspect.cleandoc(block.__doc__ or "")
    summary = re.split(r"\n\s*Attributes:\n", doc)[0]
    parents = [parent for parent in reversed(block.__mro__) if issubclass(parent, BaseModel)]
    meanings: dict[str, str] = {}
    for parent in parents:
        meanings |= attributes(inspect.cleandoc(parent.__doc__ or ""))
    lines = [f"({anchor(block)})=", f"## {title(block)}", "", summary, ""]
    for key, field in block.model_fields.items():
        lines += [
            f"`{key}` : {shown(field.annotation)}, default {default(field)}",
            f": {meanings.get(key, field.description or '–')}",
            "",
        ]
    return lines


def title(block: type[BaseModel]) -> str:
    """The class name, with the ``name`` that selects it in a union."""
    field = block.model_fields.get("name")
    values = get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
    names = ", ".join(f"`{value}`" for value in values)
    return f"{block.__name__} (name: {names})" if names else block.__name__


def anchor(block: type[BaseModel]) -> str:
    return f"config-{block.__name__.lower()}"


def attributes(doc: str) -> dict[str, str]:
    """The entries of a docstring's ``Attributes`` section, each on one line."""
    section = re.search(r"Attributes:\n((?:[ ]{4}.*(?:\n|$)|\n)+)", doc)
    entries: dict[str, str] = {}
    keys: list[str] = []
    for line in section.group(1).splitlines() if section else []:
        start = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if start:
            keys = start.group(1).split(", ")
            entries |= dict.fromkeys(keys, start.group(2))
        else:
            entries |= {key: f"{entries[key]} {line.strip()}".strip() for key in keys}
    return entries


def shown(annotation: Any) -> str:
    """A type as YAML users read it, with references to other blocks."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return "null"
    if origin is Annotated:
        return shown(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(shown(argument) for argument in arguments))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (tuple, list, frozenset, set):
        return f"list of {shown(next((a for a in arguments if a is not Ellipsis), Any))}"
    if origin is dict:
        return f"mapping of {shown(arguments[0])} to {shown(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{anchor(annotation)})"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "Path": "path"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name)


def default(field: FieldInfo) -> str:
    """The default as YAML, or ``required``."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"`{{name: {value.name}}}`" if hasattr(value, "name") else "as below"
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value}`"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("config-reference", ConfigReference)
    return {"parallel_read_safe": True}
