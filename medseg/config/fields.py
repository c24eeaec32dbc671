"""Properties of settings that follow from the fields of the schema: paths, tables of names, safe changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from medseg.config.base import FieldTraits


@dataclass(frozen=True)
class SettingField:
    """One setting of a schema.

    Attributes:
        keys: the names of its blocks and its own, outermost first.
        annotation: its type.
        traits: the metadata declared with the type.
    """

    keys: tuple[str, ...]
    annotation: Any
    traits: FieldTraits

    @property
    def dotted(self) -> str:
        """The keys joined by dots, as in an override."""
        return ".".join(self.keys)

    @property
    def is_path(self) -> bool:
        """Whether the value is a path that is resolved against the file it is written in."""
        return self.traits.resolve_path and Path in alternatives(self.annotation)

    @property
    def is_table(self) -> bool:
        """Whether the value is a mapping of the user's own names, which a file replaces as a whole."""
        return any(get_origin(option) is dict for option in alternatives(self.annotation))


def walk_fields(block: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[SettingField]:
    """Yield the settings of a block and of the blocks in it; those of every member of a union.

    A setting that several members of a union share is yielded for each of them.
    """
    for name, field in block.model_fields.items():
        keys = (*above, name)
        traits = next((one for one in field.metadata if isinstance(one, FieldTraits)), FieldTraits())
        yield SettingField(keys, field.annotation, traits)
        for option in alternatives(field.annotation):
            if isinstance(option, type) and issubclass(option, BaseModel):
                yield from walk_fields(option, keys)


def alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, or the type itself, without None."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [a for arg in get_args(annotation) for a in alternatives(arg)]
    return [] if annotation in (None, type(None)) else [annotation]
