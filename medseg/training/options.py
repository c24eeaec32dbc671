"""Options of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import Spec
from medseg.optim.optimizers import AdamWConfig, OptimizerConfig, PolynomialSchedule, ScheduleConfig

Fraction = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Spec):
    """The training.

    Attributes:
        epochs, iterations: an epoch is ``iterations`` updates of the weights.
        batch_size, accumulate: an update uses ``accumulate`` batches of ``batch_size`` patches.
        amp: ``bf16`` or ``fp16`` mixed precision; ``auto`` is bf16 where the device computes it natively.
        aux_weight: of the loss of an auxiliary head, where the network has one.
        gradient_clip: largest gradient norm; none leaves it alone.
        ema: decay of an exponential moving average of the weights, which is then validated and kept;
            0 keeps the weights themselves.
        validate_every: epochs between validations (the last epoch always validates).
        validate_cases: the most cases that a validation goes through; none leaves it to ``validate_share``.
        validate_share: the share of the updates' time that a validation may take, at least one case of each
            class apart; it is estimated from the voxels computed, so that every machine validates the same
            cases. None validates all cases.
        monitor: ``dice`` or ``iou``, of all classes or of one (``dice:lesion``): the best is kept.
        early_stop: validations without a better score after which the training ends.
        save_every_steps, save_every_minutes: when a checkpoint is written within an epoch; one is also
            written at each epoch's end.
        device: ``auto`` is the first CUDA device if there is one, else the CPU.
        threads: that compute on the CPU; none: one for each core this process may use. Beside other processes
            fewer can be faster. Another number changes the last digits of results.
    """

    epochs: int = Field(default=50, ge=1)
    iterations: int = Field(default=100, ge=1)
    batch_size: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = PolynomialSchedule(warmup=0.02)
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    aux_weight: float = Field(default=0.4, ge=0)
    gradient_clip: Annotated[float, Field(gt=0)] | None = 12.0
    ema: Fraction = 0.0
    channels_last: bool = True
    validate_every: int = Field(default=1, ge=1)
    validate_cases: Annotated[int, Field(ge=1)] | None = None
    validate_share: Annotated[float, Field(gt=0)] | None = 0.2
    monitor: str = "dice"
    early_stop: Annotated[int, Field(ge=1)] | None = None
    save_every_steps: Annotated[int, Field(ge=1)] | None = None
    save_every_minutes: Annotated[float, Field(gt=0)] | None = 5.0
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
