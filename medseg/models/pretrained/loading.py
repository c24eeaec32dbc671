"""Published weights in medseg's networks: read safely, verified, placed strictly, with a report."""

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
from medseg.models.pretrained.key_mapping import TABLES, KeyTable
from medseg.models.pretrained.weight_registry import KNOWN
from medseg.system.download import check_hash

State = Mapping[str, torch.Tensor]
_WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "network_weights", "net")


class WeightsConfig(Spec):
    """Weights a training starts from.

    Attributes:
        file: ``.pth`` or ``.safetensors``.
        known: the name of published weights instead (``medseg weights list``), fetched before by
            ``medseg weights get``.
        keys: whose names its keys are (``medseg.models.pretrained.key_mapping.TABLES``); ``auto`` finds the
            table that fits.
        spread: how kernels of 2D weights are spread over the depth of a 3D network.
        freeze: parameters whose names begin so are not trained (``backbone.``).
        rates: what parameters' names begin with → factor on their learning rate.
    """

    file: Path | None = None
    known: str | None = None
    keys: str = "auto"
    spread: Literal["center", "mean"] = "center"
    freeze: tuple[str, ...] = ()
    rates: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> WeightsConfig:
        if self.file is not None and self.known is not None:
            raise ValueError("give either file or known, not both")
        if self.keys != "auto" and self.keys not in TABLES:
            raise ValueError(f"keys: {self.keys!r} is no table; known: auto, {', '.join(TABLES)}")
        return self


@dataclass(frozen=True)
class Placement:
    """What became of published weights.

    Attributes:
        table: whose keys they were.
        loaded: how many tensors found their place.
        new: keys of the network that keep their initial values: heads of other classes, parts not published.
        dropped: keys of the file that have no place.
        reshaped: keys whose tensors were inflated, or adapted to another number of channels.
    """

    table: str
    loaded: int
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    reshaped: tuple[str, ...]

    def describe(self) -> str:
        """One line for the log."""
        parts = [f"{self.loaded} tensors loaded ({self.table})"]
        for word, keys in (("new", self.new), ("dropped", self.dropped), ("reshaped", self.reshaped)):
            if keys:
                more = ", …" if len(keys) > 3 else ""
                parts.append(f"{len(keys)} {word} ({', '.join(keys[:3])}{more})")
        return "weights: " + "; ".join(parts)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.pth`` or ``.safetensors`` file; nothing in it is executed.

    The SHA-256 in the name of a published file is compared with its content. In any other name, what looks like
    one may be a date or a step (``net-20240115.pth``): it is compared only if the file cannot be read.

    Raises: ModelFileError if it is missing, damaged, holds anything but tensors, or is not the published file
    whose name it has.
    """
    path = Path(path)
    refuse_missing(path)
    if path.name in {entry.file for entry in KNOWN.values()}:
        _check_hash(path)
    try:
        return _read_tensors(path)
    except ModelFileError:
        _check_hash(path)
        raise


def _check_hash(path: Path) -> None:
    try:
        check_hash(path)
    except DataError as error:
        raise ModelFileError(str(error)) from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        raise ModelFileError(f"{path}: truncated, damaged or no file of weights ({error})") from error
    except Exception as error:  # pickle.UnpicklingError: more than tensors is in it
        if not _is_pickle(path):
            raise ModelFileError(f"{path}: no file of weights; its first bytes are none of torch's") from error
        raise ModelFileError(
            f"{path}: holds more than tensors, and is not unpacked because code could run "
            f"({_what_it_holds(error)}). Save its state_dict() alone."
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: expected a mapping of names to tensors, got a {type(content).__name__}")
    named = cast(dict[str, Any], content)
    return {k.removeprefix("module."): v for k, v in named.items() if isinstance(v, torch.Tensor)}


def refuse_missing(path: Path) -> None:
    """Raises: ModelFileError if there is no such file."""
    if not path.is_file():
        raise ModelFileError(
            f"{path}: no such file of weights. Known ones are fetched by: medseg weights get NAME"
        )


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as torch's do: a ZIP archive, or a pickle of protocol 2 or later."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _what_it_holds(error: Exception) -> str:
    """What torch would not unpack, in few words."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return found[1] if found else type(error).__name__


def place(network: nn.Module, state: State, *, keys: str = "auto", spread: str = "center") -> Placement:
    """Load a published state into a network, strictly: every tensor has a place or is reported.

    Heads for another number of classes keep their initial values; auxiliary heads the network lacks are left
    out; a first convolution for another number of channels is adapted; 2D kernels are inflated for 3D.
    Raises: ModelFileError if no table fits, a part of the backbone is missing, or a shape cannot fit.
    """
    wanted = network.state_dict()
    table, renamed, dropped = _best_table(state, wanted) if keys == "auto" else _renamed(keys, state, wanted)
    fitting: dict[str, torch.Tensor] = {}
    reshaped: list[str] = []
    new: list[str] = []
    for key, tensor in renamed.items():
        target = wanted[key]
        if tensor.shape == target.shape:
            fitting[key] = tensor
            continue
        kept = _adapted(key, tensor, target)
        if kept is None:
            new.append(key)
        else:
            fitting[key] = kept
            reshaped.append(key)
    missing = [k for k in wanted if k not in fitting and not k.endswith("num_batches_tracked")]
    loaded = {**wanted, **fitting}
    if any(fitting[key].ndim == wanted[key].ndim - 1 and fitting[key].ndim >= 4 for key in fitting):
        loaded = inflate(loaded, network, spread=center_kernel if spread == "center" else mean_kernel)
    network.load_state_dict(loaded)
    return Placement(table, len(fitting), tuple(sorted({*missing})), tuple(dropped), tuple(reshaped))


def parameter_groups(network: nn.Module, weights: WeightsConfig) -> list[dict[str, Any]]:
    """The parameters to train, frozen ones left out, in groups of one ``factor`` on the learning rate each.

    Raises: ConfigError if a name in ``freeze`` or ``rates`` begins no parameter's name, or nothing is left.
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
        raise ConfigError(f"weights.freeze: {list(weights.freeze)} leaves nothing to train")
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def _adapted(key: str, tensor: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
    """A tensor for a target of another shape; None where it is of other classes.

    Raises: ModelFileError if neither number of channels, nor of classes, nor depth explains the difference.
    """
    deeper = target.ndim == tensor.ndim + 1 and tensor.ndim == 4
    if tensor.ndim != target.ndim and not deeper:
        raise ModelFileError(
            f"{key}: its weights have the shape {tuple(tensor.shape)}, the network {tuple(target.shape)}"
        )
    if tensor.shape[0] != target.shape[0] and tuple(tensor.shape[1:2]) == tuple(target.shape[1:2]):
        return None  # the head of other classes
    if tensor.ndim >= 4 and tensor.shape[0] == target.shape[0] and tensor.shape[1] == 3 != target.shape[1]:
        tensor = adapt_channels(tensor, target.shape[1])
    if tensor.shape[:2] != target.shape[:2]:
        raise ModelFileError(
            f"{key}: its weights have the shape {tuple(tensor.shape)}, the network {tuple(target.shape)}: "
            "build the network with the settings (depth, width, options) of the published one"
        )
    return tensor


def _best_table(state: State, wanted: State) -> tuple[str, dict[str, torch.Tensor], list[str]]:
    """The table under which most keys have a place."""
    found: list[tuple[int, int, str, dict[str, torch.Tensor], list[str]]] = []
    for order, name in enumerate(["", *TABLES]):
        try:
            _, renamed, dropped = _renamed(name, state, wanted)
        except ModelFileError:
            continue
        found.append((len(renamed), -order, name or "medseg's own keys", renamed, dropped))
    if not found or max(found)[0] == 0:
        shown = ", ".join(list(state)[:3])
        raise ModelFileError(
            f"the weights' keys ({shown}, …) fit this network under none of the tables: {', '.join(TABLES)}. "
            "Are they of this architecture, with the same depth and options?"
        )
    _, _, name, renamed, dropped = max(found, key=lambda entry: entry[:2])
    return name, renamed, dropped


def _renamed(name: str, state: State, wanted: State) -> tuple[str, dict[str, torch.Tensor], list[str]]:
    """The state under the network's keys, as it is or as its backbone's, and the keys left out.

    Raises: ModelFileError listing keys without a place.
    """
    table = TABLES[name] if name else KeyTable("medseg", {"": ""})
    result = table.rename(state)
    dropped = list(result.dropped)
    unplaced: list[str] = []
    for prefix in ("", "backbone."):
        placed = {prefix + key: tensor for key, tensor in result.state.items()}
        spare = [k for k in placed if k not in wanted and k.split(".")[0] in ("aux_classifier", "aux")]
        unplaced = [k for k in placed if k not in wanted and k not in spare]
        if not unplaced:
            kept = {key: tensor for key, tensor in placed.items() if key in wanted}
            return name, kept, [*dropped, *spare]
    raise ModelFileError(
        f"{len(unplaced)} keys of {table.source} have no place in the network ({', '.join(unplaced[:3])}, …): "
        "build it with the settings of the published one"
    )
