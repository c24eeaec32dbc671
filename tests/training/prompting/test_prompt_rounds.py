"""Earlier prompts of training samples."""

import numpy as np
import torch
from torch import nn

from medseg.data.loading.generator_state import pack_generator
from medseg.data.loading.sampling.prompt_samples import PROMPTS, ROUNDS, USER_STATE
from medseg.prompts.users import user_by_name
from medseg.training.prompting.rounds import PromptRounds, evaluating, with_prompts


class Empty(nn.Module):
    """Predicts nothing; remembers the sizes of its batches and whether it was in training mode."""

    def __init__(self):
        super().__init__()
        self.sizes, self.modes = [], []

    def forward(self, inputs):
        self.sizes.append(len(inputs))
        self.modes.append(self.training)
        return torch.cat([inputs[:, :1] * 0 + 1, inputs[:, :1] * 0], dim=1)


def batch(*rounds):
    label = torch.zeros(len(rounds), 1, 12, 12, dtype=torch.int16)
    label[:, :, 3:8, 3:8] = 1
    label[:, :, :, 11] = -1
    return {
        "image": torch.zeros(len(rounds), 1, 12, 12),
        "label": label,
        PROMPTS: torch.zeros(len(rounds), 7, 12, 12, dtype=torch.uint8),
        ROUNDS: torch.tensor(rounds),
        USER_STATE: torch.stack([pack_generator(np.random.default_rng(i)) for i in range(len(rounds))]),
    }


def play(network, data):
    return PromptRounds(user_by_name("clicks")).play(network, network, data).numpy()


def test_only_samples_with_earlier_prompts_are_predicted():
    network = Empty().train()
    channels = play(network, batch(2, 0, 1))
    assert network.sizes == [2, 1]
    assert network.modes == [False, False]
    assert network.training
    assert channels[0, 1].any()
    assert not channels[1].any()
    center = np.unravel_index(channels[2, 1].argmax(), (12, 12))
    assert all(3 <= i < 8 for i in center)  # the object was missed: the click is positive, and on it


def test_a_prediction_becomes_the_mask_and_ignored_voxels_are_no_errors():
    class All(Empty):
        def forward(self, inputs):
            return -super().forward(inputs)

    channels = play(All(), batch(1))
    assert channels[0, 0, :, :11].all()
    assert not channels[0, 0, :, 11].any()
    assert channels[0, 2].any()  # a negative click
    assert not channels[0, 1].any()


def test_a_perfect_prediction_ends_the_rounds():
    class Perfect(Empty):
        def forward(self, inputs):
            self.sizes.append(len(inputs))
            logits = torch.zeros(len(inputs), 2, 12, 12)
            logits[:, 1] = -1
            logits[:, 1, 3:8, 3:8] = 1
            return logits

    network = Perfect()
    assert not play(network, batch(4, 4)).any()
    assert network.sizes == [2]


def test_the_samples_of_a_batch_do_not_depend_on_each_other():
    data = batch(3, 1)
    alone = {name: value[:1] for name, value in data.items()}
    assert np.array_equal(play(Empty(), data)[0], play(Empty(), alone)[0])


def test_input_channels_and_modes_of_modules():
    prompts = torch.full((1, 7, 2, 2), 255, dtype=torch.uint8)
    assert with_prompts(torch.zeros(1, 2, 2, 2), prompts)[0, :, 0, 0].tolist() == [0, 0] + [1] * 7
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
    network.train()
    network[0].eval()  # frozen
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network] == [False, True]
    assert network.training
