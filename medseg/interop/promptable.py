"""``load_promptable``: a model that answers prompts, by name or path."""

from __future__ import annotations

from pathlib import Path

from medseg.inference.interactive import Interactive
from medseg.inference.model.model_file import read_header
from medseg.prompts.session import Promptable
from medseg.sam import SamOptions, is_sam, load_sam


def load_promptable(source: Path | str, *, device: str = "auto", sam: SamOptions | None = None) -> Promptable:
    """Load a model that answers prompts.

    Args:
        source: a run folder or a model file of a training with ``task: prompts``; or a SAM, by the path of its
            weights or by its published name.
        device: ``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        sam: how scans are shown to a SAM and prompted.

    Raises:
        ModelFileError: the file is missing or damaged, or the model does not answer prompts.
        ConfigError: the package of a SAM is not installed.
    """
    path = Path(source)
    file = path / "model.safetensors" if path.is_dir() else path
    if read_header(file) is None and is_sam(source):
        return load_sam(source, sam, device=device)
    return Interactive(path, device=device)
