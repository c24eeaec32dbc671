"""A plan in the making: settings, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Draft:
    """Settings and their reasons.

    Attributes:
        settings: nested settings, as in a configuration file.
        reasons: dotted key of a setting or a block → why it has its value.
        notes: further remarks on the whole plan.

    Example:
        >>> draft = Draft()
        >>> draft.set("train.batch_size", 2, "the memory allows no more")
        >>> draft.settings
        {'train': {'batch_size': 2}}
    """

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, reason: str = "") -> None:
        """Set a dotted key."""
        *parents, last = key.split(".")
        block = self.settings
        for name in parents:
            block = block.setdefault(name, {})
        block[last] = value
        if reason:
            self.explain(key, reason)

    def explain(self, key: str, reason: str) -> None:
        """Give the reason of a key or a block, also of one that keeps its default."""
        self.reasons[key] = reason
