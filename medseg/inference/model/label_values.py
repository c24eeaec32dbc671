"""Label maps of predictions: values of classes, regions and objects, and the axis of streaming."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.geometry import Array
from medseg.inference.model.ensemble.member import EnsembleMember
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.prediction import PreparedScan, PreparedTiledImage
from medseg.inference.sliding_window.options import SlidingWindowOptions
from medseg.inference.sliding_window.window_plan import WindowPlan
from medseg.instances.result import Instances


def label_values(header: ModelHeader, labels: Array, prepared: PreparedScan) -> Array:
    """Return the map of label values of classes (1, *S) or regions (R, *S), after postprocessing.

    Sizes of objects in pictures are pixels at the scale of the network.
    """
    schema, steps = header.labels, header.inference.postprocess
    voxel = float(np.prod(prepared.inputs[0].reoriented.spacing))
    voxel *= 1.0 if prepared.scale is None else prepared.scale.factor**2
    if schema.regions:
        return schema.paint(steps.of_regions(labels, schema.class_names, voxel) if steps.names else labels)
    return schema.decode(steps.of_classes(labels[0], schema.class_names, voxel))


def class_values(instances: Instances, values: tuple[int, ...]) -> Array:
    """Return a map (*S) of the label value of each object's class.

    Args:
        instances: the objects.
        values: label value of each class, the background first.
    """
    of_class = np.array(values)
    table = np.concatenate([of_class[:1], of_class[instances.classes]])
    return table.astype(np.min_scalar_type(int(table.max(initial=0))))[instances.label_map()]


def streaming_axis(members: Sequence[EnsembleMember], prepared: PreparedScan | PreparedTiledImage) -> int:
    """Return the axis along which all members' chunks follow one another.

    It is 0 for pictures, because large ones are written row by row, and with overlap-tile inference; else the
    axis along which the first member takes the least memory.
    """
    if isinstance(prepared, PreparedTiledImage) or prepared.scan.kind == "picture":
        return 0
    if any(member.receptive_field is not None for member in members):
        return 0
    header = members[0].header
    shape, settings = prepared.inputs[0].array.shape[1:], header.inference
    size = SlidingWindowOptions.from_config(settings).window_size(shape[-header.spatial_dims :])
    if len(size) < len(shape):
        return 0  # slice by slice
    return WindowPlan(shape, size, settings.overlap).axis
