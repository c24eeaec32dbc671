"""Retrying with smaller batches, then with sums in the computer's memory, when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from medseg.errors import OutOfMemoryError
from medseg.inference.sliding_window.options import Execution
from medseg.system.allocator import is_out_of_memory

Result = TypeVar("Result")


def retry_with_less(attempt: Callable[[Execution], Result], execution: Execution, hint: str) -> Result:
    """Call ``attempt``, again with a reduced execution each time memory runs out.

    Args:
        attempt: what to run.
        execution: the first one to try.
        hint: what to do if nothing smaller is left.

    Returns:
        What the first successful attempt returned.

    Raises:
        OutOfMemoryError: even the smallest execution ran out of memory.
    """
    while True:
        try:
            return attempt(execution)
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            reduced = execution.reduced()
            if reduced is None:
                raise OutOfMemoryError("out of memory", hint=hint) from error
        execution = reduced
        gc.collect()  # reference cycles of the failed attempt
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
