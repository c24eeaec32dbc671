"""Reading of settings: YAML files with a ``base``, and dotted overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medseg.config.base import Spec
from medseg.config.fields import walk_fields
from medseg.data.labels.config import expand_short_form
from medseg.errors import ConfigError


def _no_name(keys: Sequence[str]) -> str | None:
    return None


@dataclass(frozen=True)
class MergeRules:
    """How files and overrides of one schema are merged.

    Attributes:
        paths: dotted keys of paths, which are resolved.
        tables: dotted keys of mappings of the user's own names; a file replaces the whole mapping of its base.
        default_name: returns the ``name`` of the block at a sequence of keys where none is written.
    """

    paths: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()
    default_name: Callable[[Sequence[str]], str | None] = _no_name

    @classmethod
    def of(cls, schema: type[BaseModel], defaults: BaseModel) -> MergeRules:
        """Derive the rules from a schema and its default settings."""
        fields = list(walk_fields(schema))

        def default_name(keys: Sequence[str]) -> str | None:
            block: Any = defaults
            for key in keys:
                block = getattr(block, key, None)
            return getattr(block, "name", None)

        return cls(
            paths=frozenset(field.dotted for field in fields if field.is_path),
            tables=frozenset(field.dotted for field in fields if field.is_table),
            default_name=default_name,
        )


def plain(source: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested mappings into new dicts, so that overrides do not change the caller's."""
    return {
        key: plain(cast(Mapping[str, Any], value)) if isinstance(value, Mapping) else value
        for key, value in source.items()
    }


def read_settings(path: Path, rules: MergeRules, derived: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file merged over its ``base``, with absolute paths.

    Args:
        path: the YAML file.
        rules: of the schema.
        derived: the files that name this one as their base, directly or not.

    Raises:
        ConfigError: if a file is missing, is no YAML mapping, or is its own base.
    """
    if path.resolve() in derived:
        raise ConfigError(
            f"{path}: circular base reference", hint="Remove base: from one of the files.", path=path
        )
    raw = read_yaml(path)
    resolve_paths(raw, path.resolve().parent, rules.paths)
    _expand_short_forms(raw)
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base is {base!r}, expected the path of a configuration file", path=path)
    below = path.parent / Path(base).expanduser()
    return _merge_blocks(read_settings(below, rules, (*derived, path.resolve())), raw, rules)


def _merge_blocks(
    base: dict[str, Any], own: dict[str, Any], rules: MergeRules, above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Merge settings over others; a block with another ``name`` replaces the whole block."""
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        keys = (*above, key)
        if isinstance(below, dict) and isinstance(value, dict) and ".".join(keys) not in rules.tables:
            old, new = cast(dict[str, Any], below), cast(dict[str, Any], value)
            name = old.get("name", rules.default_name(keys))
            same = new.get("name", name) == name
            merged[key] = _merge_blocks(old, new, rules, keys) if same else new
        else:
            merged[key] = value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose content is a mapping. Raises: ConfigError if it is not."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file", path=path)
    try:
        text = path.read_text(encoding="utf-8")
        raw: Any = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}", path=path) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        got = f"text ({text.strip().splitlines()[0][:60]!r} …)" if isinstance(raw, str) else type(raw).__name__
        raise ConfigError(
            f"{path}: expected a mapping of settings, lines such as KEY: VALUE in YAML, got {got}",
            hint="Give a YAML file; a table of cases is a dataset, for data.path or medseg plan.",
            path=path,
        )
    return cast(dict[str, Any], raw)


def resolve_paths(raw: dict[str, Any], folder: Path, keys: frozenset[str]) -> None:
    """Make the paths at some dotted keys absolute, in place; relative ones are below ``folder``."""
    for dotted in keys:
        *parents, last = dotted.split(".")
        node: Any = raw
        for key in parents:
            node = cast(dict[str, Any], node).get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        block = cast(dict[str, Any], node)
        if isinstance(block.get(last), str):
            block[last] = str(folder / Path(block[last]).expanduser())


def _expand_short_forms(raw: dict[str, Any]) -> None:
    """Write ``data.labels`` in full, in place, so that settings can be merged with it."""
    data: Any = raw.get("data")
    if isinstance(data, dict) and "labels" in data:
        data["labels"] = expand_short_form(data["labels"])


def check_overrides(overrides: object) -> None:
    """Check that overrides are several texts.

    Raises:
        ConfigError: if they are one text, a mapping, or something else.
    """
    if isinstance(overrides, str):
        raise ConfigError(
            f"overrides is the text {overrides!r}, expected a list of texts", hint=f"Write [{overrides!r}]."
        )
    several = cast(Sequence[object], overrides) if isinstance(overrides, Sequence) else (None,)
    if not all(isinstance(one, str) for one in several):
        raise ConfigError(
            f"overrides is {overrides!r}, expected a list of texts", hint="For example ['train.epochs=50']."
        )


def sort_overrides(overrides: Sequence[str]) -> list[str]:
    """Sort overrides so that their order does not matter: blocks before their settings, ``name`` first."""

    def rank(override: str) -> tuple[int, bool]:
        dotted = override.partition("=")[0].strip()
        return dotted.count("."), not dotted.endswith(".name")

    return sorted(overrides, key=rank)


def apply_override(raw: dict[str, Any], override: str, rules: MergeRules | None = None) -> None:
    """Apply an override to settings, in place.

    Args:
        raw: nested settings.
        override: ``key.sub=value``; spaces around the key are ignored.
        rules: of the schema; by default, no key is a path and no block has a default name.

    Raises:
        ConfigError: if the override is not of this form.

    Example:
        >>> settings = {"train": {"epochs": 10}}
        >>> apply_override(settings, "train.epochs=50")
        >>> settings
        {'train': {'epochs': 50}}
    """
    rules = rules or MergeRules()
    key_text, equals, text = override.partition("=")
    dotted = key_text.strip()
    if key_text != key_text.rstrip():  # "key = value"
        text = text.strip()
    if not equals or not all(dotted.split(".")):
        raise ConfigError(f"override {override!r}: expected key=value, for example train.epochs=50")
    _expand_short_forms(raw)
    *parents, last = dotted.split(".")
    node = raw
    for key in parents:
        below = node.get(key)
        if isinstance(below, Spec):
            below = below.model_dump()
        elif isinstance(below, str) and key == "augment":
            below = {"preset": below}
        elif below is not None and not isinstance(below, dict):
            raise ConfigError(f"override {override!r}: {key} is {below!r}, not a block of settings")
        node[key] = below or {}
        node = cast(dict[str, Any], node[key])
    value = _override_value(override, dotted, text, rules.paths)
    if last == "name" and node.get("name", rules.default_name(parents)) != value:
        node.clear()
    node[last] = value


def _override_value(override: str, dotted: str, text: str, paths: frozenset[str]) -> Any:
    if dotted in paths:
        return None if text in ("", "null", "~") else str(Path(text).expanduser().resolve())
    try:
        value: Any = YAML(typ="safe", pure=True).load(text) if text else None  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error
    _check_colons(override, value)
    return value


def _check_colons(override: str, value: Any) -> None:
    """Check that a mapping has a space after each colon; without it, YAML reads ``a:0`` as one name.

    Raises:
        ConfigError: that gives the mapping with spaces.
    """
    table = cast(dict[Any, Any], value) if isinstance(value, dict) else {}
    pairs = {key: key.partition(":") for key, entry in table.items() if entry is None and isinstance(key, str)}
    if any(colon for _, colon, _ in pairs.values()):
        entries = [
            f"{pairs[key][0]}: {pairs[key][2]}" if key in pairs else f"{key}: {entry}"
            for key, entry in table.items()
        ]
        raise ConfigError(
            f"override {override!r}: write a space after each colon: {{{', '.join(entries)}}}",
            hint="Put the override in quotes, because it contains spaces.",
        )
