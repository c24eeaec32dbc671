"""Ensembles in one file: the headers and the weights of several models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg.config.base import Spec
from medseg.inference.model.model_file import (
    LoadedModel,
    ModelHeader,
    check_format_version,
    digest_of,
    parse_header,
    read_header,
    read_tensors,
    write_tensors,
)
from medseg.system.version import medseg_version

FORMAT_VERSION = 1


class EnsembleHeader(Spec):
    """Header of a file with several models, whose probabilities are averaged.

    Attributes:
        format: kind of the file.
        format_version: version of the file format.
        medseg_version: version of medseg that wrote the file.
        members: headers of the models. Their weights have names that begin with ``0.``, ``1.`` …
        training: summary of how the ensemble was made; without paths and identities.
    """

    format: Literal["medseg-ensemble"] = "medseg-ensemble"
    format_version: int = FORMAT_VERSION
    medseg_version: str = Field(default_factory=medseg_version)
    members: tuple[ModelHeader, ...] = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)


def save_ensemble(path: Path, models: Sequence[LoadedModel], training: dict[str, Any]) -> str:
    """Write several models into one file atomically.

    Args:
        path: the file to write.
        models: the models, at least one.
        training: summary of how the ensemble was made.

    Returns:
        The digest: SHA-256 over header and tensors.
    """
    header = EnsembleHeader(members=tuple(model.header for model in models), training=training)
    tensors = {
        f"{index}.{name}": tensor
        for index, model in enumerate(models)
        for name, tensor in model.tensors.items()
    }
    return write_tensors(path, header.model_dump_json(), tensors)


def load_ensemble(path: Path) -> tuple[EnsembleHeader, list[LoadedModel]]:
    """Read and verify a file with several models.

    Returns:
        The header, and each model with the digest that its own file would have.

    Raises:
        ModelFileError: the file is missing, foreign, truncated, has changed since it was written, or has a
            newer format.
    """
    text, tensors, _ = read_tensors(path)
    header = parse_header(path, text, EnsembleHeader)
    check_format_version(path, header.format_version, FORMAT_VERSION)
    models: list[LoadedModel] = []
    for index, member in enumerate(header.members):
        prefix = f"{index}."
        weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        models.append(LoadedModel(member, weights, digest_of(member.model_dump_json(), weights)))
    return header, models


def is_ensemble_file(path: Path) -> bool:
    """Return whether a file contains several models; only its header is read."""
    return path.is_file() and '"format":"medseg-ensemble"' in (read_header(path) or "")[:60]
