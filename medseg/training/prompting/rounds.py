"""Earlier prompts of a training sample: the network predicts, and a simulated user corrects the prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medseg.data.loading.generator_state import unpack_generator
from medseg.data.loading.sampling.prompt_samples import PROMPTS, ROUNDS, USER_STATE
from medseg.prompts.encoding import FULL, draw_prompts, set_mask
from medseg.prompts.frame import Frame
from medseg.prompts.users import User

Predict = Callable[[torch.Tensor], torch.Tensor]
"""Maps inputs (B, C + 7, *P) to logits (B, 2, *P)."""


@dataclass(frozen=True)
class PromptRounds:
    """Plays the earlier prompts of a batch; each sample's number and draws are its own.

    Attributes:
        user: makes the prompts.
    """

    user: User

    @torch.no_grad()
    def play(self, network: nn.Module, predict: Predict, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the channels (B, 7, *P) uint8 of all prompts of a batch, and of the mask before the last one.

        Args:
            network: the network that ``predict`` runs; it is in evaluation mode meanwhile.
            predict: its logits.
            batch: with ``image``, ``label`` and the entries of :class:`PromptSamples`.
        """
        images, channels = batch["image"], batch[PROMPTS].numpy().copy()
        labels = batch["label"][:, 0].numpy()
        rounds = batch[ROUNDS].tolist()
        generators = [unpack_generator(state) for state in batch[USER_STATE]]
        with evaluating(network):
            for number in range(max(rounds)):
                active = [i for i, wanted in enumerate(rounds) if wanted > number]
                if not active:
                    break
                inputs = with_prompts(images[active], torch.from_numpy(channels[active]))
                masks = predict(inputs).argmax(dim=1).cpu().numpy() > 0
                for i, mask in zip(active, masks, strict=True):
                    if not self._correct(channels[i], labels[i], mask & (labels[i] >= 0), generators[i]):
                        rounds[i] = 0
        return torch.from_numpy(channels)

    def _correct(
        self, channels: np.ndarray, label: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> bool:
        """Add the next prompt to the channels of a sample; return False if there is nothing to correct."""
        prompt = self.user.next(label > 0, mask, rng)
        if prompt is None:
            return False
        set_mask(channels, mask)
        draw_prompts(channels, [prompt], Frame.of_array(mask.shape))
        return True


def with_prompts(images: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """Return the input of a network: images (B, C, *P) with the channels (B, 7, *P) uint8 of the prompts."""
    return torch.cat([images, prompts.to(images.device, images.dtype) / FULL], dim=1)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its own mode afterwards."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
