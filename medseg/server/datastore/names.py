"""Names and values of a dataset's labels, and their declaration for trainings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.data.labels.name_files import read_label_names
from medseg.data.labels.schema import LabelSchema, guess_schema
from medseg.errors import ConfigError
from medseg.files import write_json
from medseg.server.errors import RefusedError

_MOST_NAMES = 1000
_LONGEST_NAME = 128


class LabelNames:
    """The labels of a dataset: declared by its layout, by a file beside it, or by the server's options.

    Names that the dataset does not declare yet are written to its ``labels.json`` (or to the table in its
    ``dataset.json``) when the first label is saved, so that a training knows them.

    Args:
        folder: folder of the dataset.
        layout: labels that the dataset's layout declares.
        suggested: labels to use where the dataset declares none.
        present: values in existing label maps.
    """

    def __init__(
        self,
        folder: Path,
        layout: LabelSchema | None,
        suggested: LabelSchema | None = None,
        present: Iterable[int] = (),
    ) -> None:
        self._folder = folder
        values = set(present)
        table = None if layout is not None else read_label_names(folder, values)
        self.is_declared = layout is not None or table is not None
        self._from_layout = layout is not None
        chosen = layout or (table.schema if table is not None else None)
        if chosen is None and suggested is not None and values <= _values(suggested):
            chosen = suggested
        self.schema = chosen or _guess(values)

    @property
    def values(self) -> dict[str, int]:
        """Name → value in label files, without the background."""
        names = list(self.schema.names.items())[1 if self.schema.background else 0 :]
        return {name: values[0] for name, values in names}

    @property
    def all_values(self) -> set[int]:
        """Every value that a label map may hold."""
        return _values(self.schema)

    def add(self, names: Iterable[str]) -> dict[str, int]:
        """Give names that are new the next values, and declare them; return all names.

        Raises:
            RefusedError: a name is not printable, too long, or the dataset's layout fixes its labels.
        """
        known = {name.casefold(): name for name in self.schema.names}
        new = [name for name in dict.fromkeys(names) if name.casefold() not in known]
        for name in new:
            if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
                raise RefusedError(f"names of labels are printable and have at most {_LONGEST_NAME} characters")
        if len(self.schema.names) + len(new) > _MOST_NAMES:
            raise RefusedError(f"a dataset has at most {_MOST_NAMES} labels")
        if new:
            table = dict(self.schema.names)
            for name in new:
                table[name] = (max(_values(self.schema) | {v for vs in table.values() for v in vs}) + 1,)
            self.schema = LabelSchema.model_validate(
                self.schema.model_dump(exclude_unset=True) | {"names": table}
            )
            self._write()
        return self.values

    def value_of(self, name: str) -> int | None:
        """Return the value of a label, whatever the case of its name."""
        by_name = {one.casefold(): values[0] for one, values in self.schema.names.items()}
        return by_name.get(name.casefold())

    def declare(self) -> None:
        """Write the names into the dataset unless it declares them."""
        if not self.is_declared:
            self._write()

    def _write(self) -> None:
        names = {name: values[0] for name, values in self.schema.names.items()}
        dataset = self._folder / "dataset.json"
        if self._from_layout:
            if not dataset.is_file():
                raise RefusedError(f"the dataset has the labels {', '.join(self.values)}; it cannot get others")
            content = json.loads(dataset.read_text(encoding="utf-8"))
            content["labels"] = _extended(content.get("labels"), names)
            write_json(dataset, content)
        else:
            write_json(self._folder / "labels.json", names)
        self.is_declared = True


def label_schema(names: Iterable[str]) -> LabelSchema | None:
    """Return labels with the values 1, 2, …; None without names."""
    table = {name: (index,) for index, name in enumerate(names, 1)}
    return LabelSchema(names={"background": (0,), **table}) if table else None


def map_values(info: Any, present: set[int], names: LabelNames) -> Mapping[int, int] | None:
    """Return value in a client's label map → value in the dataset.

    Clients list the names of their segments with an index. Its values are the indices where they are the only
    ones present; 3D Slicer numbers the segments that it saves from 1, whatever their index.

    Args:
        info: list of ``{"name": …, "idx": …}``; anything else means that the values are those of the dataset.
        present: values in the client's label map, without 0.
        names: the labels; new names are added.

    Raises:
        RefusedError: a name is not acceptable, or a value has no name.
    """
    entries = (
        [one for one in info if isinstance(one, dict) and isinstance(one.get("name"), str)] if info else []
    )
    if not entries:
        return None
    names.add(one["name"] for one in entries)
    listed = [one.get("idx") for one in entries]
    positions = list(range(1, len(entries) + 1))
    proper = all(isinstance(i, int) and i > 0 for i in listed) and len(set(listed)) == len(listed)
    by_index = proper and present <= set(listed) and (not present or max(present) > len(entries))
    keys = listed if by_index else positions
    mapping = {int(key): names.value_of(one["name"]) or 0 for key, one in zip(keys, entries, strict=True)}
    missing = sorted(present - set(mapping))
    if missing:
        raise RefusedError(f"the label map has the values {missing[:10]}, which label_info does not name")
    return mapping


def _values(schema: LabelSchema) -> set[int]:
    ignored = set() if schema.ignore_value is None else {schema.ignore_value}
    return ignored | {v for group in schema.names.values() for v in group}


def _guess(values: set[int]) -> LabelSchema:
    try:
        return guess_schema(values | {0, 1} if len(values - {0}) == 0 else values | {0})
    except ConfigError:
        return LabelSchema(names={"background": (0,), "foreground": (1,)}, collapse_instances=True)


def _extended(table: Any, names: Mapping[str, int]) -> dict[str, Any]:
    """Add names to a table of labels, name → value or value → name as it is."""
    content: dict[str, Any] = dict(table) if isinstance(table, dict) else {}
    if content and all(str(key).isdigit() for key in content):
        return content | {str(value): name for name, value in names.items() if str(value) not in content}
    return content | {name: value for name, value in names.items() if name not in content}
