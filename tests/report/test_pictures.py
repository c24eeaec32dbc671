import numpy as np
import pytest
from PIL import Image

from medseg.report.palette import Legend, label_palette
from medseg.report.pictures import (
    best_slice,
    label_picture,
    overlay,
    panel,
    plane,
    save_png,
    slice_of,
    to_uint8,
)

# ---- gray values


def test_percentiles_become_black_and_white():
    # of 0..100 the 1st percentile is 1 and the 99th is 99; 50 lies halfway: 255 * 49 / 98 = 127.5
    gray = to_uint8(np.arange(101))
    assert gray.dtype == np.uint8
    assert gray[[0, 1, 99, 100]].tolist() == [0, 0, 255, 255]
    assert gray[50] in (127, 128)


def test_given_percentiles_are_used():
    assert to_uint8(np.array([0.0, 5.0, 10.0]), 0, 100).tolist() == [0, 128, 255]


def test_values_that_are_not_finite_are_black_and_are_left_out():
    gray = to_uint8(np.array([np.nan, np.inf, -np.inf, 2.0, 4.0]), 0, 100)
    assert gray.tolist() == [0, 0, 0, 0, 255]
    assert to_uint8(np.full(3, np.nan)).tolist() == [0, 0, 0]


def test_a_constant_image_is_black_and_a_nearly_empty_one_is_not():
    assert to_uint8(np.full((2, 2), 7)).tolist() == [[0, 0], [0, 0]]
    nearly = np.zeros(1000)
    nearly[0] = 5
    assert to_uint8(nearly)[0] == 255


def test_huge_values_do_not_overflow():
    assert to_uint8(np.array([-32768, 32767], np.int16), 0, 100).tolist() == [0, 255]


# ---- overlay


def test_background_is_unchanged():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    out = overlay(image, np.zeros((4, 4), int))
    np.testing.assert_array_equal(out, np.repeat(image[..., None], 3, axis=2))


def test_alpha_is_the_colors_share():
    # half of gray 100 and half of the color of label 1
    out = overlay(np.full((3, 3), 100, np.uint8), np.ones((3, 3), int), alpha=0.5)
    expected = np.rint(50 + label_palette(2)[1] / 2)
    assert (out == expected).all()


def test_outline_is_the_labels_own_border_in_full_color():
    label = np.zeros((5, 5), int)
    label[1:4, 1:4] = 2
    image = np.full((5, 5, 3), 100, np.uint8)
    color = label_palette(3)[2]
    out = overlay(image, label)
    ring = (label == 2) & ~((np.indices((5, 5)) == 2).all(axis=0))
    assert (out[ring] == color).all()
    assert out[2, 2].tolist() != color.tolist()
    assert (out[label == 0] == 100).all()
    flat = overlay(image, label, outline=False)
    assert (flat[label == 2] == out[2, 2]).all()


def test_a_label_at_the_pictures_edge_has_no_border_there():
    out = overlay(np.zeros((4, 4), np.uint8), np.ones((4, 4), int))
    assert len(np.unique(out.reshape(-1, 3), axis=0)) == 1


def test_ignored_pixels_are_hatched_in_gray():
    out = overlay(np.zeros((16, 16), np.uint8), np.full((16, 16), -1))
    assert (out == out[..., :1]).all()  # gray
    # two of every eight diagonals at 0.9 of 150, the others at 0.3
    assert np.unique(out).tolist() == [45, 135]
    assert (out[..., 0] == 135).mean() == pytest.approx(0.25)


def test_unsigned_labels_are_accepted_and_other_shapes_are_errors():
    assert overlay(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)).any()
    with pytest.raises(ValueError, match="label of"):
        overlay(np.zeros((2, 2), np.uint8), np.zeros((2, 3), int))


# ---- slices


def test_best_slice_shows_the_most_labels_then_most_of_them():
    label = np.zeros((4, 4, 5), int)
    label[:, :, 0] = 1  # 16 voxels, one label
    label[0, :2, 2] = 1, 2  # both labels
    label[0, :3, 3] = 1, 2, 2  # both, and more of the second
    assert best_slice(label, label.shape) == 3


def test_a_small_label_weighs_as_much_as_a_large_one():
    label = np.zeros((10, 10, 2), int)
    label[:9, :, 0] = 1  # 90 voxels of 1 and 1 of 2: shares 1 + 1/4
    label[9, 0, 0] = 2
    label[:6, :, 1] = 1  # 60 voxels of 1 and 4 of 2: shares 2/3 + 1
    label[9, :4, 1] = 2
    assert best_slice(label, label.shape) == 1


@pytest.mark.parametrize("label", [None, np.zeros((3, 4, 9), int), np.full((3, 4, 9), -1)])
def test_without_labels_the_middle_is_shown(label):
    assert best_slice(label, (3, 4, 9)) == 4


def marked() -> tuple[np.ndarray, tuple[int, int, int]]:
    """A RAS+ volume (3, 4, 5) that is 1 at its right, front, top corner."""
    volume = np.zeros((3, 4, 5))
    volume[2, 3, 4] = 1
    return volume, (2, 3, 4)


def test_axial_has_the_patients_right_on_the_left_and_the_front_up():
    volume, at = marked()
    shown = plane(volume, 2, at[2])
    assert shown.shape == (4, 3)  # rows along y, columns along x
    assert shown[0, 0] == 1


def test_coronal_has_the_patients_right_on_the_left_and_the_head_up():
    volume, at = marked()
    shown = plane(volume, 1, at[1])
    assert shown.shape == (5, 3)
    assert shown[0, 0] == 1


def test_sagittal_has_the_front_on_the_left_and_the_head_up():
    volume, at = marked()
    shown = plane(volume, 0, at[0])
    assert shown.shape == (5, 4)
    assert shown[0, 0] == 1


def test_slice_of_makes_pixels_square():
    # coronal of 1 x 1 x 3 mm: 5 slices of 3 mm become 15 rows of 1 mm, each label row three times
    volume = np.zeros((4, 6, 5), np.int16)
    label = np.zeros((4, 6, 5), np.uint8)
    label[1, 2, 4] = 7
    volume[label == 7] = 100
    image, shown = slice_of(volume, label, axis=1, spacing=(1, 1, 3))
    assert image.shape == shown.shape == (15, 4)
    assert (image.dtype, shown.dtype) == (np.float32, np.int32)
    assert np.argwhere(shown == 7).tolist() == [[0, 2], [1, 2], [2, 2]]
    assert image[0, 2] == pytest.approx(100)


def test_slice_of_keeps_square_pixels_as_they_are():
    volume = np.arange(24.0).reshape(2, 3, 4)
    label = np.zeros((2, 3, 4), int)
    label[0, 0, 1] = 1
    image, shown = slice_of(volume, label)
    np.testing.assert_array_equal(image, volume[::-1, ::-1, 1].T)
    np.testing.assert_array_equal(shown, label[::-1, ::-1, 1].T)


# ---- panels


def colors_in(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.unique(np.array(picture).reshape(-1, 3), axis=0).tolist()}


def test_panel_of_a_picture_is_one_row_and_of_a_volume_three():
    label = np.zeros((40, 40), int)
    label[10:20, 10:20] = 1
    picture = panel(
        np.zeros((40, 40), np.uint8), label, label, spacing=(1, 1), legend=Legend(["background", "cell"])
    )
    assert picture.width >= 3 * 240  # a small picture is enlarged
    assert 240 <= picture.height < 2 * 240
    volume = np.random.default_rng(0).normal(size=(20, 24, 10))
    solid = np.zeros(volume.shape, int)
    solid[5:9, 5:9, 3:6] = 1
    rows = panel(volume, solid, solid, spacing=(1, 1, 2), legend=Legend(["background", "organ"]))
    assert rows.height >= 3 * 240


def test_panel_leaves_out_missing_maps():
    image = np.zeros((32, 32, 3), np.uint8)
    label = np.ones((32, 32), int)
    widths = [
        panel(image, *labels, spacing=(1, 1)).width for labels in ((None, None), (label, None), (label, label))
    ]
    assert widths[0] < widths[1] < widths[2]


def test_a_prediction_without_reference_is_shown_alone_and_over_the_image():
    image = np.full((256, 256, 3), 100, np.uint8)
    label = np.zeros((256, 256), int)
    label[64:192, 64:192] = 1
    legend = Legend(["background", "car"], {0: (9, 9, 9), 1: (0, 0, 142)})
    picture = np.array(panel(image, None, label, spacing=(1, 1), legend=legend))
    assert picture.shape[1] == panel(image, label, label, spacing=(1, 1)).width
    middle = picture[60 + 128]  # image, then map, then overlay: each 256 wide and 8 apart, 14 from the edge
    assert [middle[14 + 264 * i + 128].tolist() for i in range(3)] == [
        [100, 100, 100],
        [0, 0, 142],
        [55, 55, 119],  # 0.55 * 100 + 0.45 * (0, 0, 142)
    ]
    assert [middle[14 + 264 * i + 5].tolist() for i in range(3)] == [[100] * 3, [9, 9, 9], [100] * 3]


def test_the_first_label_is_drawn_where_it_is_no_background():
    label = np.zeros((32, 32), int)
    label[8:24, 8:24] = 1
    road, sky = (128, 64, 128), (70, 130, 180)
    image = np.zeros((32, 32), np.uint8)
    scene = Legend(["road", "sky"], {0: road, 1: sky}, background=False)
    assert {road, sky} <= colors_in(panel(image, label, None, spacing=(1, 1), legend=scene))
    assert road not in colors_in(
        panel(image, label, None, spacing=(1, 1), legend=Legend(["b", "s"], {0: road}))
    )
    assert overlay(image, label, scene, alpha=1)[0, 0].tolist() == [*road]
    # without colors of its own it has the second of the palette: the first is the background's
    plain = overlay(image, label, Legend(background=False), alpha=1)
    assert [plain[0, 0].tolist(), plain[16, 16].tolist()] == label_palette(3)[1:].tolist()


def test_a_label_picture_has_the_legends_colors():
    legend = Legend(colors={2: (1, 2, 3)})
    shown = label_picture(np.array([[0, 1], [2, 0]]), legend)
    assert shown.tolist() == [[[0, 0, 0], label_palette(2)[1].tolist()], [[1, 2, 3], [0, 0, 0]]]


def test_panel_names_only_the_labels_shown():
    label = np.zeros((32, 32), int)
    label[8:24, 8:24] = 2
    picture = panel(
        np.zeros((32, 32), np.uint8), label, None, spacing=(1, 1), legend=Legend(["b", "one", "two"])
    )
    first, second = (tuple(color) for color in label_palette(3)[1:].tolist())
    assert second in colors_in(picture)
    assert first not in colors_in(picture)


def test_panel_shows_labels_over_gray_so_that_only_they_have_color():
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 200
    empty = np.zeros((32, 32), int)
    picture = np.array(panel(image, empty, None, spacing=(1, 1), legend=Legend(["background"])))
    middle = picture[picture.shape[0] // 2]
    assert (middle == (200, 0, 0)).all(axis=1).sum() == 256  # the image itself keeps its colors
    assert (middle == 60).all(axis=1).sum() == 256  # 0.299 * 200


def test_panel_keeps_the_proportions_of_anisotropic_pixels():
    wide = panel(np.zeros((50, 50), np.uint8), None, None, spacing=(1, 2))
    even = panel(np.zeros((50, 50), np.uint8), None, None, spacing=(1, 1))
    assert (wide.width - even.width, wide.height - even.height) == (256, 0)


def test_panel_accepts_many_labels_and_unnamed_labels():
    label = np.arange(64 * 64).reshape(64, 64) // 64
    picture = panel(
        np.zeros((64, 64), np.uint8), label, label - 1, spacing=(1, 1), legend=Legend(["background"])
    )
    assert picture.mode == "RGB"


def test_panel_with_different_shapes_is_an_error():
    image, label = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), int)
    with pytest.raises(ValueError, match="the prediction has shape"):
        panel(image, None, label, spacing=(1, 1))
    with pytest.raises(ValueError, match="expected"):
        panel(np.zeros((2, 8, 8, 3)), None, None, spacing=(1, 1, 1))


def test_save_png_writes_arrays_and_pictures(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    save_png(tmp_path / "a" / "array.png", array)
    save_png(tmp_path / "a" / "picture.png", Image.fromarray(array[..., 0]))
    with Image.open(tmp_path / "a" / "array.png") as saved:
        np.testing.assert_array_equal(np.array(saved), array)
    with Image.open(tmp_path / "a" / "picture.png") as saved:
        np.testing.assert_array_equal(np.array(saved), array[..., 0])
    assert len(list((tmp_path / "a").iterdir())) == 2
