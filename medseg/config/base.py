"""``Spec``, the base class of every typed block of settings, and the metadata of its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


@dataclass(frozen=True)
class FieldTraits:
    """Metadata of a field: ``Annotated[int, FieldTraits(resume_safe=True)]``.

    Attributes:
        resume_safe: whether a resumed run may change the setting; its result does not depend on it.
        resolve_path: whether a path is resolved against the file it is written in, or against the working
            directory in an override. If False, it is kept as written.
    """

    resume_safe: bool = False
    resolve_path: bool = True


class Spec(BaseModel):
    """A frozen block of settings that rejects unknown keys.

    A component owns its ``Spec`` and is built from it. The members of a union have a literal ``name`` that
    distinguishes them in YAML. A block without ``name`` has the name of the default; an empty block (``train:``
    with nothing below it) is the default.

    Example:
        >>> class NoiseConfig(Spec):
        ...     std: float = 0.1
        >>> NoiseConfig(std=0.2)
        NoiseConfig(std=0.2)
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
