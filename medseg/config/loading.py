"""Settings as they are written: YAML files that stand on others, and dotted overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medseg.config.base import Spec
from medseg.errors import ConfigError

PATH_KEYS = ("data.path", "data.cache", "data.split.file", "weights.file")
"""Settings that are paths: relative to the YAML they stand in, or to the working folder as overrides."""

WHOLE_KEYS = (
    "data.labels",
    "data.colors",
    "data.codes",
    "data.regions",
    "sampling.balance",
    "weights.rates",
    "inference.postprocess.smallest",
)
"""Settings that are tables of a user's own names: a file's takes the place of all of its base's."""

DefaultName = Callable[[Sequence[str]], str | None]
"""The ``name`` that the block at a place has where none is given."""


def plain(source: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of mappings as dicts of their own, so that overrides do not reach the caller's."""
    return {
        key: plain(cast(Mapping[str, Any], value)) if isinstance(value, Mapping) else value
        for key, value in source.items()
    }


def read_settings(path: Path, default_name: DefaultName, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a file over those of the file it names as its ``base``, paths made absolute.

    Raises: ConfigError if a file is missing, or is no YAML mapping, or stands on itself.
    """
    if path.resolve() in above:
        raise ConfigError(f"{path}: stands on itself; its base, or that one's base, names it again")
    raw = _read_yaml(path)
    _resolve_paths(raw, path.resolve().parent)
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base is {base!r}, expected the name of a file of settings")
    below = path.parent / Path(base).expanduser()
    return _over(read_settings(below, default_name, (*above, path.resolve())), raw, default_name)


def _over(
    base: dict[str, Any], own: dict[str, Any], default_name: DefaultName, place: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Settings over others; a block of another ``name`` takes the place of the whole block."""
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        where = (*place, key)
        if isinstance(below, dict) and isinstance(value, dict) and ".".join(where) not in WHOLE_KEYS:
            block, over = cast(dict[str, Any], below), cast(dict[str, Any], value)
            name = block.get("name", default_name(where))
            same = over.get("name", name) == name
            merged[key] = _over(block, over, default_name, where) if same else over
        else:
            merged[key] = value
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file, and no folder of cases")
    try:
        text = path.read_text(encoding="utf-8")
        raw: Any = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got a {type(raw).__name__}")
    return cast(dict[str, Any], raw)


def _resolve_paths(raw: dict[str, Any], base: Path) -> None:
    for dotted in PATH_KEYS:
        *parents, last = dotted.split(".")
        node: Any = raw
        for key in parents:
            node = cast(dict[str, Any], node).get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        block = cast(dict[str, Any], node)
        if isinstance(block.get(last), str):
            block[last] = str(base / Path(block[last]).expanduser())


def in_order(overrides: Sequence[str]) -> list[str]:
    """Blocks before their settings, and a block's ``name`` first: the order of writing does not matter."""

    def rank(override: str) -> tuple[int, bool]:
        dotted = override.partition("=")[0].strip()
        return dotted.count("."), not dotted.endswith(".name")

    return sorted(overrides, key=rank)


def apply_override(raw: dict[str, Any], override: str, default_name: DefaultName) -> None:
    """Set ``key.sub=value`` in place; blanks around the key do not count.

    Raises: ConfigError if it has no such form.
    """
    key_text, equals, text = override.partition("=")
    dotted = key_text.strip()
    if key_text != key_text.rstrip():  # "key = value"
        text = text.strip()
    if not equals or not all(dotted.split(".")):
        raise ConfigError(f"override {override!r}: expected key=value, for example train.epochs=50")
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
    value = _override_value(override, dotted, text)
    if last == "name" and node.get("name", default_name(parents)) != value:
        node.clear()
    node[last] = value


def _override_value(override: str, dotted: str, text: str) -> Any:
    if dotted in PATH_KEYS:
        return None if text in ("", "null", "~") else str(Path(text).expanduser().resolve())
    try:
        return YAML(typ="safe", pure=True).load(text) if text else None  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error
