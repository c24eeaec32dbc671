"""Synthetic abdominal CT-like volumes with exact labels, to run every step without real scans.

A phantom is a short stack of slices through a simplified trunk: air, fat, a muscle wall with ribs, a spine,
stomach and bowel with gas, a spleen, kidneys, an aorta, and three labels:

    1 organ    large, wobbly, liver-like; as bright as the spleen, the stomach and part of the muscle
    2 vessel   a branching tube that enters the organ; as bright as the kidneys, the aorta and the spine
    3 lesion   a small darker blob inside the organ; as bright as bowel and muscle

No threshold separates any of them; position and shape do.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from medseg.errors import ConfigError
from medseg.files import write_atomic

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LABELS = {"background": 0, "organ": 1, "vessel": 2, "lesion": 3}

SPACING = (0.8, 0.8, 3.0)  # mm
SIZE = (72, 64, 24)  # voxels
SMALLEST = (40, 36, 14)  # voxels; below this the vessel and the lesion fall between the voxels

# The anatomy is defined in mm for a trunk of this extent; other sizes scale it.
_EXTENT = np.array(SIZE) * np.array(SPACING)
_AIR, _FAT, _GAS = -1000.0, -95.0, -850.0


def write_phantoms(folder: Path, *, cases: int, seed: int, size: tuple[int, int, int] = SIZE) -> None:
    """Write ``cases`` phantoms to ``folder/images`` and ``folder/labels``: ``phantom_000.nii.gz`` and so on.

    Images are int16 in Hounsfield-like units, labels uint8 (see ``LABELS``), both on one oblique grid of
    0.8 x 0.8 x 3 mm stored left-posterior-superior, as most CT is. The bytes of a case
    depend only on (seed, index, size): more cases do not change the first ones.

    Args:
        folder: receives ``images`` and ``labels``; files of the same name are replaced.
        cases: number of cases, at least 1.
        seed: not negative.
        size: voxels along (X, Y, Z); the anatomy is scaled with it.

    Raises:
        ConfigError: if ``cases``, ``seed`` or ``size`` is too small.
    """
    if cases < 1 or seed < 0:
        raise ConfigError(f"phantoms: got cases={cases}, seed={seed}; expected cases >= 1 and seed >= 0")
    if any(got < least for got, least in zip(size, SMALLEST, strict=True)):
        raise ConfigError(f"phantoms: got a size of {size} voxels, expected at least {SMALLEST}")
    for index in range(cases):
        image, label, affine = make_phantom(seed, index, size)
        name = f"phantom_{index:03d}.nii.gz"
        _write_nifti(Path(folder) / "images" / name, image, affine)
        _write_nifti(Path(folder) / "labels" / name, label, affine)


def make_phantom(
    seed: int, index: int, size: tuple[int, int, int] = SIZE
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Floats]:
    """Make one phantom: image (X, Y, Z) int16, label (X, Y, Z) uint8, affine (4, 4) voxel to RAS mm."""
    rng = np.random.default_rng([seed, index])
    scene = _Scene.empty(size)
    cavity = _paint_trunk(scene, rng)
    _paint_bowel(scene, rng, cavity)
    _paint_neighbors(scene, rng, cavity)
    _paint_organ(scene, rng, cavity)
    _paint_vessel(scene, rng)
    _paint_lesion(scene, rng)
    return _scan(scene.hu, rng), scene.label, _affine(size, rng)


@dataclass
class _Scene:
    """Intensities ``hu`` and ``label`` on a grid with voxel centers x, y, z in mm.

    x grows to the patient's left, y to the back, z to the head. ``taken`` marks voxels that later
    structures must not change.
    """

    x: Floats
    y: Floats
    z: Floats
    hu: Floats
    label: NDArray[np.uint8]
    taken: Mask = field(repr=False)

    @classmethod
    def empty(cls, size: tuple[int, int, int]) -> _Scene:
        axes = [((np.arange(n) + 0.5) / n - 0.5) * mm for n, mm in zip(size, _EXTENT, strict=True)]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        taken = np.zeros(size, bool)
        return cls(x, y, z, np.full(size, _AIR), np.zeros(size, np.uint8), taken)

    @cached_property
    def points(self) -> Floats:
        """Voxel centers (X, Y, Z, 3) in mm."""
        return np.stack([self.x, self.y, self.z], axis=-1)

    def radius(self, center: Floats, half_axes: Floats) -> Floats:
        """Distance to ``center`` in units of the half axes (mm): 1 on the ellipsoid's surface."""
        return np.sqrt((((self.points - center) / half_axes) ** 2).sum(axis=-1))

    def tube(self, line: Floats, thickness: Floats) -> Mask:
        """Voxels within ``thickness`` (P,) mm of the nearest of the points ``line`` (P, 3)."""
        found = KDTree(line).query(self.points, distance_upper_bound=float(thickness.max()))
        nearest = np.asarray(found[1])
        reached = nearest < len(line)  # the tree returns len(line) if nothing is near
        inside = np.zeros(self.x.shape, bool)
        offset = self.points[reached] - line[nearest[reached]]
        inside[reached] = np.linalg.norm(offset, axis=-1) < thickness[nearest[reached]]
        return inside


def _jitter(rng: np.random.Generator, center: tuple[float, float, float], spread: float) -> Floats:
    return np.array(center) + rng.uniform(-spread, spread, 3)


def _smooth_noise(rng: np.random.Generator, strength: float) -> Callable[[Floats], Floats]:
    """A smooth random function of directions (..., 3), between about -strength and strength."""
    waves = rng.normal(0, 1.6, (6, 3))
    phases = rng.uniform(0, 2 * np.pi, 6)
    return lambda directions: strength * np.sin(directions @ waves.T + phases).mean(axis=-1) * 1.8


def _blob(scene: _Scene, rng: np.random.Generator, center: Floats, half_axes: Floats, wobble: float) -> Mask:
    """A wobbly ellipsoid."""
    towards = (scene.points - center) / half_axes
    radius = np.linalg.norm(towards, axis=-1)
    directions = towards / np.maximum(radius, 1e-6)[..., None]
    return radius < 1 + _smooth_noise(rng, wobble)(directions)


def _curve(start: Floats, through: Floats, end: Floats, points: int = 80) -> Floats:
    """A quadratic Bézier curve (points, 3) from ``start`` to ``end``, drawn towards ``through``."""
    t = np.linspace(0, 1, points)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * through + t**2 * end


def _largest(mask: Mask) -> Mask:
    """The largest part of a mask whose voxels touch by their faces."""
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=parts)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def _paint_trunk(scene: _Scene, rng: np.random.Generator) -> Mask:
    """Skin fat, muscle wall, ribs and spine; returns the cavity that the wall encloses."""
    half = np.array([26.5, 22.5]) * rng.uniform(0.96, 1.03, 2)
    angle = np.arctan2(scene.y / half[1], scene.x / half[0])
    skin, outer, inner = 1.0, rng.uniform(0.90, 0.94), rng.uniform(0.77, 0.81)
    radius = np.hypot(scene.x / half[0], scene.y / half[1]) + 0.015 * np.sin(3 * angle + rng.uniform(0, 6))
    scene.hu[radius < skin] = _FAT
    wall = (radius < outer) & (radius > inner)
    scene.hu[wall] = rng.uniform(84, 100)
    cavity = radius < inner
    scene.hu[cavity] = _FAT + 10

    phase, slant = rng.uniform(0, 2 * np.pi), rng.uniform(0.10, 0.16)
    rib = (np.cos(9 * angle + slant * np.abs(scene.x) + 0.35 * scene.z + phase) > 0.82) & (scene.z > -20)
    middle = (inner + outer) / 2
    scene.hu[rib & (np.abs(radius - middle) < 0.045)] = rng.uniform(280, 420)

    back = np.array([rng.uniform(-1, 1), rng.uniform(12.5, 14.0)])
    muscle = np.minimum(
        np.hypot((scene.x - back[0] - 7) / 5.5, (scene.y - back[1] - 2) / 4.5),
        np.hypot((scene.x - back[0] + 7) / 5.5, (scene.y - back[1] - 2) / 4.5),
    )
    scene.hu[(muscle < 1) & (radius < outer)] = rng.uniform(84, 100)
    body = np.hypot((scene.x - back[0]) / 5.6, (scene.y - back[1]) / 4.6)
    disc = np.cos(2 * np.pi * scene.z / 18 + rng.uniform(0, 6)) > 0.85
    scene.hu[body < 1] = rng.uniform(330, 420)
    scene.hu[body < 0.86] = rng.uniform(175, 225)
    scene.hu[(body < 1) & disc] = rng.uniform(80, 110)
    canal = np.hypot((scene.x - back[0]) / 2.2, (scene.y - back[1] - 5.4) / 1.8)
    scene.hu[canal < 1.5] = rng.uniform(300, 400)
    scene.hu[canal < 1] = 30
    scene.taken |= (body < 1.1) | (muscle < 1.1) | (canal < 1.6)
    return cavity


def _paint_bowel(scene: _Scene, rng: np.random.Generator, cavity: Mask) -> None:
    """Loops with a muscular wall, contents from water to food, and gas along their front."""
    for _ in range(7):
        start = np.array([rng.uniform(-14, 17), rng.uniform(-13, 6), rng.uniform(-36, -8)])
        through, end = start + rng.normal(0, 14, 3), start + rng.normal(0, 10, 3)
        line = _curve(start, through, end)
        thickness = rng.uniform(3.0, 4.6)
        ones = np.ones(len(line))
        loop = scene.tube(line, thickness * ones) & cavity & ~scene.taken
        contents = scene.tube(line, (thickness - 1.0) * ones) & loop
        scene.hu[loop] = rng.uniform(60, 80)
        scene.hu[contents] = rng.uniform(25, 115)
        if rng.random() < 0.6:
            forward = np.array([0, -0.45 * thickness, 0])
            scene.hu[contents & scene.tube(line + forward, 0.55 * thickness * ones)] = _GAS


def _paint_neighbors(scene: _Scene, rng: np.random.Generator, cavity: Mask) -> None:
    """Stomach, spleen, kidneys, aorta and vena cava: as bright as the organ and the vessel."""
    free = cavity & ~scene.taken
    stomach = _blob(scene, rng, _jitter(rng, (8, -9, 16), 1.5), np.array([9.5, 6.5, 15]), 0.10) & free
    scene.hu[stomach] = rng.uniform(60, 105)
    level = rng.uniform(-13, -11)
    scene.hu[stomach & (scene.y < level)] = _GAS
    spleen = _blob(scene, rng, _jitter(rng, (14, 6, 16), 1.0), np.array([6.0, 8.0, 15]), 0.10) & free
    scene.hu[spleen] = rng.uniform(92, 120)

    for side in (-1, 1):
        center = _jitter(rng, (side * 12.5, 9, -14 + 3 * side), 1.0)
        half = np.array([5.0, 5.5, 13.0]) * rng.uniform(0.9, 1.1)
        kidney = _blob(scene, rng, center, half, 0.06) & cavity & ~scene.taken
        pelvis = scene.radius(center - [side * 3.0, 0, 0], half * [0.6, 0.45, 0.5]) < 1
        scene.hu[kidney] = rng.uniform(165, 215)
        scene.hu[kidney & pelvis] = rng.uniform(-20, 40)
        scene.taken |= kidney

    for side, low, high in ((1.0, 175, 225), (-1.0, 120, 200)):
        bend = rng.normal(0, 0.8, 2)
        x = side * 3.6 + bend[0] * np.sin(scene.z / 14)
        y = 5.6 + bend[1] * np.cos(scene.z / 14)
        great = np.hypot(scene.x - x, scene.y - y)
        scene.hu[great < 2.9] = _FAT
        scene.hu[great < 2.6] = rng.uniform(low, high)
        scene.taken |= great < 2.9


def _paint_organ(scene: _Scene, rng: np.random.Generator, cavity: Mask) -> None:
    """A large right lobe and a smaller left lobe across the midline."""
    right = _jitter(rng, (-9.5, -2, 9), 1.5)
    lobe = _blob(scene, rng, right, np.array([11.0, 13.0, 21.0]) * rng.uniform(0.92, 1.08, 3), 0.14)
    left = right + np.array([9.5, -6.5, 3.0]) + rng.uniform(-1.5, 1.5, 3)
    lobe |= _blob(scene, rng, left, np.array([9.0, 5.5, 11.0]) * rng.uniform(0.9, 1.1, 3), 0.14)
    organ = _largest(lobe & cavity & ~scene.taken)
    around = np.asarray(ndimage.binary_dilation(organ, np.ones((3, 3, 1))), bool)
    capsule = around & cavity & ~scene.taken & ~organ
    scene.hu[capsule & (rng.random() < 0.7)] = _FAT + 30
    scene.hu[organ] = rng.uniform(92, 114)
    scene.label[organ] = LABELS["organ"]


def _paint_vessel(scene: _Scene, rng: np.random.Generator) -> None:
    """A trunk from below the organ to its hilum, and three branches within."""
    start = _jitter(rng, (3.0, -1.5, -33), 1.5)
    hilum = _jitter(rng, (-3.5, -1.5, 1), 1.2)
    trunk = _curve(start, _jitter(rng, (5.0, 1.0, -14), 2.0), hilum)
    vessel = scene.tube(trunk, np.linspace(3.3, 3.1, len(trunk)))
    ends = ((-13.0, 5.0, 16.0), (-12.0, -9.0, 12.0), (0.5, -9.0, 17.0))
    for end in ends:
        towards = _jitter(rng, end, 1.5)
        branch = _curve(hilum, (hilum + towards) / 2 + rng.normal(0, 2.0, 3), towards)
        vessel |= scene.tube(branch, np.linspace(2.9, 2.2, len(branch)))
    vessel &= ~scene.taken & (scene.hu > _AIR)
    scene.hu[vessel] = rng.uniform(180, 215)
    scene.label[vessel] = LABELS["vessel"]


def _paint_lesion(scene: _Scene, rng: np.random.Generator) -> None:
    """One wobbly blob where the organ is thick enough, or at its deepest point."""
    spacing = _EXTENT / scene.label.shape
    depth = np.asarray(ndimage.distance_transform_edt(scene.label == LABELS["organ"], spacing))
    radius = rng.uniform(5.2, 6.2)
    room = np.flatnonzero(depth >= min(radius * 0.9, depth.max() * 0.95))
    where = rng.choice(room)
    center = scene.points.reshape(-1, 3)[where]
    half = np.array([radius, radius, radius * 1.15]) * rng.uniform(0.92, 1.08, 3)
    lesion = _blob(scene, rng, center, half, 0.06) & (scene.label == LABELS["organ"])
    scene.hu[lesion] = rng.uniform(24, 46)
    scene.label[lesion] = LABELS["lesion"]


def _scan(hu: Floats, rng: np.random.Generator) -> NDArray[np.int16]:
    """Simulate a scanner: blur, correlated and white noise, integer units."""
    blurred = ndimage.gaussian_filter(hu, (0.6, 0.6, 0.3))
    grain = ndimage.gaussian_filter(rng.normal(size=hu.shape), (0.9, 0.9, 0.0))
    shade = ndimage.gaussian_filter(rng.normal(size=hu.shape), (9.0, 9.0, 2.0))
    noise = 12 * grain / grain.std() + 6 * shade / shade.std() + rng.normal(0, 9, hu.shape)
    return np.clip(np.rint(blurred + noise), -1024, 3071).astype(np.int16)


def _affine(size: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """Voxel to RAS mm: first axis to the left, second to the back, rotated by a few degrees, nonzero origin."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0])
    for first, second in ((0, 1), (1, 2), (0, 2)):
        angle = np.deg2rad(rng.uniform(2.0, 6.0) * rng.choice([-1, 1]))
        turn = np.eye(4)
        turn[[first, first, second, second], [first, second, first, second]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        affine = turn @ affine
    affine[:3, :3] *= SPACING
    center = rng.uniform((-12, -170, 880), (12, -140, 1040))
    affine[:3, 3] = center - affine[:3, :3] @ ((np.array(size) - 1) / 2)
    return affine


def _write_nifti(path: Path, array: NDArray[np.generic], affine: Floats) -> None:
    """Write one array with equal qform and sform (code 1, scanner), the same bytes every time."""
    nifti = nib.Nifti1Image(array, affine)
    nifti.set_qform(affine, 1)
    nifti.set_sform(nifti.get_qform(), 1)
    nifti.header.set_xyzt_units("mm")
    with write_atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(nifti.to_bytes(), compresslevel=6, mtime=0))
