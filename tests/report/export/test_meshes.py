import struct

import numpy as np
import pytest

from medseg.report.export import label_mesh, write_obj, write_stl


def _ball(radius=8):
    x, y, z = np.indices((20, 20, 20)) - 9.5
    return x**2 + y**2 + z**2 <= radius**2


def test_the_surface_lies_at_its_place_in_ras():
    affine = np.array([[2.0, 0, 0, -100], [0, 1, 0, 50], [0, 0, 3, 7], [0, 0, 0, 1]])
    mesh = label_mesh(_ball(), affine)
    center = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    assert center == pytest.approx((-100 + 2 * 9.5, 50 + 9.5, 7 + 3 * 9.5))
    # the volume of a ball of radius 8 in voxels of 6 mm³, within 3%
    assert mesh.volume_mm3 == pytest.approx(4 / 3 * np.pi * 8**3 * 6, rel=0.03)


def test_triangles_face_outwards_also_in_mirrored_grids():
    mesh = label_mesh(_ball(), np.diag([-1.0, 1, 1, 1]))
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    outwards = (a + b + c) / 3 - mesh.vertices.mean(axis=0)
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), outwards) > 0).mean() > 0.99
    assert mesh.volume_mm3 > 0


def test_surfaces_are_closed_at_the_edge_of_the_volume():
    mesh = label_mesh(np.ones((4, 4, 4), bool), np.eye(4))
    edges = np.sort(np.concatenate([mesh.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # every edge has two triangles


def test_stl_is_binary_and_says_that_it_is_ras(tmp_path):
    mesh = label_mesh(_ball(), np.eye(4))
    write_stl(tmp_path / "a.stl", mesh)
    content = (tmp_path / "a.stl").read_bytes()
    assert b"SPACE=RAS" in content[:80]
    [count] = struct.unpack("<I", content[80:84])
    assert count == len(mesh.faces)
    assert len(content) == 84 + 50 * count
    normal = np.frombuffer(content[84:96], "<f4")
    assert np.linalg.norm(normal) == pytest.approx(1)
    first = np.frombuffer(content[96:132], "<f4").reshape(3, 3)
    assert first == pytest.approx(mesh.vertices[mesh.faces[0]])


def test_obj_has_an_object_and_a_color_for_each_label(tmp_path):
    mesh = label_mesh(np.ones((1, 1, 1), bool), np.eye(4))
    write_obj(
        tmp_path / "a.obj", {"left lung": mesh, "liver": mesh}, {"left lung": (255, 0, 0), "liver": (0, 51, 0)}
    )
    lines = (tmp_path / "a.obj").read_text().splitlines()
    assert [line for line in lines if line.startswith("o ")] == ["o left_lung", "o liver"]
    faces = [[int(part) for part in line.split()[1:]] for line in lines if line.startswith("f ")]
    assert min(map(min, faces)) == 1
    assert max(map(max, faces)) == 2 * len(mesh.vertices)  # the second object has vertices of its own
    assert "newmtl liver\nKd 0.0000 0.2000 0.0000" in (tmp_path / "a.mtl").read_text()


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        label_mesh(np.zeros((2, 2, 2), bool), np.eye(4))
