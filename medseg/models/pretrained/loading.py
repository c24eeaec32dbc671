"""Load published weights into medseg's networks: read safely, verified, checked key by key, with a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from medseg.config.base import Spec
from medseg.errors import ConfigError, DataError, ModelFileError
from medseg.models.pretrained.inflation import adapt_channels, center_kernel, inflate, mean_kernel
from medseg.models.pretrained.key_mapping import KEY_TABLES, KeyTable
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS
from medseg.system.download import check_hash

StateDict = Mapping[str, torch.Tensor]
_WRAPPERS = (
    "state_dict",
    "model",
    "model_state",
    "model_state_dict",
    "network_weights",
    "net",
    "averaged",
    "network",
)


class WeightsConfig(Spec):
    """Weights from which a training starts.

    Attributes:
        file: ``.pth`` or ``.safetensors`` file.
        published: name of published weights instead of a file (``medseg weights list``), downloaded
            beforehand by ``medseg weights get``.
        keys: name of the table of the file's keys (``medseg.models.pretrained.key_mapping.KEY_TABLES``);
            ``auto`` selects the table that fits.
        spread: how kernels of 2D weights are spread over the depth of a 3D network.
        freeze: prefixes of the names of parameters that are not trained (``backbone.``).
        rates: prefix of parameters' names → factor on their learning rate.
    """

    file: Path | None = None
    published: str | None = None
    keys: str = "auto"
    spread: Literal["center", "mean"] = "center"
    freeze: tuple[str, ...] = ()
    rates: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> WeightsConfig:
        if self.file is not None and self.published is not None:
            raise ValueError("give either file or published, not both")
        if self.keys != "auto" and self.keys not in KEY_TABLES:
            raise ValueError(f"keys: there is no table {self.keys!r}; available: auto, {', '.join(KEY_TABLES)}")
        return self


@dataclass(frozen=True)
class LoadReport:
    """Result of loading published weights into a network.

    Attributes:
        table: name of the key table that was used.
        loaded: number of tensors that were loaded.
        new: keys of the network that keep their initial values: heads of other classes, unpublished parts.
        dropped: keys of the file that were not loaded.
        reshaped: keys whose tensors were inflated, or adapted to another number of channels.
    """

    table: str
    loaded: int
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    reshaped: tuple[str, ...]

    def describe(self) -> str:
        """Return one line for the log."""
        parts = [f"{self.loaded} tensors loaded ({self.table})"]
        for word, keys in (("new", self.new), ("dropped", self.dropped), ("reshaped", self.reshaped)):
            if keys:
                more = ", …" if len(keys) > 3 else ""
                parts.append(f"{len(keys)} {word} ({', '.join(keys[:3])}{more})")
        return "weights: " + "; ".join(parts)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a ``.pth`` or ``.safetensors`` file without executing any code in it.

    The SHA-256 in the name of a published file is compared with the content. In any other name, digits that
    look like a hash can be a date or a step (``net-20240115.pth``): they are compared only if the file cannot
    be read.

    Raises:
        ModelFileError: if the file is missing or damaged, holds more than tensors, or has the name of a
            published file but another content.
    """
    path = Path(path)
    check_weights_exist(path)
    if path.name in {entry.file for entry in PUBLISHED_WEIGHTS.values()}:
        _check_hash(path)
    try:
        return _read_tensors(path)
    except ModelFileError:
        _check_hash(path)
        raise


def check_weights_exist(path: Path) -> None:
    """Check that a file of weights exists.

    Raises:
        ModelFileError: if there is no such file.
    """
    if not path.is_file():
        raise ModelFileError(
            f"{path}: no such file of weights",
            hint="Download published weights with: medseg weights get NAME",
            path=path,
        )


def load_pretrained(
    network: nn.Module, state: StateDict, *, keys: str = "auto", spread: str = "center"
) -> LoadReport:
    """Load a published state dict into a network; every tensor is loaded or listed in the report.

    Heads for another number of classes keep their initial values, auxiliary heads that the network lacks are
    left out, a first convolution for another number of channels is adapted, and 2D kernels are inflated for
    3D.

    Args:
        network: the network, changed in place.
        state: published key → tensor.
        keys: name of the key table; ``auto`` selects the one that fits.
        spread: ``center`` or ``mean``: how 2D kernels are spread over depth.

    Raises:
        ModelFileError: if no table fits, a part of the backbone is missing, or a shape cannot fit.
    """
    wanted = network.state_dict()
    match = _best_match(state, wanted) if keys == "auto" else _match_keys(keys, state, wanted)
    channels = _image_channels(match.state, wanted)
    fitting: dict[str, torch.Tensor] = {}
    reshaped: list[str] = []
    for key, tensor in match.state.items():
        first = tensor.ndim >= 4 and (tensor.shape[1], wanted[key].shape[1]) == channels
        adapted = _adapt_shape(key, tensor, wanted[key], first=first)
        if adapted is None:
            continue
        fitting[key] = adapted
        if tensor.shape != wanted[key].shape:
            reshaped.append(key)
    missing = sorted(k for k in wanted if k not in fitting and not k.endswith("num_batches_tracked"))
    loaded = {**wanted, **fitting}
    if any(4 <= tensor.ndim == wanted[key].ndim - 1 for key, tensor in fitting.items()):
        loaded = inflate(loaded, network, spread=center_kernel if spread == "center" else mean_kernel)
    network.load_state_dict(loaded)
    return LoadReport(match.table, len(fitting), tuple(missing), tuple(match.dropped), tuple(reshaped))


def parameter_groups(network: nn.Module, weights: WeightsConfig) -> list[dict[str, Any]]:
    """Return the parameters to train as groups with one learning-rate ``factor`` each, and freeze the others.

    Raises:
        ConfigError: if no parameter has a prefix in ``freeze`` or ``rates``, or no parameter is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for prefix in (*weights.freeze, *weights.rates):
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise ConfigError(f"weights: no parameter's name begins with {prefix!r}; they begin with: {parts}")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if name.startswith(weights.freeze):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            fitting = [prefix for prefix in weights.rates if name.startswith(prefix)]
            factor = weights.rates[max(fitting, key=len)] if fitting else 1.0
            groups.setdefault(factor, []).append(parameter)
    if not groups:
        raise ConfigError(f"weights.freeze: {list(weights.freeze)} leaves no parameter to train")
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


@dataclass(frozen=True)
class _KeyMatch:
    """A state dict under a network's keys.

    Attributes:
        table: name of the key table.
        state: the network's key → tensor.
        dropped: published keys that were left out.
    """

    table: str
    state: dict[str, torch.Tensor]
    dropped: list[str]


def _best_match(state: StateDict, wanted: StateDict) -> _KeyMatch:
    """Return the match with most keys of all tables; of several, that of the first table."""
    matches: list[_KeyMatch] = []
    for name in ["", *KEY_TABLES]:
        try:
            matches.append(_match_keys(name, state, wanted))
        except ModelFileError:
            continue
    best = max(matches, key=lambda match: len(match.state), default=None)
    if best is None or not best.state:
        shown = ", ".join(list(state)[:3])
        raise ModelFileError(
            f"the weights' keys ({shown}, …) fit this network with none of the tables: {', '.join(KEY_TABLES)}",
            hint="Check that the weights are of this architecture, with the same depth and options.",
        )
    return best


def _match_keys(name: str, state: StateDict, wanted: StateDict) -> _KeyMatch:
    """Rename a state dict by a table, to the keys of the network or of its backbone.

    Raises:
        ModelFileError: if keys have no counterpart in the network.
    """
    table = KEY_TABLES[name] if name else KeyTable("medseg", {"": ""})
    result = table.rename(state)
    unmatched: list[str] = []
    for prefix in ("", "backbone."):
        renamed = {prefix + key: tensor for key, tensor in result.state.items()}
        spare = [k for k in renamed if k not in wanted and k.split(".")[0] in ("aux_classifier", "aux")]
        unmatched = [k for k in renamed if k not in wanted and k not in spare]
        if not unmatched:
            kept = {key: tensor for key, tensor in renamed.items() if key in wanted}
            return _KeyMatch(name or "medseg's own keys", kept, [*result.dropped, *spare])
    raise ModelFileError(
        f"{len(unmatched)} keys of {table.source} do not exist in the network ({', '.join(unmatched[:3])}, …)",
        hint="Build the network with the settings of the published one.",
    )


def _image_channels(state: StateDict, wanted: StateDict) -> tuple[int, int] | None:
    """Return the input channels of the first convolution in a state dict and in a network."""
    shared = [key for key in wanted if key in state]
    first = next((key for key in shared if wanted[key].ndim >= 4 <= state[key].ndim), None)
    return None if first is None else (state[first].shape[1], wanted[first].shape[1])


def _adapt_shape(key: str, tensor: torch.Tensor, target: torch.Tensor, *, first: bool) -> torch.Tensor | None:
    """Adapt a tensor to a target's shape, except for depth; return None for the head of other classes.

    Raises:
        ModelFileError: if channels, classes and depth do not explain the difference.
    """
    if tensor.shape == target.shape:
        return tensor
    shapes = f"{key}: the weights have shape {tuple(tensor.shape)}, the network {tuple(target.shape)}"
    deeper = target.ndim == tensor.ndim + 1 and tensor.ndim == 4
    if tensor.ndim != target.ndim and not deeper:
        raise ModelFileError(shapes)
    if tensor.shape[0] != target.shape[0] and tuple(tensor.shape[1:2]) == tuple(target.shape[1:2]):
        return None
    if tensor.ndim >= 4 and tensor.shape[0] == target.shape[0] and first and tensor.shape[1] != target.shape[1]:
        tensor = adapt_channels(tensor, target.shape[1])
    if tensor.shape[:2] != target.shape[:2]:
        raise ModelFileError(
            shapes, hint="Build the network with the settings (depth, width, options) of the published one."
        )
    return tensor


def _check_hash(path: Path) -> None:
    try:
        check_hash(path)
    except DataError as error:
        raise ModelFileError(error.message, hint=error.hint, path=path) from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)  # without the first stage of a cascade
            return {name: tensor for name, tensor in tensors.items() if not name.startswith("first_stage.")}
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        raise ModelFileError(
            f"{path}: truncated, damaged or not a file of weights ({error})", path=path
        ) from error
    except Exception as error:  # UnpicklingError if it holds more than tensors; a damaged pickle can raise any
        if not _is_pickle(path):
            raise ModelFileError(
                f"{path}: not a file of weights: it does not begin as PyTorch's do", path=path
            ) from error
        raise ModelFileError(
            f"{path}: holds more than tensors ({_describe_pickle(error)}) and is not loaded, because "
            "loading it could run code",
            hint="Save its state_dict() alone.",
            path=path,
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ModelFileError(
            f"{path}: expected a mapping of names to tensors, got a {type(content).__name__}", path=path
        )
    named = cast(dict[str, Any], content)
    return {k.removeprefix("module."): v for k, v in named.items() if isinstance(v, torch.Tensor)}


def _is_pickle(path: Path) -> bool:
    """Return whether a file begins as PyTorch's do: a ZIP archive, or a pickle of protocol 2 or later."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _describe_pickle(error: Exception) -> str:
    """Return the name of the object that PyTorch did not unpickle."""
    match = re.search(r"GLOBAL (\S+)", str(error))
    return match[1] if match else type(error).__name__
