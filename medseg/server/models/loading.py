"""Loading the models that the options name."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import ConfigError
from medseg.interop.model_loading import SegmenterSpec
from medseg.server.models.pool import AutomaticModel, Model
from medseg.server.options import ServerOptions


def load_models(options: ServerOptions) -> list[Model]:
    """Load the models that the options name.

    Raises:
        ModelFileError: a file is missing or damaged.
        ConfigError: a name is not that of a model.
    """
    return [load_model(one, options.device) for one in options.models]


def load_model(text: str, device: str = "auto") -> Model:
    """Load one model: ``[NAME=]PATH[,PATH…]``; several paths are averaged.

    Raises:
        ModelFileError: a file is missing or damaged.
        ConfigError: a name is not that of a model.
    """
    name, _, rest = text.rpartition("=") if "=" in text and not Path(text).exists() else ("", "", text)
    paths = [text] if Path(text).exists() else [part for part in rest.split(",") if part]
    if not paths:
        raise ConfigError(f"--model {text}: expected [NAME=]PATH")
    source = Path(paths[0])
    name = name or (source.parent.name if source.name == "model.safetensors" else source.stem or source.name)
    predictor = SegmenterSpec(tuple(paths), device=device).build()
    return AutomaticModel(name, predictor, source)
