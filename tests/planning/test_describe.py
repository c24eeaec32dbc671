"""A plan in words."""

from medseg.config.schema import RunConfig
from medseg.planning.describe import describe_settings


def test_the_most_important_settings_take_eight_lines():
    config = RunConfig.model_validate(
        {
            "preprocess": {"spacing": [1, 1, 2.5]},
            "sampling": {"patch_size": [40, 56, 40]},
            "model": {"channels": [16, 32]},
            "train": {"epochs": 1, "iterations": 1200, "batch_size": 1, "threads": 1, "device": "cpu"},
        }
    )
    assert describe_settings(config) == [
        "spacing        1×1×2.5 mm",
        "patch          40×56×40 voxels",
        "network        unet, channels 16 32",
        "batch          1 patch",
        "updates        1,200 updates (1 epoch of 1,200)",
        f"normalization  {config.preprocess.normalize.name}",
        "device         cpu, 1 thread",
        "workers        1 to prepare patches",
    ]
