"""Simulated scribbles beside those of the three people of MedScribble."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from medseg.prompts.users import ScribbleUser

DATA = Path(__file__).parents[3] / "../shared/data/medscribble"
HABITS = ("lines", "zigzags", "skeletons", "contours")
THIN = "OCTA500"
"""Vessels, which people paint over more than in."""

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/medscribble"),
]


def measure(painted, reference):
    """Return length (in square roots of the object's area), width, share inside, depth and distance."""
    line = skeletonize(painted)
    inside = ndimage.distance_transform_edt(np.pad(reference, 1))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~reference)
    hit = line & reference
    return {
        "length": line.sum() / np.sqrt(reference.sum()),
        "width": painted.sum() / line.sum(),
        "inside": reference[painted].mean(),
        "depth": np.median(inside[hit]) / np.quantile(inside[reference], 0.99) if hit.any() else np.nan,
        "distance": np.median(outside[line]),
    }


def drawn(scribble, shape):
    mask = np.zeros(shape, bool)
    mask[tuple(scribble.voxels.T)] = True
    return mask


@pytest.fixture(scope="module")
def measured():
    """(who, sign, source) → list of measurements."""
    found = {}
    for number, path in enumerate(sorted(DATA.glob("*.npz"))):
        with np.load(path) as content:
            reference, people = content["label"] > 0, content["scribbles"] > 0
        source = path.stem.split("_")[0]
        for person in people:
            for sign, painted in zip(("object", "background"), person, strict=True):
                found.setdefault(("human", sign, source), []).append(measure(painted, reference))
        for habit_number, habit in enumerate(HABITS):
            rng = np.random.default_rng([number, habit_number])
            user = ScribbleUser(habit)
            pair = user.first(reference, rng), user.background(reference, rng)
            for sign, scribble in zip(("object", "background"), pair, strict=True):
                one = measure(drawn(scribble, reference.shape), reference)
                found.setdefault((habit, sign, source), []).append(one)
    return found


def pooled(measured, who, sign, key, *, thin):
    values = [
        one[key]
        for (name, side, source), ones in measured.items()
        if name in who and side == sign and (source == THIN) == thin
        for one in ones
    ]
    return np.array(values)


@pytest.mark.parametrize(
    ("sign", "key", "least", "most"),
    [
        ("object", "length", 0.6, 1.7),
        ("object", "width", 0.8, 1.25),
        ("object", "inside", 0.97, 1.03),
        ("object", "depth", 0.75, 1.35),
        ("background", "length", 0.5, 2.0),
        ("background", "width", 0.8, 1.25),
        ("background", "distance", 0.5, 2.0),
    ],
)
def test_medians_are_those_of_people(measured, sign, key, least, most):
    people = np.nanmedian(pooled(measured, ("human",), sign, key, thin=False))
    users = np.nanmedian(pooled(measured, HABITS, sign, key, thin=False))
    assert least <= users / people <= most, f"{key}: people {people:.3g}, users {users:.3g}"


def test_spread_of_users_covers_that_of_people(measured):
    for key in ("length", "depth"):
        people = pooled(measured, ("human",), "object", key, thin=False)
        low, high = np.nanquantile(pooled(measured, HABITS, "object", key, thin=False), (0, 1))
        assert np.mean((people >= 0.8 * low) & (people <= 1.2 * high)) > 0.85


def test_thin_vessels_are_painted_over(measured):
    people = np.median(pooled(measured, ("human",), "object", "inside", thin=True))
    users = np.median(pooled(measured, HABITS, "object", "inside", thin=True))
    assert people < 0.7
    assert abs(users - people) < 0.25


def test_habits_differ_in_depth(measured):
    depths = [np.nanmedian(pooled(measured, (habit,), "object", "depth", thin=False)) for habit in HABITS]
    assert all(one != other for one, other in pairwise(depths))
    assert depths[3] < min(depths[0], depths[2])  # contours lie nearer to the border than lines and skeletons
