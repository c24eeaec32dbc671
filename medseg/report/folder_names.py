"""Messages on pages that are passed on: without the folders in which the files lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_FOLDERS = re.compile(r"(?<![\w./:])~?/(?:[^\s/:'\"]+/)+")
"""The folders of an absolute path without spaces; not the slashes of addresses and fractions."""


def without_folders(text: str, paths: Iterable[Path | str] = ()) -> str:
    """Return a message in which files have their names only; their folders may name users or patients.

    Args:
        text: the message.
        paths: files that it may mention. Folders of other files are found too if they are absolute and have no
            spaces in their names.

    Example:
        >>> without_folders("/home/alice/Smith/ct.nii.gz: cannot be read")
        'ct.nii.gz: cannot be read'
        >>> without_folders("My data/Smith John/ct.nii.gz: cannot be read", ["My data/Smith John/ct.nii.gz"])
        'ct.nii.gz: cannot be read'
    """
    if os.sep not in text:
        return text
    folders: set[str] = set()
    for folder in {Path(path).parent for path in paths}:
        for form in (folder.absolute(), folder.resolve()):
            folders |= {str(folder), str(form), *map(str, form.parents)}
    mentioned = [folder for folder in folders - {".", os.sep} if folder in text]
    for folder in sorted(mentioned, key=len, reverse=True):
        text = re.sub(rf"(?<![\w./]){re.escape(folder + os.sep)}", "", text)
    with suppress(RuntimeError):  # there is no home folder
        home = str(Path.home())
        text = text if home == os.sep else text.replace(home, "~")
    return _FOLDERS.sub("", text)
