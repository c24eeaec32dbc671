"""Loading the models that the options name: networks of medseg and nnU-Net, prompt networks, SAM."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import ConfigError, ModelFileError
from medseg.inference.model.model_file import find_model_file, read_header_fields
from medseg.interop.model_loading import SegmenterSpec
from medseg.interop.promptable import load_promptable
from medseg.sam import Sam, SamOptions, is_sam
from medseg.server.http.logs import LOGGER
from medseg.server.models.pool import AutomaticModel, Model, PromptModel
from medseg.server.options import ServerOptions
from medseg.system.device import resolve_device


def load_models(options: ServerOptions) -> list[Model]:
    """Load the models that the options name.

    Raises:
        ModelFileError: a file is missing or damaged.
        ConfigError: a name is not that of a model.
    """
    return [load_model(one, options.device, propagate=options.propagate) for one in options.models]


def load_model(text: str, device: str = "auto", *, propagate: bool | None = None) -> Model:
    """Load one model: ``[NAME=]PATH[,PATH…]``; several paths are averaged.

    Args:
        text: name and paths.
        device: where to compute.
        propagate: whether a SAM propagates masks through volumes (:attr:`ServerOptions.propagate`).

    Raises:
        ModelFileError: a file is missing or damaged.
        ConfigError: a name is not that of a model.
    """
    name, _, rest = ("", "", text) if Path(text).exists() else text.rpartition("=")
    paths = [text] if Path(text).exists() else [part for part in rest.split(",") if part]
    if not paths:
        raise ConfigError(f"--model {text}: expected [NAME=]PATH")
    return load_from(paths, name or name_of(Path(paths[0])), device, propagate=propagate)


def load_from(
    paths: list[str], name: str, device: str = "auto", *, propagate: bool | None = None
) -> Model:  # fmt: skip
    """Load one model, or several that are averaged, under a name; arguments as :func:`load_model`."""
    source = Path(paths[0])
    if len(paths) == 1 and answers_prompts(source):
        return _load_prompted(source, name, device, propagate)
    return AutomaticModel(name, SegmenterSpec(tuple(paths), device=device).build(), source)


def _load_prompted(source: Path, name: str, device: str, propagate: bool | None) -> PromptModel:
    """Load a model that answers prompts; on a CPU, where each slice takes seconds, a SAM does not propagate."""
    if propagate is None:
        propagate = resolve_device(device).type != "cpu"
    promptable = load_promptable(source, device=device, sam=SamOptions(propagate=propagate))
    if isinstance(promptable, Sam) and not propagate:
        LOGGER.info("%s: prompts segment their own slice of a volume; --propagate: those around it, too", name)
    return PromptModel(name, promptable, source=source)


def name_of(source: Path) -> str:
    """Return the name under which a model is served: that of its run folder or file."""
    return source.resolve().parent.name if source.name == "model.safetensors" else source.stem or source.name


def answers_prompts(source: Path) -> bool:
    """Whether a model answers prompts: a SAM, or a network of ``task: prompts``."""
    if is_sam(source):
        return True
    if not source.exists():
        return False
    try:
        return bool(read_header_fields(find_model_file(source)).get("prompts"))
    except ModelFileError:
        return False
