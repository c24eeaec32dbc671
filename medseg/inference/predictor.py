"""``Predictor``: a model file, ready to turn scans into label maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medseg.data.cases import Case
from medseg.data.images import read_image
from medseg.data.preprocess import Prepared, prepare_image, turn_back
from medseg.data.readers import read_scan
from medseg.data.scans import Scan
from medseg.device import Precision, choose_device, mixed_precision
from medseg.errors import DataError, ModelFileError
from medseg.geometry import Array
from medseg.inference.modelfile import LoadedModel, ModelHeader, find_model_file, load_model
from medseg.inference.regrid import Slab, regrid
from medseg.inference.stream import Planes
from medseg.inference.window import decide, gather, place, probabilities_of, score_planes
from medseg.models import InjectedConfig


@dataclass(frozen=True)
class Prediction:
    """What a network says of one scan, on exactly the scan's grid.

    Attributes:
        label_map: (*S) label values as in the training's files, smallest integer type.
        probabilities: (K, *S) float32 of each class (or region), if asked for.
        scan: the input.
    """

    label_map: Array
    probabilities: Array | None
    scan: Scan


class Predictor:
    """A trained network with its preprocessing and labels, from a run folder or a model file.

    ``model`` is the network itself where the file was trained with one given from Python.
    Raises: ModelFileError if the file is missing, damaged, or needs a network that was not given.
    """

    def __init__(
        self,
        file: Path | str | LoadedModel,
        *,
        model: nn.Module | None = None,
        device: str = "auto",
        amp: Precision = "auto",
    ) -> None:
        if isinstance(file, LoadedModel):
            self.path = Path("the model")
            self.header, tensors, self.digest = file
        else:
            self.path = find_model_file(Path(file))
            self.header, tensors, self.digest = load_model(self.path)
        self.device = choose_device(device)
        self.dtype = mixed_precision(amp, self.device)
        network = model if model is not None else _build(self.header, self.path)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelFileError(f"{self.path}: its weights do not fit the network: {error}") from error
        self.network = network.eval().to(self.device)

    def predict(self, source: Scan | Case | Path | str, *, probabilities: bool = False) -> Prediction:
        """Segment one scan; a case may have its channels in several files.

        Raises: DataError if it cannot be read or does not suit the model.
        """
        scan = _read(source)
        header = self.header
        slices = header.preprocess.slices
        if scan.spatial_dims != (3 if slices is not None else header.spatial_dims):
            wanted = "pictures" if header.spatial_dims == 2 and slices is None else "volumes"
            raise DataError(f"{scan.path}: a {scan.kind}; the model {self.path.name} takes {wanted}")
        prepared = prepare_image(scan, header.preprocess, header.channels)
        planes = score_planes(
            self.network, prepared.array, header.inference, device=self.device, dtype=self.dtype, slices=slices
        )
        activation = header.labels.activation
        if prepared.grid is prepared.turned and not probabilities:  # no interpolation: decide at once
            hard = gather(planes, prepared.array.shape[1:], lambda one: decide(one.sums, activation))
            native = None
        else:
            hard, native = self._on_the_scans_grid(planes, prepared, keep=probabilities)
        labels = header.labels
        label_map = labels.paint(hard) if labels.regions else labels.decode(hard[0])
        label_map = turn_back(label_map[None], prepared, scan, header.preprocess)[0]
        if native is not None:
            native = turn_back(native, prepared, scan, header.preprocess)
        return Prediction(np.ascontiguousarray(label_map), native, scan)

    def _on_the_scans_grid(
        self, planes: Iterator[Planes], prepared: Prepared, *, keep: bool
    ) -> tuple[Array, Array | None]:
        """Decisions (1 or R, *S) on the scan's grid, and if asked for the probabilities (K, *S), its axes still
        those of ``prepared``: probabilities are interpolated a few planes at a time, and decided on at once.
        """
        activation = self.header.labels.activation
        source, target = prepared.array.shape[1:], prepared.target_shape
        soft = (Slab(one.start, one.axis, probabilities_of(one.means, activation)) for one in planes)
        slabs = regrid(soft, source, target)
        kept: list[Array] = []

        def take(slab: Slab) -> torch.Tensor:
            if keep:
                if not kept:
                    kept.append(np.zeros((len(slab.scores), *target), np.float32))
                place(kept[0], slab.start, slab.axis, slab.scores.cpu().numpy())
            return decide(slab.scores, activation, threshold=0.5)

        hard = gather(slabs, target, take)
        return hard, kept[0] if kept else None


def _read(source: Scan | Case | Path | str) -> Scan:
    if isinstance(source, Scan):
        return source
    return read_image(source) if isinstance(source, Case) else read_scan(Path(source))


def _build(header: ModelHeader, path: Path) -> nn.Module:
    if isinstance(header.model, InjectedConfig):
        raise ModelFileError(
            f"{path}: was trained with a network of your own, {header.model.class_name}, which the file does "
            "not hold. Load it from Python: Predictor(file, model=my_module)."
        )
    return header.model.build(header.task)
