"""Load SAM, MedSAM and SAM 2.1 from a file, a folder in Hugging Face's layout, or a published name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from medseg.errors import ConfigError, ModelFileError
from medseg.files import as_json_object, similar_sibling
from medseg.models.pretrained.loading import read_state
from medseg.sam.embeddings import EmbeddingStore
from medseg.sam.network import SamNetwork
from medseg.sam.official_keys import (
    is_official_sam,
    is_official_sam2,
    rename_sam,
    rename_sam2,
    sam2_settings,
    sam_settings,
    with_shared_embedding,
    without_video,
)
from medseg.sam.options import SamOptions
from medseg.sam.pictures import Preprocessing
from medseg.sam.published import PUBLISHED_SAM
from medseg.sam.session import Sam
from medseg.system.device import resolve_device

if TYPE_CHECKING:
    from torch import nn

RECORD = "medseg_sam.json"
"""File of a folder that ``medseg sam finetune`` writes, with the preprocessing of the model."""

EMBEDDINGS = Path("~/.cache/medseg/embeddings")
"""Default folder of embeddings."""

_KINDS = ("sam", "sam2", "sam2_video")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def is_sam(source: Path | str) -> bool:
    """Whether a source is the name of published SAM weights, a folder with a SAM or a file with SAM's keys.

    The weights of a file are not read, and nothing is imported that takes long.
    """
    path = Path(source)
    if path.is_dir():
        return _read_settings(path).get("model_type") in _KINDS
    if not path.exists():
        return str(source) in PUBLISHED_SAM
    keys = dict.fromkeys(_read_keys(path), torch.empty(0))
    return is_official_sam(keys) or is_official_sam2(keys)


def load_sam(
    source: Path | str,
    options: SamOptions | None = None,
    *,
    weights: Path | None = None,
    store: EmbeddingStore | None = None,
    device: str = "auto",
) -> Sam:
    """Load a SAM, MedSAM or SAM 2.1 that answers prompts.

    Args:
        source: as :func:`load_network`.
        options: how scans are shown and prompted.
        weights: file of published weights; None: the file that ``medseg weights get`` downloaded.
        store: keeps embeddings; None: in memory and, up to 8 GB, in ``~/.cache/medseg/embeddings``.
        device: where to compute.

    Raises:
        ConfigError, ModelFileError: as :func:`load_network`.
    """
    network = load_network(source, weights=weights, device=device)
    store = store or EmbeddingStore(EMBEDDINGS.expanduser())
    return Sam(network, options, store, name=Path(source).stem if Path(source).is_file() else Path(source).name)


def load_network(
    source: Path | str,
    *,
    weights: Path | None = None,
    preprocessing: Preprocessing | None = None,
    device: str = "auto",
) -> SamNetwork:
    """Load a SAM, MedSAM or SAM 2.1.

    No code in the file is executed, and every tensor must match the network.

    Args:
        source: a name of ``PUBLISHED_SAM``; a file in the official layout (``.pth``, ``.pt``,
            ``.safetensors``); or a folder with ``config.json`` and ``model.safetensors``.
        weights: file of published weights; None: the file that ``medseg weights get`` downloaded.
        preprocessing: how pictures are prepared; None: that of the published weights, for a file ``medsam`` if
            its name begins so.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        ConfigError: there is no such name or file, or transformers is not installed.
        ModelFileError: the weights are missing, damaged or those of another network.
    """
    path = _resolve(source, weights)
    if path.is_dir():
        model, default = _load_folder(path)
    else:
        model, default = _load_file(path)
    if str(source) in PUBLISHED_SAM and not Path(source).exists():
        default = PUBLISHED_SAM[str(source)].preprocessing
    return SamNetwork(model, preprocessing or default, resolve_device(device))


def _read_keys(path: Path) -> list[str]:
    """Return the names of the tensors in a file without reading them; empty for other files."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return list(file.keys())
        if path.suffix not in (".pth", ".pt", ".bin"):
            return []
        content: Any = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception:  # whatever it is, it is not a SAM
        return []
    content = content.get("model", content) if isinstance(content, dict) else {}
    return [str(key).removeprefix("module.") for key in content] if isinstance(content, dict) else []


def _resolve(source: Path | str, weights: Path | None) -> Path:
    """Return the file or folder of a source."""
    path = weights or Path(source)
    if weights is None and not path.exists():
        if str(source) not in PUBLISHED_SAM:
            near = similar_sibling(path)
            hint = (
                f"did you mean {near}?" if near else f"expected a file, a folder, or {', '.join(PUBLISHED_SAM)}"
            )
            raise ConfigError(f"{source}: no such SAM; {hint}", path=path)
        path = PUBLISHED_SAM[str(source)].path()
    if not path.exists():
        raise ModelFileError(
            f"{path}: no such file; the weights of {source} have not been downloaded",
            hint=f"Download them with medseg weights get {source}, or give the file with --weights FILE.",
            path=path,
        )
    return path


def _load_file(path: Path) -> tuple[nn.Module, Preprocessing]:
    """Load a file in an official layout."""
    state = read_state(path)
    try:
        if is_official_sam(state):
            renamed = rename_sam(state)
            model = _build("sam", sam_settings(renamed), renamed, path)
            return model, "medsam" if path.name.lower().startswith("medsam") else "sam"
        if is_official_sam2(state):
            renamed = rename_sam2(state)
            return _build("sam2", sam2_settings(renamed), renamed, path), "sam2"
    except KeyError as error:
        raise ModelFileError(f"{path}: the weights lack {error}, which SAM has", path=path) from error
    except ModelFileError as error:
        if error.path is not None:
            raise
        raise ModelFileError(f"{path}: {error.message}", hint=error.hint, path=path) from error
    shown = ", ".join(list(state)[:3])
    raise ModelFileError(
        f"{path}: the keys ({shown}, …) are not those of SAM, MedSAM or SAM 2.1",
        hint="For Hugging Face's layout give the folder with config.json and model.safetensors.",
        path=path,
    )


def _load_folder(path: Path) -> tuple[nn.Module, Preprocessing]:
    """Load a folder in Hugging Face's layout."""
    settings = _read_settings(path)
    if not settings:
        raise ModelFileError(
            f"{path}: holds no config.json; expected a SAM in Hugging Face's layout",
            hint="Give that folder, or the file of SAM, MedSAM or SAM 2.1.",
            path=path,
        )
    kind = settings.get("model_type")
    if kind not in _KINDS:
        raise ModelFileError(
            f"{path}: config.json declares model_type {kind!r}, expected sam, sam2 or sam2_video", path=path
        )
    file = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise ModelFileError(f"{path}: holds neither {' nor '.join(_WEIGHTS)}", path=path)
    state = with_shared_embedding(without_video(read_state(file)))
    family = "sam" if kind == "sam" else "sam2"
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    model = _build(family, {part: settings[part] for part in parts if part in settings}, state, file)
    record = path / RECORD
    default: Preprocessing = family
    if record.is_file():
        declared = as_json_object(json.loads(record.read_text(encoding="utf-8"))).get("preprocessing")
        default = declared if declared in ("sam", "sam2", "medsam") else family
    return model, default


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the content of ``config.json``; empty without the file."""
    file = path / "config.json"
    if not file.is_file():
        return {}
    try:
        return as_json_object(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ModelFileError(f"{file}: not JSON ({error})", path=file) from error


def _build(family: str, settings: dict[str, Any], state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """Build a network without initial values and load all of its weights."""
    try:
        build = _sam if family == "sam" else _sam2
        with torch.device("meta"):
            model = build(settings)
    except ImportError as error:
        raise ConfigError(
            "SAM needs the package transformers", hint="Run pip install '.[sam]' in the folder of medseg."
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path}: settings of another network ({error})", path=path) from error
    _check_tensors(state, model.state_dict(), path)
    model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    return model


def _sam(settings: dict[str, Any]) -> nn.Module:
    from transformers.models.sam.configuration_sam import SamConfig
    from transformers.models.sam.modeling_sam import SamModel

    return SamModel(SamConfig(**settings))


def _sam2(settings: dict[str, Any]) -> nn.Module:
    from transformers.models.sam2.configuration_sam2 import Sam2Config
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    return Sam2Model(Sam2Config(**settings))


def _check_tensors(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], path: Path) -> None:
    """Check that the weights are exactly those of a network."""
    missing, unknown = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unknown:
        raise ModelFileError(
            f"{path}: {len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(unknown)} are unknown ({', '.join(unknown[:3])})",
            path=path,
        )
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise ModelFileError(
                f"{path}: {key} has shape {tuple(tensor.shape)}, expected {tuple(wanted[key].shape)}", path=path
            )
