"""Intensity augmentation of whole batches on the device that trains, instead of in the worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from medseg.data.augmentation.pipeline import Augmenter
from medseg.data.loading.generator_state import unpack_generator
from medseg.data.loading.sampling.patch_dataset import GENERATOR, PatchDataset, single_threaded
from medseg.data.loading.workers import Sample
from medseg.errors import ConfigError


@dataclass(frozen=True)
class DeviceAugmentation:
    """Applies the intensity transforms that the worker processes left out.

    The draws are those of the worker processes, from (seed, epoch, position). On a CPU the images are the same
    to the last bit; on a GPU, noise has other values, because its generator differs.

    Attributes:
        augmenter: draws and applies the transforms.
        device: where they are computed.
        masks: number of channels at the end of the images that are masks and stay as they are.
    """

    augmenter: Augmenter
    device: torch.device
    masks: int = 0

    @classmethod
    def of(cls, patches: PatchDataset, device: torch.device) -> DeviceAugmentation:
        """Let a patch dataset leave out the intensity transforms, and return what applies them.

        Raises:
            ConfigError: a transform needs a second sample, or one of the user's own follows.
        """
        config = patches.augmenter.config
        names = {"augment.style": config.style.probability > 0, "augment.cutmix": config.cutmix.probability > 0,
                 "transforms": bool(patches.transforms)}  # fmt: skip
        used = [name for name, value in names.items() if value]
        if used:
            raise ConfigError(
                f"train.augment_on=device: not possible with {' and '.join(used)}",
                hint="Set train.augment_on=workers.",
            )
        patches.defer_intensity = True
        return cls(patches.augmenter, device, patches.masks.count if patches.masks is not None else 0)

    def batches(self, batches: Iterator[Sample]) -> Iterator[Sample]:
        """Yield the batches with augmented images on the device.

        On a GPU this happens beside the updates, on a stream of its own: transforms that need a statistic of an
        image wait for that stream only.
        """
        if self.device.type != "cuda":
            yield from map(self.augment, batches)
            return
        stream = torch.cuda.Stream(self.device)
        for batch in batches:
            with torch.cuda.stream(stream):
                augmented = self.augment(batch)
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(stream)
            augmented["image"].record_stream(current)
            yield augmented

    def augment(self, batch: Sample) -> Sample:
        """Return a batch with augmented images on the device."""
        images = batch["image"].to(self.device, non_blocking=True)
        channels = images.shape[1] - self.masks
        with single_threaded():
            foreground: list[torch.Tensor | None] = [None] * len(images)
            if self.augmenter.config.background.probability > 0:
                foreground = list((batch["label"][:, 0] > 0).to(self.device, non_blocking=True))
            for image, objects, state in zip(images, foreground, batch[GENERATOR], strict=True):
                rng = unpack_generator(state)
                image[:channels] = self.augmenter.apply_intensity(image[:channels], rng, None, objects)
        return {**batch, "image": images}
