"""Segmentations that OHIF stores in the DICOMweb service, kept as labels of their images."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom

from medseg.data.io.dicom.segmentation import is_dicom_seg, read_segments
from medseg.geometry import Array, Grid
from medseg.server.datastore.dicomweb import RemoteDatastore
from medseg.server.datastore.incoming import check_not_deflated, declared_bytes
from medseg.server.errors import UnknownIdError
from medseg.server.state import ServerState

_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,200})"?', re.IGNORECASE)
_LARGEST = 256 << 20
"""Bytes of a stored body that is searched for segmentations."""


def keep_segmentations(state: ServerState, body: IO[bytes], content_type: str, request: Any) -> int:
    """Save the segmentations in a stored body as labels of the series that they refer to.

    Args:
        state: state of the server.
        body: objects as ``multipart/related``.
        content_type: type of the body, with its boundary.
        request: the request, which names the author.

    Returns:
        The number of labels that were saved.

    Raises:
        DataError: a segmentation does not lie on its image's grid, or cannot be read.
        RefusedError: it is deflated, or has too many voxels.
    """
    from medseg.server.routes.common import author_of

    store, saved = state.datastore, 0
    if not isinstance(store, RemoteDatastore):
        return saved
    folder = state.temporary / "requests"
    folder.mkdir(parents=True, exist_ok=True)
    for part in _parts(body, content_type):
        path = folder / f"{secrets.token_hex(8)}.dcm"
        try:
            path.write_bytes(part)
            check_not_deflated(path)
            image = _segmented_image(path, store)
            if image is not None:
                size = declared_bytes([path]) // 4  # at most two bytes for a voxel
                with state.memory.reserve(size):
                    values = _label_map(path, store, store.scan(image).grid)
                store.save(image, values, author_of(request, image), is_stored=True)
                saved += 1
        finally:
            path.unlink(missing_ok=True)
    return saved


def _parts(body: IO[bytes], content_type: str) -> Iterator[bytes]:
    """Yield the objects in a body."""
    found = _BOUNDARY.search(content_type)
    content = body.read(_LARGEST + 1)
    if found is None or len(content) > _LARGEST:
        return
    mark = b"--" + found[1].encode("latin-1", "replace")
    for part in (b"\r\n" + content).split(b"\r\n" + mark)[1:]:
        if part.startswith(b"--"):
            return
        yield part.partition(b"\r\n\r\n")[2]


def _segmented_image(path: Path, store: RemoteDatastore) -> str | None:
    """Return the id of the image that an object segments; None for other objects."""
    if not is_dicom_seg(path):
        return None
    header: Any = pydicom.dcmread(path, stop_before_pixels=True)
    for item in header.get("ReferencedSeriesSequence") or []:
        with suppress(UnknownIdError):
            return store.case(str(item.get("SeriesInstanceUID", ""))).id
    return None


def _label_map(path: Path, store: RemoteDatastore, grid: Grid) -> Array:
    """Return the segments as label map; their names get the dataset's values. Later segments are on top."""
    segments = read_segments(path, grid)
    names = {number: name.strip() or f"segment {number}" for number, name in segments.names.items()}
    store.add_labels(list(names.values()))
    values = np.zeros(grid.shape, np.int64)
    for number, mask in sorted(segments.masks.items()):
        values[mask] = store.names.value_of(names[number])
    return values
