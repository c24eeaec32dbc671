"""Optimizers and learning-rate schedules.

The unions ``OptimizerConfig`` and ``ScheduleConfig`` are the registries. To add an optimizer or a schedule,
write its settings with a literal ``name`` in ``optimizers.py`` or ``schedules.py`` and add them to the union.
"""

from __future__ import annotations

from medseg.optim.optimizers import AdamConfig, AdamWConfig, OptimizerConfig, SGDConfig
from medseg.optim.schedules import (
    ConstantSchedule,
    CosineSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    Schedule,
    ScheduleConfig,
    StepSchedule,
    learning_rate,
    learning_rate_at,
)

__all__ = [
    "AdamConfig",
    "AdamWConfig",
    "ConstantSchedule",
    "CosineSchedule",
    "OptimizerConfig",
    "PlateauSchedule",
    "PolynomialSchedule",
    "SGDConfig",
    "Schedule",
    "ScheduleConfig",
    "StepSchedule",
    "learning_rate",
    "learning_rate_at",
]
