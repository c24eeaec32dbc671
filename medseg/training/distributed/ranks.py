"""``Ranks``: the processes of a training, and what they agree on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from medseg.errors import MedsegError, TrainingError, TrainingStopped
from medseg.progress import QUIET, Progress
from medseg.system.device import resolve_device
from medseg.system.platform import usable_cores
from medseg.system.processes.batch_reduction import WHOLE_BATCH, BatchReduction
from medseg.system.processes.launch import Launch
from medseg.training.distributed.reduction import RankReduction
from medseg.training.distributed.watch import RankWatch

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE = 5.0
"""Seconds to wait for evidence of which process died."""
_RESUME = (
    "The last good checkpoint is kept: start the same command again with --resume auto, with any number of "
    "processes."
)
_MEMORY = " If memory was short, lower train.batch_size or data.workers."


class Ranks:
    """The processes of a training. This class is the ordinary case, a single process.

    Every process calls the methods that communicate in the same order.

    Attributes:
        launch: the place of this process among the others.
        reduction: sums over a batch that the processes share.

    Example:
        >>> ranks = Ranks()
        >>> ranks.is_main, ranks.share([1, 2, 3]), ranks.on_main(lambda: "done")
        (True, [1, 2, 3], 'done')
    """

    def __init__(self, launch: Launch | None = None, reduction: BatchReduction = WHOLE_BATCH) -> None:
        self.launch = Launch() if launch is None else launch
        self.reduction = reduction

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.launch.rank

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.launch.size

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files of the run, its log and its messages."""
        return self.launch.rank == 0

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the value of each process."""
        return [value]

    def agree(self, requests: Sequence[int]) -> list[int]:
        """Return the largest value of each request over the processes."""
        return list(requests)

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace floating-point tensors by their means over the processes, in place."""

    def wait(self) -> None:
        """Wait until every process is here."""

    def resolve_device(self, name: str) -> torch.device:
        """Return the device that this process computes on, for a name as in ``train.device``."""
        return resolve_device(name)

    def threads(self, wanted: int | None) -> int | None:
        """Return the number of threads: the wanted one, or None for all cores."""
        return wanted

    def seed_update(self, seed: int, step: int) -> None:
        """Seed what is random in an update of several processes (dropout): each draws other numbers."""

    def share(self, items: Sequence[T]) -> list[T]:
        """Return this process's share of some items."""
        return list(items)[self.rank :: self.size]

    def gather_shares(self, results: Sequence[T]) -> list[T]:
        """Return the results for all items, in order, from those for the shares."""
        shares = self.gather(list(results))
        total = sum(map(len, shares))
        return [shares[i % self.size][i // self.size] for i in range(total)]

    def divide(self, items: Sequence[T], work: Callable[[list[T]], object]) -> None:
        """Let each process do its share of some work whose results are kept in files, and wait for all.

        A single process does nothing: what follows does the work. Nor is an error raised here: what follows
        meets it again.
        """
        if self.size == 1:
            return
        part = self.share(items)
        if part:
            try:
                work(part)
            except Exception:
                _LOGGER.debug("rank %d could not complete its share", self.rank, exc_info=True)
        self.wait()

    def on_main(self, function: Callable[[], T]) -> T:
        """Call a function in rank 0 and return its result in every process."""
        result: Any = function() if self.is_main else None
        return self.broadcast(result)

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn an error of communication that the end of another process causes into one that names it.

        Raises:
            TrainingError: another process died.
        """
        yield

    def progress(self, progress: Progress) -> Progress:
        """Return the progress in rank 0, a silent one elsewhere."""
        return progress if self.is_main else QUIET


ONE_PROCESS = Ranks()
"""The ordinary case."""


@dataclass(frozen=True)
class Groups:
    """The connections of the processes.

    Attributes:
        data: communicates tensors on the device that computes.
        control: communicates decisions and results between the CPUs.
    """

    data: dist.ProcessGroup
    control: dist.ProcessGroup


class ProcessRanks(Ranks):
    """Several processes.

    Args:
        launch: the place of this process.
        device: the device that computes.
        groups: the connections.
        watch: detects that another process died.
    """

    def __init__(self, launch: Launch, device: torch.device, groups: Groups, watch: RankWatch) -> None:
        super().__init__(launch, RankReduction(groups.data))
        self.device, self.data, self.control, self.watch = device, groups.data, groups.control, watch

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0, group=self.control, device=torch.device("cpu"))
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Return the value of each process."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def agree(self, requests: Sequence[int]) -> list[int]:
        """Return the largest value of each request over the processes."""
        largest = torch.tensor(list(requests), dtype=torch.int64)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.control)
        return largest.tolist()

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace floating-point tensors by their means over the processes, in place."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self.data)
            tensor /= self.size

    def wait(self) -> None:
        """Wait until every process is here."""
        self.agree([0])

    def resolve_device(self, name: str) -> torch.device:
        """Return the device that this process computes on."""
        return self.device

    def threads(self, wanted: int | None) -> int | None:
        """Return the number of threads: the wanted one, or this process's share of the machine's cores."""
        return wanted or max(1, usable_cores() // self.launch.local_size)

    def seed_update(self, seed: int, step: int) -> None:
        """Seed what is random in an update: the processes draw other numbers, and a resumed run the same."""
        torch.manual_seed(hash((seed, step, self.rank)) % 2**63)

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn an error of communication that the end of another process causes into one that names it."""
        try:
            yield
        except RuntimeError as error:
            explained = self.explained(error)
            if explained is error:
                raise
            _LOGGER.debug("%s", explained)  # for messages.log; the command prints it
            raise explained from error

    def explained(self, error: BaseException) -> BaseException:
        """Return the error that ends this process, and let the others know it."""
        if isinstance(error, TrainingStopped):
            error.shown = self.is_main
            return error
        if isinstance(error, MedsegError):
            if not self.is_main and self.watch.error_of(0, patience=1.0) == error.message:
                error.shown = False  # by rank 0
            self.watch.report(error)
            return error
        found = self.watch.explain(_PATIENCE if isinstance(error, RuntimeError) else 1.0)
        if found is None:
            self.watch.report(error)
            return error
        explained = TrainingError(found, hint=_RESUME + (_MEMORY if found.endswith("died") else ""))
        explained.shown = self.is_main or self.watch.error_of(0, patience=0.0) is None  # or rank 0 prints it
        return explained
