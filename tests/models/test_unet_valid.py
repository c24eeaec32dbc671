import pytest
import torch

from medseg.models import UNetValidConfig, parameter_count
from medseg.models.unet_valid import mirror_axis
from medseg.task import Task


def whole(config, dims, channels=1, classes=2):
    """A network of whole numbers: sums of them are exact, in whatever order."""
    torch.manual_seed(0)
    network = config.build(Task(dims, channels, classes)).double().eval()
    for parameter in network.parameters():
        parameter.data = torch.randint(-2, 3, parameter.shape).double()
    return network


def picture(*size):
    return torch.randint(0, 9, (1, 1, *size), generator=torch.Generator().manual_seed(1)).double()


def test_the_papers_sizes_and_parameters():
    with torch.device("meta"):
        network = UNetValidConfig().build(Task(2, 1, 2)).eval()
        assert network.valid_logits(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
        assert network(torch.empty(1, 1, 512, 500)).shape == (1, 2, 512, 500)
    # level by level: 572 568, 284 280, 140 136, 68 64, 32 28; up 56 52, 104 100, 200 196, 392 388
    assert (network.border, network.stride) == ((572 - 388) // 2, 16)
    # down: 640 + 36928; 73856 + 147584; 295168 + 590080; 1180160 + 2359808; 4719616 + 9438208 = 18842048
    # up: 2097664 + 4719104 + 2359808; 524544 + 1179904 + 590080; 131200 + 295040 + 147584;
    # 32832 + 73792 + 36928 = 12188480; head 130
    assert parameter_count(network) == 18_842_048 + 12_188_480 + 130


def test_the_parameters_of_the_3d_paper():
    # Çiçek et al., section 3: 19 069 955; their up-convolutions have no bias (512 + 256 + 128)
    config = UNetValidConfig(channels=(64, 128, 256, 512), widen="before", dropout=0)
    with torch.device("meta"):
        network = config.build(Task(3, 3, 3)).eval()
        assert network.valid_logits(torch.empty(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)  # figure 2
    assert parameter_count(network) - 896 == 19_069_955


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_a_tile_has_the_whole_images_logits(dims):
    network = whole(UNetValidConfig(channels=(3, 4, 5)), dims)
    assert (network.stride, network.border) == (4, 20)
    size, corner, tile = (72, 60, 48)[:dims], (8, 4, 0)[:dims], (56, 52, 48)[:dims]
    image = picture(*size)
    crop = tuple(slice(at, at + length) for at, length in zip(corner, tile, strict=True))
    inner = tuple(slice(20, length - 20) for length in tile)
    expected = network(image)[(..., *crop)][(..., *inner)]
    assert expected.numel()
    assert torch.equal(network(image[(..., *crop)])[(..., *inner)], expected)
    assert torch.equal(
        network.valid_logits(image[(..., *crop)]), expected[(..., *(slice(0, n - 40) for n in tile))]
    )


def test_logits_of_the_image_are_those_of_the_mirrored_image():
    network = whole(UNetValidConfig(channels=(3, 4)), 2)  # stride 2, border 8
    image = picture(20, 30)
    padded = torch.nn.functional.pad(image, (8, 8, 8, 8), mode="reflect")
    assert torch.equal(network(image), network.valid_logits(padded))


def test_mirroring_repeats_where_the_image_is_small():
    row = torch.tensor([[1, 2, 3]])
    assert mirror_axis(row, 1, 3, 6).tolist() == [[2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2, 1]]
    assert mirror_axis(row[:, :1], 1, 2, 1).tolist() == [[1, 1, 1, 1]]
    assert mirror_axis(row, 1, 0, 0).tolist() == row.tolist()


@pytest.mark.parametrize("length", range(1, 40))
def test_the_output_is_the_shortest_that_fits(length):
    network = UNetValidConfig(channels=(1, 1, 1)).build(Task(2, 1, 2))
    fits = network.output_size(length)
    assert length <= fits < length + 4
    with torch.no_grad():
        assert network.valid_logits(torch.zeros(1, 1, fits + 40, 44)).shape[2:] == (fits, 4)


def test_an_image_that_leaves_halves_is_refused_with_the_next_size():
    network = UNetValidConfig(channels=(1, 1, 1)).build(Task(2, 1, 2))
    with pytest.raises(ValueError, match=r"\(45, 3\) does not fit .* is \(48, 44\)"):
        network.valid_logits(torch.zeros(1, 1, 45, 3))


def test_dropout_is_at_the_end_of_the_contracting_path():
    network = UNetValidConfig(channels=(2, 2, 2, 2), norm="batch").build(Task(2, 1, 2))
    dropped = [any(isinstance(m, torch.nn.Dropout) for m in block) for block in network.encoder]
    assert dropped == [False, False, True, True]
    assert not any(isinstance(m, torch.nn.Dropout) for m in network.decoder.modules())
