import numpy as np
import pytest
from PIL import Image

from medseg.demo.shapes import _SHAPES, LABELS, SIZE, SMALLEST, make_shapes, write_shapes
from medseg.errors import ConfigError


@pytest.fixture(scope="module")
def pictures():
    return [make_shapes(seed=0, index=index) for index in range(40)]


def test_files_contain_the_arrays(tmp_path):
    write_shapes(tmp_path, cases=2, seed=1, size=96)
    for index in range(2):
        with (
            Image.open(tmp_path / "images" / f"shape_{index:03d}.png") as image,
            Image.open(tmp_path / "labels" / f"shape_{index:03d}.png") as label,
        ):
            assert (image.mode, label.mode) == ("RGB", "P")
            made_image, made_label = make_shapes(1, index, 96)
            np.testing.assert_array_equal(np.array(image), made_image)
            np.testing.assert_array_equal(np.array(label), made_label)


def test_bytes_depend_only_on_seed_and_index(tmp_path):
    write_shapes(tmp_path / "few", cases=1, seed=5)
    write_shapes(tmp_path / "more", cases=3, seed=5)
    for part in ("images", "labels"):
        few, more = (tmp_path / folder / part / "shape_000.png" for folder in ("few", "more"))
        assert few.read_bytes() == more.read_bytes()
        assert len(list((tmp_path / "more" / part).iterdir())) == 3


def test_every_class_has_its_share(pictures):
    counts = np.array([np.bincount(label.ravel(), minlength=4) for _, label in pictures])
    share = counts.mean(axis=0) / SIZE**2
    assert counts.shape == (40, len(LABELS))
    assert (share[1:] > 0.04).all()
    assert (counts[:, 1:] > 0).all(axis=1).mean() > 0.9


def test_color_does_not_depend_on_the_class(pictures):
    # over many pictures the mean color of each class comes out the same, within what 40 or so draws allow
    means = [
        np.mean(
            [image[label == value].mean(axis=0) for image, label in pictures if (label == value).any()],
            axis=0,
        )
        for value in (1, 2, 3)
    ]
    assert np.ptp(means, axis=0).max() < 45


def test_circles_are_round_and_triangles_are_not():
    # of its bounding box a disc fills pi / 4, a triangle with a side along it 1 / 2, this one about that
    row, column = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    for kind, (least, most) in {1: (0.74, 0.82), 3: (0.40, 0.53)}.items():
        inside = _SHAPES[kind](np.random.default_rng(0), row, column, 0.3)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert least < inside.sum() / box < most


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"seed": -1}, {"size": SMALLEST - 1}])
def test_invalid_arguments_are_errors(tmp_path, wrong):
    with pytest.raises(ConfigError, match="expected"):
        write_shapes(tmp_path, **{"cases": 1, "seed": 0, **wrong})
    assert list(tmp_path.iterdir()) == []
