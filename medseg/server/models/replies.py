"""Label maps as files for viewers, and the multipart reply of ``/infer``."""

from __future__ import annotations

import gzip
import json
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.io.nifti import INTENT_LABEL, write_nifti
from medseg.data.scans import Scan
from medseg.geometry import LPS_TO_RAS, Array

_NRRD_TYPES = {
    "uint8": "unsigned char", "int8": "signed char", "uint16": "unsigned short", "int16": "short",
    "uint32": "unsigned int", "int32": "int", "uint64": "unsigned long long", "int64": "long long",
}  # fmt: skip


def volume_of(label_map: Array, scan: Scan) -> tuple[Array, Array]:
    """Return a label map as volume (X, Y, Z) with its affine in LPS mm; a picture is one slice."""
    if scan.kind == "volume":
        return label_map, LPS_TO_RAS @ scan.grid.affine
    height, width = scan.grid.spacing
    return label_map.T[..., None], np.diag([width, height, 1.0, 1.0])


def encode_nrrd(volume: Array, affine: Array, *, compress: bool) -> bytes:
    """Encode a volume as NRRD.

    Args:
        volume: (X, Y, Z) integers.
        affine: voxel to LPS mm.
        compress: whether voxels are compressed (gzip).
    """
    data = np.ascontiguousarray(volume.T).astype(volume.dtype.newbyteorder("<"), copy=False).tobytes()
    directions = " ".join(f"({_join(affine[:3, axis])})" for axis in range(3))
    header = [
        "NRRD0004",
        f"type: {_NRRD_TYPES[volume.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, volume.shape))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {'gzip' if compress else 'raw'}",
        f"space origin: ({_join(affine[:3, 3])})",
    ]
    body = gzip.compress(data, compresslevel=1, mtime=0) if compress else data
    return ("\n".join(header) + "\n\n").encode("ascii") + body


def encode_label_map(label_map: Array, scan: Scan, suffix: str, *, compress: bool) -> tuple[bytes, str]:
    """Encode a label map in the format that a viewer asks for, else as NRRD.

    Returns:
        The file's bytes and its suffix.
    """
    if suffix in (".nii", ".nii.gz") and scan.kind == "volume":
        with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
            path = Path(folder) / f"label{suffix}"
            write_nifti(path, label_map, scan, intent_code=INTENT_LABEL)
            return path.read_bytes(), suffix
    volume, affine = volume_of(label_map, scan)
    return encode_nrrd(volume, affine, compress=compress), ".nrrd"


def multipart(parameters: Mapping[str, Any], name: str, content: bytes) -> tuple[bytes, str]:
    """Return the body and the content type of a form with ``params`` and, with a file name, ``image``."""
    boundary = f"medseg-{secrets.token_hex(16)}"
    parts = [
        f"--{boundary}\r\n".encode(),
        b'Content-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n',
        json.dumps(parameters).encode(),
        f"\r\n--{boundary}\r\n".encode(),
        f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n'.encode(),
        b"Content-Type: application/octet-stream\r\n\r\n",
        content,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def _join(values: Array) -> str:
    return ",".join(repr(float(value)) for value in values)
