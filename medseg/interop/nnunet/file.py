"""Store an imported nnU-Net model in one file; loading it runs no code."""

from __future__ import annotations

from pathlib import Path

from medseg.inference.model.model_file import (
    check_format_version,
    parse_header,
    read_header,
    read_tensors,
    write_tensors,
)
from medseg.interop.nnunet.folder import LoadedNnunet
from medseg.interop.nnunet.header import FORMAT_VERSION, NnunetHeader


def write_nnunet_file(path: Path, model: LoadedNnunet) -> None:
    """Write an imported model atomically; its digest equals that of the trained folder."""
    write_tensors(path, model.header.model_dump_json(), model.tensors)


def is_nnunet_file(path: Path) -> bool:
    """Whether a file contains an imported nnU-Net model; reads only its header."""
    return Path(path).is_file() and '"format":"medseg-nnunet"' in (read_header(path) or "")[:60]


def load_nnunet_file(path: Path) -> LoadedNnunet:
    """Read and verify a file written by :func:`write_nnunet_file`.

    Raises:
        ModelFileError: the file is damaged or of a newer version.
    """
    text, tensors, digest = read_tensors(path)
    header = parse_header(path, text, NnunetHeader)
    check_format_version(path, header.format_version, FORMAT_VERSION)
    return LoadedNnunet(header, tensors, digest)
