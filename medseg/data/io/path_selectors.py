"""Selectors in paths: ``FOLDER#SERIES`` and ``FILE#ARRAY`` select a part of a folder or file."""

from __future__ import annotations

from pathlib import Path


def split_selector(path: Path) -> tuple[Path, str | None]:
    """Split ``FOLDER#SERIES`` or ``FILE#ARRAY`` into path and selector.

    A ``#`` in the name of an existing file or folder, or of one of its parents, is part of the name.

    Returns:
        The path and the selector; the selector is None if there is none.

    Example:
        >>> split_selector(Path("scan.nii.gz"))[1] is None
        True
    """
    path = Path(path)
    base, hash_sign, selector = str(path).rpartition("#")
    if not hash_sign or not base or path.exists():
        return path, None
    parent = Path(base)
    selects = parent.is_file() or (parent.is_dir() and "/" not in selector)  # only arrays may contain "/"
    return (parent, selector) if selects else (path, None)
