"""Explanations of invalid settings: one line for each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medseg.config.fields import alternatives, walk_fields
from medseg.config.renamed import MOVED_KEYS, current_key


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Return one line for each invalid setting of ``root``; an unknown key gets the nearest known key."""
    problems = [_problem(e, root) for e in error.errors()]
    places = {p.keys for p in problems}
    by_place: dict[tuple[str, ...], _Problem] = {}
    for problem in problems:
        n = len(problem.keys)
        if any(len(keys) > n and keys[:n] == problem.keys for keys in places):
            continue  # a consequence of an error deeper down, or another form of the same setting
        other = by_place.get(problem.keys)
        if other is not None:  # the alternatives of a union
            alternatives = f"{other.message} or {problem.message.removeprefix('expected ')}"
            problem = replace(problem, message=alternatives)
        by_place[problem.keys] = problem
    return [p.line() for p in by_place.values()]


@dataclass(frozen=True)
class _Problem:
    """One pydantic error: the keys, what is wrong, and the value."""

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
            (*keys, "name"), f"{context['tag']!r} is not known{_suggest(context['tag'], known.split(', '))}"
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
    """Explain an unknown key in a block that is one of ``models``; ``others`` are the members of its union."""
    key = keys[-1]
    known = [field for model in models for field in model.model_fields]
    owners = [model.model_fields["name"].default for model in others if key in model.model_fields]
    names = [model.model_fields["name"].default for model in models if "name" in model.model_fields]
    block = f" of {names[0]}" if names else ""
    moved = MOVED_KEYS.get(".".join(keys))
    if moved is not None:
        return f"was moved; use {moved}"
    renamed = current_key(key, names[0] if names else None)
    if renamed in known:
        return f"was renamed; use {'.'.join((*keys[:-1], renamed))}"
    if owners and block:
        return f"unknown setting{block}; it is one of {', '.join(owners)}: set name"
    places = _places(key, keys[:-1], root)
    near = f"; did you mean {' or '.join(places)}?" if places else _suggest(key, known, keys[:-1])
    return f"unknown setting{block}{near}"


_MOST_PLACES = 2


def _places(key: str, block: tuple[str, ...], root: type[BaseModel]) -> list[str]:
    """Return the dotted settings called ``key``, preferably below ``block``; empty if they are too many to
    guess which one is meant.
    """
    places = [place for place in dict.fromkeys(field.keys for field in walk_fields(root)) if place[-1] == key]
    if block[:1] != ("cascade",):  # the first stage repeats other settings
        places = [place for place in places if place[0] != "cascade"] or places
    below = [place for place in places if place[: len(block)] == block]
    chosen = [".".join(place) for place in below or places]
    return chosen if len(chosen) <= _MOST_PLACES else []


def _suggest(word: str, known: Sequence[str], block: tuple[str, ...] = ()) -> str:
    """Suggest the nearest of the known words, with the keys of its block; if none is near, list them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {'.'.join((*block, near[0]))}?" if near else f"; known: {', '.join(known)}"


def _locate(
    location: Sequence[int | str], root: type[BaseModel]
) -> tuple[tuple[str, ...], list[type[BaseModel]], list[type[BaseModel]]]:
    """Split a pydantic location into the keys without the tags of unions, the blocks at its last step, and the
    members of their union.
    """
    here: Any = root
    keys: list[str] = []
    models: list[type[BaseModel]] = []
    others: list[type[BaseModel]] = []
    for step in location:
        options = alternatives(here)
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
        here = _nested_annotation(models[0] if models else options[0] if options else None, step)
        others = others if here is None else []
    return tuple(keys), models, others


def _nested_annotation(annotation: Any, step: int | str) -> Any:
    """Return the annotation of a field, an entry or a value; None if it does not exist."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[str(step)].annotation if step in annotation.model_fields else None
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments and get_origin(annotation) in (tuple, list) else None


def _type_name(annotation: Any) -> str:
    return getattr(get_origin(annotation) or annotation, "__name__", "")
