"""What is wrong with a configuration, in words: one line for each setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medseg.config.renamed import RENAMED_KEYS


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line for each wrong setting of ``root``, with the nearest known name for an unknown one."""
    problems = [_problem(e, root) for e in error.errors()]
    places = {p.keys for p in problems}
    by_place: dict[tuple[str, ...], _Problem] = {}
    for problem in problems:
        n = len(problem.keys)
        if any(len(keys) > n and keys[:n] == problem.keys for keys in places):
            continue  # a consequence, or another form the setting could have, of what is wrong deeper down
        other = by_place.get(problem.keys)
        if other is not None:  # the alternatives of a union
            alternatives = f"{other.message} or {problem.message.removeprefix('expected ')}"
            problem = replace(problem, message=alternatives)
        by_place[problem.keys] = problem
    return [p.line() for p in by_place.values()]


@dataclass(frozen=True)
class _Problem:
    """One pydantic error: the dotted place, what is wrong, and what was got."""

    keys: tuple[str, ...]
    message: str
    got: str = ""

    def line(self) -> str:
        return ": ".join(part for part in (".".join(self.keys), self.message + self.got) if part)


_EXPECTED = {
    "int_type": "expected an integer",
    "int_parsing": "expected an integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text; put it in quotes",
    "tuple_type": "expected a list, such as [1, 2]",
    "dict_type": "expected a mapping of names to values",
    "model_type": "expected a block of settings",
    "model_attributes_type": "expected a block of settings, such as {{name: …}}",
    "missing": "is missing",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "union_tag_not_found": "name is missing",
}


def _problem(error: ErrorDetails, root: type[BaseModel]) -> _Problem:
    keys, models, others = _locate(error["loc"], root)
    got = error["input"]
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return _Problem(keys, _unknown(keys, models, others, root))
    if error["type"] == "union_tag_invalid":
        known = str(context["expected_tags"]).replace("'", "")
        return _Problem(
            (*keys, "name"), f"{context['tag']!r} is not known{_near(context['tag'], known.split(', '))}"
        )
    if error["type"] == "too_short":
        return _Problem(
            keys, f"expected {context['min_length']} or more entries, got {context['actual_length']}"
        )
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    shown = "" if isinstance(got, dict | BaseModel) or error["type"] == "missing" else f" (got {got!r})"
    return _Problem(keys, _EXPECTED.get(error["type"], "{}").format(message, **context), shown)


def _unknown(
    keys: tuple[str, ...], models: list[type[BaseModel]], others: list[type[BaseModel]], root: type[BaseModel]
) -> str:
    """What to say of an unknown key in a block that is one of ``models``, with ``others`` in its union."""
    key = keys[-1]
    known = [field for model in models for field in model.model_fields]
    owners = [model.model_fields["name"].default for model in others if key in model.model_fields]
    names = [model.model_fields["name"].default for model in models if "name" in model.model_fields]
    block = f" of {names[0]}" if names else ""
    if RENAMED_KEYS.get(key) in known:
        return f"was renamed; use {'.'.join((*keys[:-1], RENAMED_KEYS[key]))}"
    if owners and block:
        return f"unknown setting{block}; it is one of {', '.join(owners)}: set name"
    places = _places(key, keys[:-1], root)
    near = f"; did you mean {' or '.join(places)}?" if places else _near(key, known)
    return f"unknown setting{block}{near}"


_MOST_PLACES = 2


def _places(key: str, block: tuple[str, ...], root: type[BaseModel]) -> list[str]:
    """The dotted settings of the name ``key``, those below ``block`` alone if there are any; none if they are
    too many to say which is meant.
    """
    places = [place for place in dict.fromkeys(_settings(root)) if place[-1] == key]
    below = [place for place in places if place[: len(block)] == block]
    chosen = [".".join(place) for place in below or places]
    return chosen if len(chosen) <= _MOST_PLACES else []


def _settings(block: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The dotted place of each setting of a block, and of the blocks in it."""
    for name, field in block.model_fields.items():
        yield (*above, name)
        for option in _alternatives(field.annotation):
            if isinstance(option, type) and issubclass(option, BaseModel):
                yield from _settings(option, (*above, name))


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"


def _locate(
    location: Sequence[int | str], root: type[BaseModel]
) -> tuple[tuple[str, ...], list[type[BaseModel]], list[type[BaseModel]]]:
    """A pydantic location without the tags and labels of unions; the blocks at its last step; the other
    members of their union.
    """
    here: Any = root
    keys: list[str] = []
    models: list[type[BaseModel]] = []
    others: list[type[BaseModel]] = []
    for step in location:
        options = _alternatives(here)
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        tagged = [m for m in models if "name" in m.model_fields and m.model_fields["name"].default == step]
        if tagged:
            here, others = tagged[0], models
            continue
        if len(options) > 1 and not models:  # the label of an alternative: int, tuple[int, ...], …
            here = next((o for o in options if str(step).startswith(_type_name(o) + "[")), None)
            continue
        if step == "[key]":
            continue
        keys.append(str(step))
        here = _below(models[0] if models else options[0] if options else None, step)
        others = others if here is None else []
    return tuple(keys), models, others


def _alternatives(annotation: Any) -> list[Any]:
    """The types of an annotation that is one or a union of them, None left out."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [a for arg in get_args(annotation) for a in _alternatives(arg)]
    return [] if annotation in (None, type(None)) else [annotation]


def _below(annotation: Any, step: int | str) -> Any:
    """The annotation of a field, an entry or a value; None if there is no such thing."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[str(step)].annotation if step in annotation.model_fields else None
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments and get_origin(annotation) in (tuple, list) else None


def _type_name(annotation: Any) -> str:
    return getattr(get_origin(annotation) or annotation, "__name__", "")
