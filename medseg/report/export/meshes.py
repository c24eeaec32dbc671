"""Surfaces of labels as triangle meshes, in RAS millimeters."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from medseg.files import write_atomic, write_text

Array = NDArray[Any]


@dataclass(frozen=True)
class Mesh:
    """Triangles whose corners run counterclockwise when seen from outside.

    Attributes:
        vertices: (V, 3) RAS mm.
        faces: (F, 3) indices of vertices.
    """

    vertices: Array
    faces: Array

    @property
    def volume_mm3(self) -> float:
        """Enclosed volume."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def label_mesh(mask: Array, affine: Array) -> Mesh:
    """Return the surface of a mask by marching cubes (Lewiner et al. 2003), without smoothing.

    The surface is closed, also at the edge of the volume.

    Args:
        mask: (X, Y, Z) bool, not empty.
        affine: (4, 4), voxel to RAS mm.

    Raises:
        ValueError: if the mask is empty.

    Example:
        >>> mesh = label_mesh(np.ones((1, 1, 1), bool), np.eye(4))
        >>> mesh.vertices.shape, round(mesh.volume_mm3, 3)
        ((6, 3), 0.167)
    """
    if not mask.any():
        raise ValueError("label_mesh: the mask is empty")
    sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start = np.array([side[0] for side in sides])
    region = mask[tuple(slice(side[0], side[-1] + 1) for side in sides)]
    vertices, faces, _, _ = marching_cubes(np.pad(region, 1).astype(np.uint8), 0.5)
    vertices = vertices + start - 1
    mesh = Mesh(vertices @ affine[:3, :3].T + affine[:3, 3], faces)
    return mesh if mesh.volume_mm3 > 0 else Mesh(mesh.vertices, faces[:, ::-1].copy())


def write_stl(path: Path, mesh: Mesh) -> None:
    """Write a mesh as binary STL. Its header tells 3D Slicer that the coordinates are RAS."""
    corners = mesh.vertices[mesh.faces].astype("<f4")
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    facets = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
    facets["normal"], facets["corners"] = normals, corners
    header = b"medseg. SPACE=RAS".ljust(80)
    with write_atomic(path) as temporary:
        temporary.write_bytes(header + struct.pack("<I", len(facets)) + facets.tobytes())


def write_obj(path: Path, meshes: Mapping[str, Mesh], colors: Mapping[str, tuple[int, int, int]]) -> None:
    """Write meshes as one OBJ file with an object for each label, and their colors as an MTL file beside it.

    Args:
        path: file to write, ``.obj``.
        meshes: label → mesh.
        colors: label → red, green, blue, 0 to 255.
    """
    materials = path.with_suffix(".mtl")
    lines, offset = ["# medseg. SPACE=RAS, mm", f"mtllib {materials.name}"], 1
    for name, mesh in meshes.items():
        plain = _plain(name)
        lines += [f"o {plain}", f"usemtl {plain}"]
        lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in mesh.vertices]
        lines += [f"f {a} {b} {c}" for a, b, c in mesh.faces + offset]
        offset += len(mesh.vertices)
    write_text(path, "\n".join(lines) + "\n")
    entries = [
        f"newmtl {_plain(name)}\nKd {' '.join(f'{part / 255:.4f}' for part in colors[name])}\n"
        for name in meshes
    ]
    write_text(materials, "\n".join(entries))


def _plain(name: str) -> str:
    return "_".join(name.split())
