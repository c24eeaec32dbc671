"""An nnU-Net model as one file that runs nothing when it is read."""

from __future__ import annotations

from pathlib import Path

from medseg.inference.model.model_file import (
    parse_header,
    read_header,
    read_tensors,
    refuse_newer,
    write_tensors,
)
from medseg.interop.nnunet.folder import LoadedNnunet
from medseg.interop.nnunet.header import FORMAT_VERSION, NnunetHeader


def save(path: Path, model: LoadedNnunet) -> None:
    """Write an imported model atomically; its digest is the folder's."""
    write_tensors(path, model.header.model_dump_json(), model.tensors)


def is_file(path: Path) -> bool:
    """Whether a file is one that ``save`` wrote; looks at its header only."""
    return Path(path).is_file() and '"format":"medseg-nnunet"' in (read_header(path) or "")[:60]


def load(path: Path) -> LoadedNnunet:
    """Read and verify a file that ``save`` wrote. Raises: ModelFileError as ``modelfile.load_model``."""
    text, tensors, digest = read_tensors(path)
    header = parse_header(path, text, NnunetHeader)
    refuse_newer(path, header.format_version, FORMAT_VERSION)
    return LoadedNnunet(header, tensors, digest)
