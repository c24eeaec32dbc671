"""States of random generators as tensors, to go on drawing in another process."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def pack_generator(rng: np.random.Generator) -> torch.Tensor:
    """Return the state of a generator of the kind of ``numpy.random.default_rng`` as (40,) uint8."""
    state: Any = rng.bit_generator.state
    numbers = (
        (state["state"]["state"], 16),
        (state["state"]["inc"], 16),
        (state["has_uint32"], 4),
        (state["uinteger"], 4),
    )
    return torch.frombuffer(
        bytearray(b"".join(n.to_bytes(size, "little") for n, size in numbers)), dtype=torch.uint8
    )


def unpack_generator(packed: torch.Tensor) -> np.random.Generator:
    """Return a generator with a packed state.

    Example:
        >>> rng = np.random.default_rng(3)
        >>> unpack_generator(pack_generator(rng)).random() == rng.random()
        True
    """
    data = packed.cpu().numpy().tobytes()
    state, inc, has, last = (
        int.from_bytes(data[i:j], "little") for i, j in ((0, 16), (16, 32), (32, 36), (36, 40))
    )
    generator = np.random.PCG64()
    generator.state = {
        "bit_generator": "PCG64", "state": {"state": state, "inc": inc}, "has_uint32": has, "uinteger": last,
    }  # fmt: skip
    return np.random.Generator(generator)
