"""``Spec``: the base of every typed block of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen block of settings that refuses unknown keys.

    A component owns its ``Spec`` and builds itself from it; members of a union carry a literal
    ``name`` that tells them apart in YAML.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
