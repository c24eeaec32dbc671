"""Options of the training loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medseg.config.base import FieldTraits, Spec
from medseg.config.duration import Minutes
from medseg.losses.deep_supervision import DeepWeights
from medseg.optim import AdamWConfig, OptimizerConfig, PolynomialSchedule, ScheduleConfig
from medseg.training.distributed.options import DistributedConfig
from medseg.training.tracking.options import TrackingConfig

Fraction = Annotated[float, Field(ge=0, lt=1)]
_RESUME_SAFE = FieldTraits(resume_safe=True)


class SwaConfig(Spec):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407).

    The mean of the weights at several points late in the training is validated and saved in the model file. The
    running statistics of its batch norms are computed again from training patches.

    Attributes:
        start: position in the training (0 to 1) from which weights are averaged.
        every: updates between two weights of the average; if None, ``train.iterations``.
        rate: constant learning rate from ``start`` on, as a share of ``train.optimizer.lr``; if None, that of
            the schedule. The default is close to what the default schedule has reached at ``start``.
        norm_batches: batches from which the statistics of batch norms are computed.
    """

    start: float = Field(default=0.75, ge=0, lt=1)
    every: Annotated[int, Field(ge=1)] | None = None
    rate: Annotated[float, Field(gt=0)] | None = 0.3
    norm_batches: int = Field(default=20, ge=1)


class UnlabeledConfig(Spec):
    """Training with unlabeled images by a mean teacher (Tarvainen and Valpola 2017, arXiv:1703.01780).

    The teacher is the moving average of the weights (``train.ema``). On patches of unlabeled images with two
    drawn augmentations of the intensities, the network learns to predict what the teacher predicts: the loss is
    the mean squared difference of the probabilities.

    Attributes:
        path: folder of images without labels.
        weight: weight of this loss after the ramp-up.
        ramp_up: position in the training (0 to 1) at which the weight is reached; before, it is multiplied by
            exp(-5 (1 - t)²), where t grows from 0 to 1.
        patches: number of patches of unlabeled images in a batch; if None, ``train.batch_size``.
    """

    path: Path
    weight: float = Field(default=1.0, gt=0)
    ramp_up: float = Field(default=0.4, gt=0, le=1)
    patches: Annotated[int, Field(ge=1)] | None = None

    def weight_at(self, position: float) -> float:
        """Return the weight at a position in the training, from 0 to 1.

        Example:
            >>> options = UnlabeledConfig(path="scans", weight=2.0, ramp_up=0.5)
            >>> options.weight_at(0.5), round(options.weight_at(0), 4)
            (2.0, 0.0135)
        """
        missing = 1 - min(position / self.ramp_up, 1.0)
        return self.weight * math.exp(-5 * missing**2)


class TrainConfig(Spec):
    """The training loop.

    Attributes:
        budget: time that the whole command may take, from the start to the model file: minutes, or text such
            as ``90s``, ``20min`` or ``2h``. The schedule of the learning rate then follows the time, and
            ``epochs`` is not used. If None, the training has ``epochs`` epochs.
        epochs: number of epochs.
        iterations: updates of the weights in an epoch.
        batch_size: patches in a batch; several processes share them.
        accumulate: batches in an update.
        optimizer: the optimizer and its learning rate.
        schedule: how the learning rate changes over the training.
        amp: mixed precision: ``bf16`` or ``fp16``; ``auto`` is bf16 where the device supports it natively.
        deep_weights: weights of the resolutions of a network with deep supervision, normalized to a sum of 1:
            ``halving`` (1, 1/2, 1/4, …), ``halving_skip_lowest`` (0 for the lowest resolution), or one number
            for each, the finest first.
        aux_weight: weight of the loss of an auxiliary head, if the network has one.
        gradient_clip: largest gradient norm; if None, gradients are not clipped.
        ema: decay of an exponential moving average of the weights. With an average, it is the average that is
            validated and saved in the model file; 0 disables it.
        swa: stochastic weight averaging, in place of ``ema``. If None, it is off.
        unlabeled: training with unlabeled images, which needs ``ema``. If None, it is off.
        gradient_checkpointing: compute the activations of each stage of the network again in the backward pass
            instead of keeping them: less memory, about a third more time, the same gradients. Stages with batch
            normalization are left out.
        compile: compile the network by ``torch.compile``; no effect where it does not work, which the log says.
            The result differs in the last digits.
        channels_last: store batches and weights in the channels-last memory format.
        validate_every: epochs between validations; the last epoch is always validated.
        validate_cases: largest number of validation cases; if None, only ``validate_share`` limits it.
        validate_share: share of the time of the updates that a validation may take; one case of each class is
            always validated. It is estimated from the number of voxels computed, so that every machine
            validates the same cases. If None, all cases are validated.
        monitor: score that selects the best checkpoint: ``dice`` or ``iou``, the mean or that of one label
            (``dice:lesion``); with ``task.name=instances`` also ``instances``, with ``task.name=prompts``
            ``clicks``, ``clicks:1`` or ``clicks:5``.
        checkpoint: weights of the model file: those with the ``best`` score of a validation, or the ``last``
            ones, which the validation cases do not influence.
        early_stop: number of validations without a better score after which the training ends; if None, it
            never ends early.
        save_every_steps: updates between checkpoints within an epoch; if None, only the time counts. A
            checkpoint is also written after every epoch.
        save_every_minutes: minutes between checkpoints within an epoch; if None, only the updates count.
        device: ``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        augment_on: where the intensity transforms are computed: ``workers`` prepare each sample; ``device``
            augments whole batches on the device, which relieves the CPU beside a GPU. The draws are the same.
            Mixing of styles, CutMix and transforms of your own need ``workers``.
        threads: number of CPU threads; if None, one for each core that this process may use. Fewer can be
            faster while other processes use the cores. The number affects the last digits of results.
        tracking: services that receive the course of the training, beside ``log.jsonl`` and TensorBoard.
        distributed: training with several processes; see :class:`DistributedConfig`.
    """

    budget: Minutes | None = None
    epochs: int = Field(default=50, ge=1)
    iterations: int = Field(default=100, ge=1)
    batch_size: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = PolynomialSchedule(warmup=0.02)
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    deep_weights: DeepWeights = "halving"
    aux_weight: float = Field(default=0.4, ge=0)
    gradient_clip: Annotated[float, Field(gt=0)] | None = 12.0
    ema: Fraction = 0.0
    swa: SwaConfig | None = None
    unlabeled: UnlabeledConfig | None = None
    gradient_checkpointing: Annotated[bool, _RESUME_SAFE] = False
    compile: bool = False
    channels_last: bool = True
    validate_every: int = Field(default=1, ge=1)
    validate_cases: Annotated[int, Field(ge=1)] | None = None
    validate_share: Annotated[float, Field(gt=0)] | None = 0.2
    monitor: str = "dice"
    checkpoint: Literal["best", "last"] = "best"
    early_stop: Annotated[int, Field(ge=1)] | None = None
    save_every_steps: Annotated[Annotated[int, Field(ge=1)] | None, _RESUME_SAFE] = None
    save_every_minutes: Annotated[Annotated[float, Field(gt=0)] | None, _RESUME_SAFE] = 5.0
    device: Annotated[str, _RESUME_SAFE] = "auto"
    augment_on: Literal["workers", "device"] = "workers"
    threads: Annotated[Annotated[int, Field(ge=1)] | None, _RESUME_SAFE] = None
    tracking: TrackingConfig = TrackingConfig()
    distributed: DistributedConfig = DistributedConfig()

    @model_validator(mode="after")
    def _check_averages(self) -> TrainConfig:
        if self.swa is not None and self.ema:
            raise ValueError("swa and ema are both averages of the weights; set ema to 0, or leave out swa")
        if self.unlabeled is not None and not self.ema:
            raise ValueError(
                "unlabeled needs an average of the weights as teacher: set ema, for example to 0.99"
            )
        return self

    @model_validator(mode="after")
    def _check_sharding(self) -> TrainConfig:
        options = self.distributed
        refused = {"amp=fp16": self.amp == "fp16", "compile=true": self.compile}
        refused["distributed.compression"] = options.compression != "none"
        names = [name for name, used in refused.items() if used]
        if options.strategy == "fsdp" and names:
            raise ValueError(f"distributed.strategy=fsdp is not possible with {' and '.join(names)}")
        return self
