"""``join_ranks``: connect the processes that ``torchrun`` started."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from medseg.errors import ConfigError, TrainingError
from medseg.progress import LOGGER
from medseg.system.device import resolve_device
from medseg.system.processes.launch import Launch
from medseg.training.distributed.options import DistributedConfig
from medseg.training.distributed.ranks import ONE_PROCESS, Groups, ProcessRanks, Ranks
from medseg.training.distributed.watch import RankWatch

_CONNECTING = timedelta(minutes=5)
_CONTROL = timedelta(days=7)
"""A process may wait long while another one prepares cases; that it is alive is watched."""

_joined: list[ProcessRanks] = []
_connections = itertools.count()


@contextmanager
def join_ranks(options: DistributedConfig, device: str) -> Iterator[Ranks]:
    """Connect to the other processes of ``torchrun`` inside the block; a single process needs no connection.

    A block inside the block uses the same connection.

    Args:
        options: of the training.
        device: as in ``train.device``; each process on a machine has a GPU of its own.

    Raises:
        ConfigError: there are fewer GPUs than processes.
        TrainingError: the processes cannot connect, or one of them dies, which the message names.
    """
    launch = Launch.of_this_process()
    if launch.size == 1 or _joined:
        yield _joined[-1] if _joined else ONE_PROCESS
        return
    own_device = rank_device(device, launch)
    ranks = _connect(options, launch, own_device)
    _joined.append(ranks)
    level = LOGGER.level
    if not ranks.is_main:
        LOGGER.setLevel(logging.ERROR)  # rank 0 logs for all
    try:
        with warnings.catch_warnings():
            # weights of one voxel, whose memory format is ambiguous; stages that end with a norm
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
            yield ranks
        ranks.wait()
    except BaseException as error:
        explained = ranks.explained(error)
        if explained is error:
            raise
        raise explained from error
    finally:
        ranks.watch.stop()
        LOGGER.setLevel(level)
        _joined.remove(ranks)
        if own_device.type == "cpu":  # NCCL may wait for a dead process
            dist.destroy_process_group()
    if own_device.type != "cpu":
        dist.destroy_process_group()


def rank_device(name: str, launch: Launch) -> torch.device:
    """Return the device of a process: with CUDA, the GPU with the number of its local rank.

    Raises:
        ConfigError: one GPU is named for several processes, or there are too few.
    """
    device = resolve_device(name)
    if device.type != "cuda" or launch.local_size == 1:
        return device
    if device.index is not None:
        raise ConfigError(
            f"train.device={name}: {launch.local_size} processes on this machine cannot use one GPU",
            hint="Set train.device=cuda; each process then uses a GPU of its own.",
        )
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise ConfigError(
            f"{launch.local_size} processes were started on a machine with {count} GPUs",
            hint=f"Start torchrun with --nproc-per-node {count}, or set train.device=cpu.",
        )
    return torch.device("cuda", launch.local_rank)


def _connect(options: DistributedConfig, launch: Launch, device: torch.device) -> ProcessRanks:
    """Connect the processes, and begin to watch them."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store: Any = next(iter(rendezvous("env://", timeout=_CONNECTING)))[0]
        number = next(_connections)  # a process may train several times
        watch = RankWatch(PrefixStore(f"medseg/watch/{number}", store.clone()), launch, options.silence)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore(f"medseg/group/{number}", store),
            rank=launch.rank,
            world_size=launch.size,
            timeout=timedelta(seconds=options.timeout),
        )
        control = dist.new_group(backend="gloo", timeout=_CONTROL)
        watch.start()
    except RuntimeError as error:
        raise TrainingError(
            f"rank {launch.rank}: the {launch.size} processes cannot connect: {error}",
            hint="Check that torchrun runs on all machines, and that --rdzv-endpoint can be reached.",
        ) from error
    assert dist.group.WORLD is not None
    assert isinstance(control, dist.ProcessGroup)
    return ProcessRanks(launch, device, Groups(dist.group.WORLD, control), watch)
