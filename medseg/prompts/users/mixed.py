"""A user of changing habits, and habits by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from medseg.errors import ConfigError, did_you_mean
from medseg.prompts.prompts import Prompt
from medseg.prompts.users.boxes import BoxUser
from medseg.prompts.users.clicks import ClickUser
from medseg.prompts.users.lassos import LassoUser
from medseg.prompts.users.scribbles import ScribbleUser
from medseg.prompts.users.user import BoolArray, User

_BASIC: tuple[User, ...] = (
    ClickUser(),
    ClickUser("random"),
    ClickUser("hasty"),
    BoxUser(),
    BoxUser(one_slice=True),
    ScribbleUser("lines"),
    ScribbleUser("zigzags"),
    ScribbleUser("skeletons"),
    ScribbleUser("contours"),
    LassoUser(),
)


@dataclass(frozen=True)
class MixedUser:
    """Takes another habit for each prompt: for training, and as the user who tries everything.

    Args:
        users: the habits.
        weights: how often each is taken, one per habit; equally often if empty.
    """

    users: tuple[User, ...] = _BASIC
    weights: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return "mixed"

    def first(self, reference: BoolArray, rng: np.random.Generator) -> Prompt:
        return self._draw(rng).first(reference, rng)

    def next(self, reference: BoolArray, mask: BoolArray, rng: np.random.Generator) -> Prompt | None:
        return self._draw(rng).next(reference, mask, rng)

    def _draw(self, rng: np.random.Generator) -> User:
        if not self.weights:
            return self.users[int(rng.integers(len(self.users)))]
        weights = np.array(self.weights, float)
        return self.users[int(rng.choice(len(self.users), p=weights / weights.sum()))]


USERS: Mapping[str, User] = MappingProxyType({user.name: user for user in (*_BASIC, MixedUser())})
"""The habits by name."""


def user_by_name(name: str) -> User:
    """Return a habit with its usual settings.

    Args:
        name: ``clicks``, ``random-clicks``, ``hasty-clicks``, ``box``, ``slice-box``, ``lines``, ``zigzags``,
            ``skeletons``, ``contours``, ``lasso`` or ``mixed``.

    Raises:
        ConfigError: if there is no such habit.
    """
    if name not in USERS:
        raise ConfigError(
            f"user {name!r}: expected one of {', '.join(USERS)}",
            hint=did_you_mean(name, USERS) or "Choose one of these habits.",
        )
    return USERS[name]
