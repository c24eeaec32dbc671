from medseg.data.loading.sampling.options import ProgressiveConfig


def test_sizes_grow_in_steps_to_the_full_patch():
    growing = ProgressiveConfig(start=0.25, until=0.8, steps=4)
    # shares 0.25, 0.5, 0.75, 1 from positions 0, 0.8/3, 1.6/3, 0.8
    sizes = [growing.size_at(position, (128,))[0] for position in (0, 0.26, 0.27, 0.53, 0.54, 0.79, 0.8, 1)]
    assert sizes == [32, 32, 64, 64, 96, 96, 128, 128]


def test_sides_keep_the_power_of_two_that_the_network_needs():
    half = ProgressiveConfig(start=0.5)
    # 40 = 8 · 5: 20 is rounded to 24; 32 has no smaller multiple of 32; 21 is odd: any size
    assert half.size_at(0, (40, 32, 21)) == (24, 32, 11)
