"""What a trained network makes of a scan on its way: feature maps, layer by layer, as pictures."""

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
    """Which part of a scan is looked at.

    Attributes:
        slice_index: of a volume after preprocessing, along the last axis (axial in RAS) or, of networks of two
            dimensions, the axis they are cut across; none: the middle one.
        window: only the window of the inference's ``roi_size`` around the middle of that slice.
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
    """Pictures of what ``layers`` (none: the network's stages) make of a scan: one PNG a layer, in the order
    they run, and one of the input. Returns their paths.

    Raises: ConfigError as ``feature_maps``; DataError as ``Predictor.predict``.
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
    """The input and what ``layers`` return for it, turned for display; and the slice's height and width in mm.

    The whole picture or volume goes through the (first) network at once, unless the view is a window.
    Raises: ConfigError for an unknown layer, one without a feature map, or a slice that is not there; DataError
    as ``Predictor.predict``; ValueError if the network does not take an image of that size.
    """
    member, prepared = predictor.members[0], predictor.prepare(source).inputs[0]
    image, index, spacing = _input(prepared, view, member.header.inference.roi_size)
    volume = member.header.spatial_dims == 3 or prepared.slices is not None
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None].to(predictor.device)

    def keep(name: str, output: torch.Tensor) -> FeatureMap | None:
        if output.ndim != tensor.ndim:  # tokens, for one
            return None
        return _feature(
            name, output, None if index is None else (index + 0.5) / tensor.shape[-1], turned=volume
        )

    with collect_features(member.network, keep, layers) as found, torch.inference_mode():
        with autocast(predictor.dtype, predictor.device):
            member.network(tensor)
        shown = {"input": keep("input", tensor), **found}
    features = [one for one in shown.values() if one is not None]
    names = [one.name for one in features]
    for layer in layers:
        if not any(name == layer or name.startswith(f"{layer}[") for name in names):
            raise ConfigError(_without_map(layer, member.network))
    first, second = (n * mm for n, mm in zip(image.shape[1:3], spacing, strict=True))
    return features, (second, first) if volume else (first, second)


def _input(
    prepared: PreparedImage, view: View, roi_size: tuple[int, ...] | None
) -> tuple[Array, int | None, tuple[float, float]]:
    """The network's input (C, *S), the index of the slice along its last axis (none in 2D), and the mm of a
    pixel's edges.
    """
    array, spacing = prepared.array, prepared.spacing
    volume = array.ndim == 4
    if not volume and view.slice_index is not None:
        raise ConfigError("a picture has no slices: leave the slice out")
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
        raise ConfigError(
            f"slice {wanted}: the volume has {count} slices after preprocessing, 0 to {count - 1}"
        )
    return wanted


def _feature(name: str, tensor: torch.Tensor, depth: float | None, *, turned: bool) -> FeatureMap:
    """A feature map (1, C, *S) as it is shown: of a volume the slice at ``depth``, a share of the last axis."""
    values, place = tensor[0], ""
    if depth is not None:
        count = values.shape[-1]
        values, place = values[..., int(depth * count)], f"slice {int(depth * count)} of {count}"
    channels = values.detach().float().cpu().numpy().copy()
    if turned:  # as volumes are shown: the patient's right on the left, front up
        channels = channels[:, ::-1, ::-1].swapaxes(1, 2)
    return FeatureMap(name, channels, tuple(int(n) for n in tensor.shape[1:]), place)


def _without_map(layer: str, network: torch.nn.Module) -> str:
    inner = [f"{layer}.{name}" for name, _ in network.get_submodule(layer.split("[")[0]).named_children()]
    within = f"; within it: {', '.join(inner[:6])}" if inner else ""
    return f"layer {layer!r} returns no feature map in evaluation{within}"
