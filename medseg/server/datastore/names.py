"""Names and values of a dataset's labels, and their declaration for trainings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.data.labels.names.files import NameTable, read_label_names
from medseg.data.labels.schema import LabelSchema, guess_schema
from medseg.errors import ConfigError
from medseg.files import write_atomic, write_json
from medseg.server.datastore.name_tables import extend_table
from medseg.server.errors import RefusedError
from medseg.system.locks import wait_for_lock

_MOST_NAMES = 1000
_LONGEST_NAME = 128
_LARGEST_BYTE = 255
_OBJECTS = LabelSchema(names={"background": (0,), "foreground": (1,)}, collapse_instances=True)


class LabelNames:
    """The labels of a dataset: declared by its layout, by a file beside it, or by the server's options.

    New names are added to the file that declares the labels, in its own form; without one, to ``labels.json``.
    The file is read again before it is changed, because other programs and other servers may have changed it.
    Methods can be called from several threads.

    Args:
        folder: folder of the dataset.
        declared: returns the labels that the dataset's layout declares.
        present: returns the values in existing label maps, all or, with ``everything=False``, of some.
        suggested: labels to use where the dataset declares none.
        numbered: whether the label maps seem to number objects.
    """

    def __init__(
        self,
        folder: Path,
        declared: Callable[[], LabelSchema | None],
        present: Callable[..., set[int]],
        suggested: LabelSchema | None = None,
        numbered: Callable[[], bool] = lambda: False,
    ) -> None:
        self._numbered = numbered
        self._folder, self._declared, self._present = folder, declared, present
        self._suggested = suggested
        self._lock = threading.RLock()
        self.schema = self._read()

    @property
    def values(self) -> dict[str, int]:
        """Name → value in label files, without the background."""
        schema = self.schema
        names = list(schema.names.items())[1 if schema.background else 0 :]
        return {name: values[0] for name, values in names}

    @property
    def all_values(self) -> set[int]:
        """Every value that a label map may hold."""
        return self.schema.declared_values

    @property
    def is_declared(self) -> bool:
        """Whether the dataset itself declares its labels."""
        return self._from_layout or self._table is not None

    def add(self, names: Iterable[str]) -> dict[str, int]:
        """Give names that are new free values, and declare them; return all names.

        Raises:
            RefusedError: a name is not printable, too long, or cannot be added to what declares the labels.
        """
        wanted = list(dict.fromkeys(names))
        with self._lock:
            if not self._new(wanted):
                return self.values
            with wait_for_lock(self._folder / ".medseg" / ".names.lock"):
                self.schema = self._read(everything=True)
                new = self._new(wanted)
                if new:
                    self._write({name: self._value_for(name, new) for name in new}, new)
            return self.values

    def value_of(self, name: str) -> int:
        """Return the value of a label, whatever the case of its name.

        Raises:
            RefusedError: there is no such label.
        """
        by_name = {one.casefold(): values[0] for one, values in self.schema.names.items()}
        if name.casefold() not in by_name:
            raise RefusedError("there is no label of this name")
        return by_name[name.casefold()]

    def declare(self) -> None:
        """Write names that come from a model or from options into the dataset, for trainings."""
        with self._lock:
            if not self.is_declared and self._is_suggested:
                with wait_for_lock(self._folder / ".medseg" / ".names.lock"):
                    self.schema = self._read(everything=True)
                    if not self.is_declared and self._is_suggested:
                        self._write({}, [])

    def _read(self, *, everything: bool = False) -> LabelSchema:
        """Read what declares the labels; all label maps are looked at before names are written."""
        layout = self._declared()
        self._table: NameTable | None = None
        self._from_layout, self._is_suggested = layout is not None, False
        if layout is not None:
            return layout
        values = self._present(everything=everything)
        self._table = read_label_names(self._folder, values)
        if self._table is not None:
            return self._table.schema
        if self._suggested is not None and values <= self._suggested.declared_values:
            self._is_suggested = True
            return self._suggested
        return _OBJECTS if len(values) > 2 and self._numbered() else _guess(values)

    def _new(self, names: Iterable[str]) -> list[str]:
        """Return the names that are not known.

        Raises:
            RefusedError: one is not acceptable.
        """
        known = {name.casefold() for name in self.schema.names}
        new: list[str] = []
        for name in names:
            if name.casefold() in known:
                continue
            if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME or '"' in name:
                raise RefusedError(f"names of labels are printable, of at most {_LONGEST_NAME} characters")
            known.add(name.casefold())
            new.append(name.strip())
        if len(known) > _MOST_NAMES:
            raise RefusedError(f"a dataset has at most {_MOST_NAMES} labels")
        return new

    def _value_for(self, name: str, new: list[str]) -> int:
        """Return the value of a new name: behind the largest, but within a byte if one is free."""
        taken = self.schema.declared_values | self._present(everything=True)
        largest = max(taken) + 1 + new.index(name)
        if largest <= _LARGEST_BYTE:
            return largest
        free = [value for value in range(1, _LARGEST_BYTE) if value not in taken]
        return free[new.index(name)] if new.index(name) < len(free) else largest

    def _write(self, added: dict[str, int], new: list[str]) -> None:
        """Add names to what declares the labels, and check that they are read again with their values.

        Raises:
            RefusedError: they are not; what declared the labels is as before.
        """
        path, is_new = self._target()
        before = path.read_bytes() if path.is_file() else None
        expected = {name: values[0] for name, values in self.schema.names.items()} | added
        if is_new:
            rows = [self._row(name, value) for name, value in expected.items()]
            write_json(path, rows if self.schema.colors else expected)
        else:
            extend_table(path, added)
        schema = self._read(everything=True)
        found = {name: values[0] for name, values in schema.names.items()}
        if any(found.get(name) != value for name, value in expected.items()):
            if before is None:
                path.unlink()
            else:
                with write_atomic(path) as temporary:
                    temporary.write_bytes(before)
            self.schema = self._read()
            raise RefusedError(f"{new}: cannot be added to {path.name}; add them there by hand")
        self.schema = schema

    def _target(self) -> tuple[Path, bool]:
        """Return the file that names are added to, and whether it is a new one.

        Color tables may list many labels of which the dataset holds none; names are not added to them.

        Raises:
            RefusedError: the layout fixes the labels, or another ``labels.json`` is in the way.
        """
        if self._from_layout:
            path = self._folder / "dataset.json"
            if not path.is_file():
                raise RefusedError(f"the dataset has the labels {', '.join(self.values)}; it cannot get others")
            return path, False
        if self._table is not None and self._table.path.name in ("labels.json", "labels.txt", "dataset.json"):
            return self._table.path, False
        path = self._folder / "labels.json"
        if path.exists():
            raise RefusedError("labels.json does not name every value in the label maps; add the names there")
        return path, True

    def _row(self, name: str, value: int) -> dict[str, Any]:
        color = self.schema.colors.get(name)
        return {"value": value, "name": name} | ({} if color is None else {"color": list(color)})


def label_schema(names: Iterable[str]) -> LabelSchema | None:
    """Return labels with the values 1, 2, …; None without names."""
    table = {name: (index,) for index, name in enumerate(names, 1)}
    return LabelSchema(names={"background": (0,), **table}) if table else None


def map_values(info: Any, present: set[int], names: LabelNames) -> Mapping[int, int] | None:
    """Return value in a client's label map → value in the dataset.

    Clients list the names of their segments with an index. The values are these indices; but 3D Slicer numbers
    the segments that it saves from 1, whatever their (ascending) indices.

    Args:
        info: list of ``{"name": …, "idx": …}``; anything else means that the values are those of the dataset.
        present: values in the client's label map, without 0.
        names: the labels; new names are added.

    Raises:
        RefusedError: a name is not acceptable, a value has no name, or two.
    """
    listed = info if isinstance(info, list) else []
    entries = [one for one in listed if isinstance(one, dict) and isinstance(one.get("name"), str)]
    if not entries:
        return None
    wanted = [one["name"].strip() for one in entries]
    indices = [int(i) for one in entries if isinstance(i := one.get("idx"), int) and i > 0]
    readings = [dict(enumerate(wanted, 1))]
    if len(set(indices)) == len(entries):
        readings.insert(0, dict(zip(indices, wanted, strict=True)))
    fitting = [reading for reading in readings if present <= set(reading)]
    if not fitting:
        raise RefusedError(f"the label map has values of {sorted(present)[:10]} that label_info does not name")
    differ = any(fitting[0][value] != fitting[-1][value] for value in present)
    if differ and indices == sorted(indices):
        raise RefusedError("label_info is ambiguous: the values are its indices, or its positions from 1")
    names.add(wanted)
    return {key: names.value_of(name) for key, name in fitting[0].items()}


def _guess(values: set[int]) -> LabelSchema:
    try:
        return guess_schema(values | {0} if values - {0} else {0, 1})
    except ConfigError:
        return _OBJECTS
