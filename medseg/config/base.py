"""``Spec``: the base of every typed block of settings."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Spec(BaseModel):
    """A frozen block of settings that refuses unknown keys.

    A component owns its ``Spec`` and builds itself from it; members of a union carry a literal
    ``name`` that tells them apart in YAML. A block that leaves its ``name`` out means the default's; an
    empty one (``train:`` and nothing below it) is the default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
        for key, field in cls.model_fields.items():
            default: Any = field.get_default(call_default_factory=False)
            block: Any = filled.get(key)
            if not isinstance(default, Spec) or key not in filled:
                continue
            if block is None and type(None) not in get_args(field.annotation):
                del filled[key]
            elif isinstance(block, dict) and "name" not in block:
                name = getattr(default, "name", None)
                if name is not None:
                    filled[key] = {"name": name, **block}
        return filled
