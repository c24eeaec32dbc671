import pytest
import torch

from medseg.models.layers.padding import crop_end, pad_end, padded_size, resize_linear


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((32, 48), (16, 16), (32, 48)),  # divided already
        ((33, 48), (16, 16), (48, 48)),
        ((1, 17, 5), (1, 16, 4), (1, 32, 8)),
        ((16, 3), (16, 16), (16, 32)),  # one voxel at the bottom would be too few: two
        ((1, 1), (1, 1), (1, 2)),
    ],
)
def test_padded_size_by_hand(size, multiple, expected):
    assert padded_size(size, multiple) == expected


def test_padding_repeats_the_border_at_the_end():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = torch.tensor([[[[1.0, 2.0, 2.0, 2.0], [3.0, 4.0, 4.0, 4.0], [3.0, 4.0, 4.0, 4.0]]]])
    assert torch.equal(pad_end(image, (3, 4)), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cropping_undoes_padding(size, dtype):
    image = torch.randn(2, 3, *size).to(dtype)
    assert torch.equal(crop_end(pad_end(image, [8] * len(size)), size), image)


def test_nothing_is_copied_where_nothing_changes():
    image = torch.zeros(1, 1, 4, 6)
    assert pad_end(image, (4, 6)) is image
    assert resize_linear(image, (4, 6)) is image
    assert crop_end(image, (4, 6)).data_ptr() == image.data_ptr()


def test_linear_interpolation_by_hand():
    # centers of 4 voxels over those of 2: 1/4 and 3/4 of the way between them, and the borders
    image = torch.tensor([0.0, 4.0]).view(1, 1, 1, 1, 2)
    assert resize_linear(image, (1, 1, 4)).flatten().tolist() == [0, 1, 3, 4]
