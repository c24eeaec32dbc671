"""Options of an interactive evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.errors import ConfigError, did_you_mean
from medseg.prompts.users import USERS

HUMAN = "human"
"""The user who replays recorded scribbles of people."""

ObjectKind = Literal["classes", "instances", "components"]


@dataclass(frozen=True)
class InteractiveOptions:
    """How a model is prompted and measured.

    Attributes:
        users: habits of the simulated users, as in `medseg.prompts.users.user_by_name`, and ``human``, who
            replays recorded scribbles. If empty, ``human`` where the cases have scribbles, and ``clicks``.
        counts: numbers of interactions after which the Dice is reported; the largest is the most that a user
            makes.
        targets: Dice to reach; the interactions that it takes are counted.
        objects: what one object is: everything of a class (or region), a numbered instance, or a connected
            component of a class.
        most_objects: most objects of each case; of more, some are drawn at random.
        least_voxels: smaller objects are left out, and counted.
        seed: of all draws.
        pictures: most objects whose pictures are kept for a report, the worst.
        jobs: cases at a time; more than one makes the seconds per interaction longer.

    Raises:
        ConfigError: if a value is out of range or a user is not known.
    """

    users: tuple[str, ...] = ()
    counts: tuple[int, ...] = (1, 3, 5, 10)
    targets: tuple[float, ...] = (0.85, 0.90)
    objects: ObjectKind = "classes"
    most_objects: int = 10
    least_voxels: int = 10
    seed: int = 0
    pictures: int = 12
    jobs: int = 1

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1 or list(self.counts) != sorted(set(self.counts)):
            raise ConfigError(
                f"--interactions {','.join(map(str, self.counts))}: expected ascending counts of 1 or more",
                hint="For example --interactions 1,3,5,10.",
            )
        if not all(0 < target <= 1 for target in self.targets):
            raise ConfigError(f"targets {self.targets}: expected Dice above 0, up to 1", hint="Such as 0.9.")
        if self.pictures < 0:
            raise ConfigError(f"pictures {self.pictures}: expected 0 or more")
        if min(self.most_objects, self.least_voxels, self.jobs) < 1:
            raise ConfigError("most_objects, least_voxels and jobs: expected 1 or more")
        known = (HUMAN, *USERS)
        for user in self.users:
            if user not in known:
                raise ConfigError(
                    f"user {user!r}: expected one of {', '.join(known)}",
                    hint=did_you_mean(user, known) or "Choose one of these habits.",
                )

    def users_for(self, recorded: bool) -> tuple[str, ...]:
        """Return the users of a case, which has ``recorded`` scribbles or none."""
        return self.users or ((HUMAN, "clicks") if recorded else ("clicks",))

    @property
    def most(self) -> int:
        """Most interactions with one object."""
        return self.counts[-1]


DEFAULT_INTERACTIVE = InteractiveOptions()
