import numpy as np
import pytest

from medseg.instances.heads import flows
from medseg.instances.heads.flows import flow_errors, gather_objects, object_flows


def cellpose_flows(mask: np.ndarray) -> np.ndarray:
    """Compute the flows of one object as published: explicit loops over voxels and steps (float64)."""
    rows, columns = np.nonzero(mask)
    center = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    heat = np.zeros(np.add(mask.shape, 2))
    for _ in range(2 * (np.ptp(rows) + 1 + np.ptp(columns) + 1)):
        heat[rows[center] + 1, columns[center] + 1] += 1
        means = sum(heat[rows + 1 + y, columns + 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
        heat[rows + 1, columns + 1] = means
    heat = np.log1p(heat)
    flow = np.zeros((2, *mask.shape))
    flow[0][rows, columns] = heat[rows + 2, columns + 1] - heat[rows, columns + 1]
    flow[1][rows, columns] = heat[rows + 1, columns + 2] - heat[rows + 1, columns]
    return flow / np.maximum(np.sqrt((flow**2).sum(axis=0)), 1e-20)


def test_flows_equal_cellpose_where_voxels_are_cubes():
    mask = np.zeros((20, 20), bool)
    mask[3:15, 4:12] = True
    mask[3:6, 4:7] = False
    assert np.allclose(object_flows(mask.astype(np.int32), (1.0, 1.0)), cellpose_flows(mask), atol=1e-4)


def test_flows_have_unit_length_and_point_to_the_center():
    label_map = np.zeros((11, 11), np.int32)
    label_map[1:10, 1:10] = 1
    flows = object_flows(label_map, (1.0, 1.0))
    length = np.sqrt((flows**2).sum(axis=0))
    assert length[5, 5] == pytest.approx(0, abs=1e-3)  # the center
    assert np.allclose(np.delete(length[label_map > 0], 40), 1, atol=1e-5)
    assert flows[:, 5, 2].tolist() == pytest.approx([0, 1], abs=1e-4)
    assert not flows[:, label_map == 0].any()


def test_a_sphere_in_mm_has_radial_flows_although_voxels_are_thick():
    spacing = (1.0, 1.0, 3.0)
    grid = np.stack(np.meshgrid(*(np.arange(n) * mm for n, mm in zip((25, 25, 9), spacing, strict=True)),
                                indexing="ij"))  # fmt: skip
    offset = grid - np.array([12, 12, 12]).reshape(3, 1, 1, 1)
    distance = np.sqrt((offset**2).sum(axis=0))
    flows = object_flows((distance < 11).astype(np.int32), spacing)
    ring = (distance > 4) & (distance < 9)
    cosine = -(flows * offset).sum(axis=0)[ring] / distance[ring]
    assert cosine.mean() > 0.96
    assert cosine.min() > 0.8


def test_two_touching_squares_are_two_objects():
    label_map = np.zeros((12, 22), np.int32)
    label_map[1:11, 1:11], label_map[1:11, 11:21] = 1, 2
    found = gather_objects(object_flows(label_map, (1.0, 1.0)), label_map > 0, (1.0, 1.0))
    assert len(np.unique(found)) == 3
    assert len(np.unique(found[label_map == 1])) == 1


def test_error_of_an_object_whose_flows_are_reversed():
    label_map = np.zeros((12, 24), np.int32)
    label_map[1:11, 1:11], label_map[1:11, 12:22] = 1, 2
    flows = object_flows(label_map, (1.0, 1.0))
    flows[:, label_map == 2] *= -1  # the squared difference of opposite unit vectors is 4
    assert flow_errors(flows, label_map, (1.0, 1.0)).tolist() == pytest.approx([0, 4], abs=0.1)


@pytest.mark.parametrize("shape", [(61, 40), (30, 21, 17)])
def test_flows_of_large_objects_on_blocks_are_about_the_same(shape, monkeypatch):
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    label_map = ((grid**2).sum(axis=0) < 1).astype(np.int32)
    spacing = (1.0,) * (len(shape) - 1) + (2.0,)
    exact = object_flows(label_map, spacing)
    updates = []
    diffuse = flows._diffuse  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(
        flows, "_diffuse", lambda batch, mm: updates.append(batch.masks.size) or diffuse(batch, mm)
    )
    monkeypatch.setattr(flows, "_MOST_UPDATES", 2**15)
    blocks = object_flows(label_map, spacing)
    assert max(updates) < label_map.size / 4
    inside = label_map > 0
    assert (exact * blocks).sum(axis=0)[inside].mean() > 0.9
    assert not blocks[:, ~inside].any()
