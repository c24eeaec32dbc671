"""Golden files: stored results that tests compare with current ones.

``python -m pytest tests/golden -m "" --update-golden`` (in one process, without ``-n``) updates them. Review
the changes with ``git diff`` and explain them in the commit message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

UPDATE = 'if the change is intended, run: python -m pytest tests/golden -m "" --update-golden'
SHOWN = 40
"""The most differences that a failure lists."""
Tolerances = Mapping[str, tuple[float, float]]
"""Key → relative and absolute tolerance of all numbers below it; everything else must be equal."""


class Golden:
    """Compares results with the golden files in a folder; writes the files first if ``update`` is set."""

    def __init__(self, folder: Path, update: bool) -> None:
        self.folder = folder
        self.update = update

    def check_text(self, name: str, found: str) -> None:
        """Check a text against a file."""
        path = self.folder / name
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
        assert path.is_file(), f"{path} is missing; {UPDATE}"
        assert found == path.read_text(encoding="utf-8"), f"differs from {path}; {UPDATE}"

    def check_names(self, pattern: str, names: set[str]) -> None:
        """Check that the files that match a pattern are exactly ``names``; an update deletes others."""
        there = {str(path.relative_to(self.folder)) for path in self.folder.glob(pattern)}
        if self.update:
            for name in there - names:
                (self.folder / name).unlink()
            there &= names
        assert there == names, f"the files in {self.folder} do not match; {UPDATE}"

    def check(self, name: str, found: dict[str, Any], tolerances: Tolerances | None = None) -> None:
        """Check a dictionary against a JSON file; the failure lists the differences."""
        path = self.folder / name
        if self.update:
            path.write_text(_text(found) + "\n", encoding="utf-8")
        self._compare(path, self._read(path), found, tolerances)

    def check_entry(self, name: str, key: str, found: Any, tolerances: Tolerances | None = None) -> None:
        """Check one entry of the dictionary in a JSON file."""
        path = self.folder / name
        if self.update:
            entries = {**(self._read(path) if path.is_file() else {}), key: found}
            path.write_text(_text(dict(sorted(entries.items()))) + "\n", encoding="utf-8")
        entries = self._read(path)
        assert key in entries, f"{path} has no {key!r}; {UPDATE}"
        self._compare(path, {key: entries[key]}, {key: found}, tolerances)

    def check_keys(self, name: str, keys: set[str]) -> None:
        """Check that a JSON file has exactly ``keys``; an update deletes others."""
        path = self.folder / name
        if self.update and path.is_file():
            kept = {key: value for key, value in self._read(path).items() if key in keys}
            path.write_text(_text(kept) + "\n", encoding="utf-8")
        assert set(self._read(path)) == keys, f"the keys of {path} do not match; {UPDATE}"

    def _read(self, path: Path) -> dict[str, Any]:
        assert path.is_file(), f"{path} is missing; {UPDATE}"
        return json.loads(path.read_text(encoding="utf-8"))

    def _compare(self, path: Path, stored: Any, found: Any, tolerances: Tolerances | None) -> None:
        found = json.loads(json.dumps(found))
        lines = _differences(stored, found, tolerances or {})
        if lines:
            more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            text = "\n  ".join([f"differs from {path}:", *lines[:SHOWN], *more])
            pytest.fail(f"{text}\n{UPDATE}", pytrace=False)


def _differences(
    stored: Any, found: Any, tolerances: Tolerances, allowed: tuple[float, float] = (0, 0), place: str = ""
) -> list[str]:
    """Return one line for each place where two nested values differ."""
    lines: list[str] = []
    if isinstance(stored, dict) and isinstance(found, dict):
        for key in sorted({*stored, *found}):
            where, within = f"{place} / {key}".removeprefix(" / "), tolerances.get(key, allowed)
            if key not in found:
                lines.append(f"{where}: gone, was {stored[key]!r}")
            elif key not in stored:
                lines.append(f"{where}: new, {found[key]!r}")
            else:
                lines += _differences(stored[key], found[key], tolerances, within, where)
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for i, (one, other) in enumerate(zip(stored, found, strict=True)):
            lines += _differences(one, other, tolerances, allowed, f"{place}[{i}]")
    elif isinstance(stored, int | float) and isinstance(found, int | float) and any(allowed):
        if found != pytest.approx(stored, rel=allowed[0], abs=allowed[1], nan_ok=True):
            lines.append(f"{place}: {found}, was {stored} (tolerance {allowed[0]} of it, {allowed[1]})")
    elif stored != found:
        lines.append(f"{place}: {found!r}, was {stored!r}")
    return lines


def _text(value: Any, indent: str = "") -> str:
    """Format JSON with one dictionary entry per line and each list on one line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    lines = [f"{inner}{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
