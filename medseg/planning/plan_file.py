"""Write a plan as a configuration file in which every block has its reason as a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from medseg.config.schema import RunConfig
from medseg.errors import ConfigError
from medseg.files import write_atomic

_WIDTH = 110
_LARGEST = 1 << 20
"""Bytes that a configuration file has at most."""
_INDENT = 2


def format_plan(config: RunConfig, reasons: Mapping[str, str], header: Sequence[str] = ()) -> str:
    """Format all settings as YAML; each reason is a comment above its setting.

    Args:
        config: the settings.
        reasons: dotted key → reason.
        header: paragraphs of the comment at the start.

    Example:
        >>> text = format_plan(RunConfig(), {"train.batch_size": "the memory allows no more"})
        >>> "# the memory allows no more" in text
        True
    """
    root = _commented(config.model_dump(mode="json"), reasons)
    yaml = YAML()
    yaml.width = _WIDTH
    stream = StringIO()
    yaml.dump(root, stream)  # pyright: ignore[reportUnknownMemberType]
    opening = ["\n".join(_wrap(paragraph, 0, "# ")) for paragraph in header]
    return "\n#\n".join(opening) + ("\n\n" if opening else "") + stream.getvalue()


def check_plan_target(path: Path) -> None:
    """Check that a plan replaces nothing but a configuration file.

    Raises:
        ConfigError: the file exists and is something else, such as a label map, a manifest or a model.
    """
    if path.is_file() and not _is_configuration(path):
        raise ConfigError(
            f"{path}: exists and is no configuration file, so it is not replaced",
            hint="Choose another --output, such as config.yaml.",
            path=path,
        )


def _is_configuration(path: Path) -> bool:
    """Whether a file holds settings of a run, or nothing."""
    if path.stat().st_size > _LARGEST:
        return False
    try:
        content: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))  # pyright: ignore[reportUnknownMemberType]
    except (UnicodeDecodeError, YAMLError):
        return False
    return content is None or (
        isinstance(content, dict) and content.keys() <= {"base", *RunConfig.model_fields}
    )


def write_plan(path: Path, text: str) -> None:
    """Write the text of a plan; the file is complete or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _commented(settings: Mapping[str, Any], reasons: Mapping[str, str], above: str = "") -> CommentedMap:
    block = CommentedMap()
    depth = above.count(".") + 1 if above else 0
    for key, value in settings.items():
        dotted = f"{above}.{key}" if above else key
        block[key] = _value(value, reasons, dotted)
        if dotted in reasons:
            comment = "\n".join(_wrap(reasons[dotted], depth * _INDENT))
            block.yaml_set_comment_before_after_key(key, before=comment, indent=depth * _INDENT)
    return block


def _value(value: Any, reasons: Mapping[str, str], dotted: str) -> Any:
    if isinstance(value, dict) and value:
        below = _commented(value, reasons, dotted)
        if _is_flat(value) and not any(key.startswith(f"{dotted}.") for key in reasons):
            below.fa.set_flow_style()
        return below
    if isinstance(value, list):
        items = CommentedSeq([_value(one, {}, "") for one in value])
        if len(str(value)) < _WIDTH // 2 or _is_flat(value):
            items.fa.set_flow_style()
        return items
    return value


def _is_flat(value: dict[str, Any] | list[Any]) -> bool:
    """Whether a block has only plain values and fits a line."""
    values = value.values() if isinstance(value, dict) else value
    return len(str(value)) < _WIDTH * 3 // 4 and not any(isinstance(one, dict) for one in values)


def _wrap(text: str, indent: int, prefix: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH - indent - 2, initial_indent=prefix, subsequent_indent=prefix)
