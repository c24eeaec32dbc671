"""Feature maps: pictures of what each layer of a trained network returns for a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medseg.data.cases import Case
from medseg.data.preprocessing.pipeline import PreparedImage
from medseg.errors import ConfigError
from medseg.geometry import Array
from medseg.inference.model.predictor import Predictor
from medseg.models.inspection.feature_hooks import collect_features
from medseg.report.feature_grid import FeatureMap, feature_grid
from medseg.report.pictures import save_png
from medseg.system.device import autocast


@dataclass(frozen=True)
class View:
    """The part of a scan that feature maps are computed for and shown of.

    Attributes:
        slice_index: index of the slice of a volume that is shown, after preprocessing, along the last axis
            (axial in RAS); for 2D networks, along the axis that volumes are sliced along. If None, the middle
            slice.
        window: compute only the window of size ``inference.roi_size`` around the center of that slice.
    """

    slice_index: int | None = None
    window: bool = False


def write_features(
    predictor: Predictor,
    source: Case | Path | str,
    output: Path,
    *,
    layers: Sequence[str] = (),
    channels: int = 16,
    view: View = View(),
) -> list[Path]:
    """Write one PNG per layer with its most active channels, and one of the network's input.

    Args:
        predictor: the model; of an ensemble, the first one is used.
        source: scan, as in ``Predictor.predict``.
        output: folder for the pictures, which are numbered in the order in which the layers run.
        layers: names of layers, as in ``network.named_modules()``. If empty, the stages of the network.
        channels: maximum number of channels per picture.
        view: the part of the scan that is shown.

    Returns:
        Paths of the pictures.

    Raises:
        ConfigError: a layer is unknown or returns no feature map, or the slice does not exist.
        DataError: the scan cannot be read.
    """
    maps, extent = feature_maps(predictor, source, layers, view)
    written: list[Path] = []
    for number, features in enumerate(maps):
        name = features.name.replace("[", ".").replace("]", "")
        written.append(Path(output) / f"{number:02d}_{name}.png")
        save_png(written[-1], feature_grid(features, channels, extent=extent))
    return written


def feature_maps(
    predictor: Predictor, source: Case | Path | str, layers: Sequence[str] = (), view: View = View()
) -> tuple[list[FeatureMap], tuple[float, float]]:
    """Run a network on a scan and return the outputs of its layers.

    The network takes the whole image at once, unless the view is a window.

    Args:
        predictor: the model; of an ensemble, the first one is used.
        source: scan, as in ``Predictor.predict``.
        layers: names of layers, as in ``network.named_modules()``. If empty, the stages of the network.
        view: the part of the scan that is returned.

    Returns:
        The feature maps, oriented for display, the network's input first; and height and width of the slice in
        mm.

    Raises:
        ConfigError: a layer is unknown or returns no feature map, or the slice does not exist.
        DataError: the scan cannot be read.
        ValueError: the network does not support the size of the image.
    """
    member = predictor.members[0]
    if member.first_stages:
        raise ConfigError("feature maps are not available for cascades", hint="Give the model of one stage.")
    prepared = predictor.prepare(source).inputs[0]
    image, index, spacing = _input(prepared, view, member.header.inference.roi_size)
    volume = member.header.spatial_dims == 3 or prepared.slices is not None
    tensor = torch.as_tensor(np.ascontiguousarray(image))[None].to(predictor.device)

    def keep(name: str, output: torch.Tensor) -> FeatureMap | None:
        if output.ndim != tensor.ndim:  # such as tokens of a transformer
            return None
        return _feature(
            name, output, None if index is None else (index + 0.5) / tensor.shape[-1], turned=volume
        )

    with collect_features(member.network, keep, layers) as captured_maps, torch.inference_mode():
        with autocast(predictor.dtype, predictor.device):
            member.network(tensor)
        shown = {"input": keep("input", tensor), **captured_maps}
    features = [one for one in shown.values() if one is not None]
    names = [one.name for one in features]
    for layer in layers:
        if not any(name == layer or name.startswith(f"{layer}[") for name in names):
            raise _no_feature_map(layer, member.network)
    first, second = (n * mm for n, mm in zip(image.shape[1:3], spacing, strict=True))
    return features, (second, first) if volume else (first, second)


def _input(
    prepared: PreparedImage, view: View, roi_size: tuple[int, ...] | None
) -> tuple[Array, int | None, tuple[float, float]]:
    """Return the network's input (C, *S), the slice index along its last axis (2D: None) and the pixel size in
    mm.
    """
    array, spacing = prepared.array, prepared.spacing
    volume = array.ndim == 4
    if not volume and view.slice_index is not None:
        raise ConfigError("got a slice for a 2D image, which has no slices", hint="Omit --slice.")
    index = None
    if volume:
        along = 1 if prepared.slices is not None else 3
        index = _slice_index(view.slice_index, array.shape[along])
    if prepared.slices is not None and index is not None:
        reach = prepared.slices.neighbors
        near = np.clip(np.arange(index - reach, index + reach + 1), 0, array.shape[1] - 1)
        array, spacing, index = np.concatenate([array[:, z] for z in near]), spacing[1:], None
    if view.window and roi_size is not None:
        middle = [n // 2 for n in array.shape[1:]]
        if index is not None:
            middle[2] = index
        starts = [
            min(max(at - roi // 2, 0), max(n - roi, 0))
            for at, roi, n in zip(middle, roi_size, array.shape[1:], strict=True)
        ]
        array = array[(slice(None), *(slice(a, a + roi) for a, roi in zip(starts, roi_size, strict=True)))]
        index = None if index is None else index - starts[2]
    return array, index, (spacing[0], spacing[1])


def _slice_index(wanted: int | None, count: int) -> int:
    if wanted is None:
        return count // 2
    if not 0 <= wanted < count:
        raise ConfigError(f"slice {wanted}: after preprocessing, the volume has slices 0 to {count - 1}")
    return wanted


def _feature(name: str, tensor: torch.Tensor, depth: float | None, *, turned: bool) -> FeatureMap:
    """Orient a feature map (1, C, *S) for display.

    Args:
        name: name of the layer.
        tensor: (1, C, *S), output of the layer.
        depth: position of the slice that is shown, as a fraction of the last axis; None in 2D.
        turned: whether the image is a slice of a volume, which is shown in radiological orientation.
    """
    values, place = tensor[0], ""
    if depth is not None:
        count = values.shape[-1]
        values, place = values[..., int(depth * count)], f"slice {int(depth * count)} of {count}"
    channels = values.detach().float().cpu().numpy().copy()
    if turned:  # radiological: patient's right on the left, front up
        channels = channels[:, ::-1, ::-1].swapaxes(1, 2)
    return FeatureMap(name, channels, tuple(int(n) for n in tensor.shape[1:]), place)


def _no_feature_map(layer: str, network: torch.nn.Module) -> ConfigError:
    inner = [f"{layer}.{name}" for name, _ in network.get_submodule(layer.split("[")[0]).named_children()]
    return ConfigError(
        f"layer {layer!r}: returns no feature map in evaluation mode",
        hint=f"Choose one of its layers: {', '.join(inner[:6])}." if inner else None,
    )
