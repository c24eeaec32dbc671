import numpy as np
import pytest

from medseg.demo.cells import draw_cells
from medseg.instances.decoding import DenseOutput, decode_instances
from medseg.instances.heads.base import build_head
from medseg.instances.matching import match_objects
from medseg.instances.options import InstanceDecoding, InstanceTask
from medseg.instances.result import Instances
from medseg.instances.strips import StripDecoder, StripOptions, merge_strips


def outputs_of(decoder, cells, spacing):
    head = build_head(InstanceTask(decoder=decoder), cells.ndim)
    maps = head.targets(cells, spacing)
    if decoder != "flows":
        index = 1 if decoder == "distance" else 0
        share = np.clip(maps[index], 1e-3, 1 - 1e-3)
        maps[index] = np.log(share / (1 - share))
    inside = (cells > 0).astype(np.float32)
    return head, np.concatenate([[1 - inside, inside], maps]).astype(np.float32)


@pytest.mark.parametrize("decoder", ["flows", "distance", "rays"])
@pytest.mark.parametrize(("shape", "axis"), [((160, 40), 0), ((40, 160), 1)])
def test_strips_equal_the_whole_image(decoder, shape, axis):
    cells = draw_cells(shape, (1.0, 1.0), np.random.default_rng(0), radius=(4.0, 6.0)).astype(np.int32)
    head, output = outputs_of(decoder, cells, (1.0, 1.0))
    options = InstanceDecoding()
    whole = decode_instances(head, DenseOutput.split(output, 2, (1.0, 1.0)), options).label_map()
    divided = StripDecoder(
        lambda part: decode_instances(head, part, options), 2, shape, (1.0, 1.0), StripOptions(axis, 32, 24)
    )
    planes = np.array_split(output, 23, axis=1 + axis)
    label_map, classes, scores = merge_strips(divided.strips(planes), shape, axis)
    assert len(classes) == len(scores) == label_map.max()
    matched = match_objects(whole, label_map)
    assert matched.counts() == (matched.reference, 0, 0)
    assert matched.ious.min() > 0.9 if decoder == "rays" else matched.ious.min() == 1


def test_an_object_longer_than_the_margin_is_whole():
    cells = np.zeros((100, 12), np.int32)
    cells[5:90, 2:9] = 1
    cells[93:98, 2:9] = 2
    head, output = outputs_of("distance", cells, (1.0, 1.0))
    divided = StripDecoder(
        lambda part: decode_instances(head, part, InstanceDecoding()), 2, cells.shape, (1.0, 1.0),
        StripOptions(0, 16, 8),
    )  # fmt: skip
    label_map, _, _ = merge_strips(divided.strips(np.array_split(output, 10, axis=1)), cells.shape, 0)
    assert np.array_equal(label_map, cells)


def test_an_object_that_an_earlier_strip_found_counts_once():
    """The decoder sees an object begin later when planes before it are missing."""

    def decode(part):
        label_map = np.zeros(part.foreground.shape, np.int32)
        stop = part.foreground.shape[0]
        label_map[10 if stop == 28 else 13 : stop - 2] = 1  # from plane 10; the second time, from 4 + 13 on
        return Instances.from_label_map(label_map, spacing=part.spacing)

    divided = StripDecoder(decode, 2, (30, 4), (1.0, 1.0), StripOptions(0, 16, 12))
    strips = list(divided.strips(np.array_split(np.ones((2, 30, 4), np.float32), 30, axis=1)))
    assert sum(len(strip.instances) for strip in strips) == 1
    label_map, classes, _ = merge_strips(strips, (30, 4), 0)
    assert label_map.max() == len(classes) == 1
