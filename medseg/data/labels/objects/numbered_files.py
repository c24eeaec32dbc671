"""Files of objects whose names differ only by a number: ``labels/CASE/mask_0.png``, ``mask_1.png`` …"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.readers import image_stem, read_scan
from medseg.data.scans import as_label_map
from medseg.errors import DataError

_NUMBER = re.compile(r"(.*?)[-_. ]?\d+")
_READ = 8
"""Files that are read to see whether they are binary."""


def describe_numbered_files(cases: Sequence[Case]) -> str | None:
    """Return that files are taken for the objects of their cases, if their names differ only by a number.

    Names may begin with the case: ``CASE_1``, ``CASE_2``. The names must be those of the files, as in a folder
    for each case, and a sample of the files must be binary: files of several values number the objects of a
    label each.

    Args:
        cases: of a dataset without declared labels.

    Returns:
        One line; None for other files.
    """
    files = [(case, name, path) for case in cases for name, path in case.masks.items()]
    names = list(dict.fromkeys(name for _, name, _ in files))
    if len(names) < 2 or any(image_stem(path) != name for _, name, path in files):
        return None
    whole = {_without_number(name) for _, name, _ in files}
    short = {_without_number(name.removeprefix(case.id)) for case, name, _ in files}
    if not any(len(found) == 1 and None not in found for found in (whole, short)):
        return None
    chosen = np.unique(np.linspace(0, len(files) - 1, _READ).round().astype(int)).tolist()
    if not all(_is_binary(files[index][2]) for index in chosen):
        return None
    return (
        f"each file is taken for an object of one label, because the files are binary and their names differ "
        f"only by a number ({', '.join(names[:2])}{', …' if len(names) > 2 else ''}); if they are labels, name "
        "them under data.labels.names"
    )


def _without_number(name: str) -> str | None:
    """Return a name without the number at its end; None if there is none.

    Example:
        >>> [_without_number(name) for name in ("mask_01", "7", "object-2", "liver")]
        ['mask', '', 'object', None]
    """
    found = _NUMBER.fullmatch(name)
    return None if found is None else found[1]


def _is_binary(path: Path) -> bool:
    """Return whether a file has one value besides 0; if it cannot be read, the reader will say why."""
    try:
        values = np.unique(as_label_map(read_scan(path)))
    except (DataError, OSError):
        return True
    return int(np.count_nonzero(values)) <= 1
