"""``FOLDER#SERIES`` and ``FILE#ARRAY``: paths that choose one part of what lies there."""

from __future__ import annotations

from pathlib import Path


def split_selector(path: Path) -> tuple[Path, str | None]:
    """``FOLDER#SERIES`` or ``FILE#ARRAY`` in its two parts; (path, None) where nothing is marked.

    A ``#`` in the name of a file or folder that exists, or of a folder above it, is part of the name.
    """
    path = Path(path)
    base, marker, mark = str(path).rpartition("#")
    if not marker or not base or path.exists():
        return path, None
    marked = Path(base)
    within = marked.is_file() or (marked.is_dir() and "/" not in mark)  # arrays have such names, series do not
    return (marked, mark) if within else (path, None)
