"""What the processes of the tests of distributed training do, and how they are started."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RANKS = 2


def run_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call a function in two processes that are connected as by ``torchrun``; return their results."""
    context = multiprocessing.get_context("forkserver")  # which imports torch once
    context.set_forkserver_preload(["medseg.training.fit", "medseg.training.distributed.sharding"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answers = context.Queue()
    rest = (port, answers, function, arguments)
    processes = [context.Process(target=_run, args=(rank, *rest)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    results = dict(answers.get(timeout=600) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    failed = [text for good, text in results.values() if not good]
    assert not failed, "\n".join(failed)
    return [results[rank][1] for rank in range(RANKS)]


def _run(rank: int, port: int, answers: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(RANKS),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        answers.put((rank, (True, function(*arguments))))
    except BaseException:
        answers.put((rank, (False, traceback.format_exc())))


def train_all(trainings: list[tuple[dict[str, Any], Path]], **arguments: Any) -> list[dict[str, Any]]:
    """Train one network after the other; return the result of each."""
    from medseg.config.schema import load_config
    from medseg.training.fit import fit

    return [vars(fit(load_config(settings), folder, **arguments)) for settings, folder in trainings]


def share_losses(cases: list[tuple[Any, torch.Tensor, torch.Tensor]], splits: list[slice]) -> list[Any]:
    """Compute losses and their gradients of this process's samples."""
    from medseg.losses.base import share_batch
    from medseg.training.distributed.launch import join_ranks
    from medseg.training.distributed.options import DistributedConfig

    with join_ranks(DistributedConfig(), "cpu") as ranks:
        own, results = splits[ranks.rank], []
        for loss, logits, target in cases:
            share_batch(loss, ranks.reduction)
            part = logits[own].clone().requires_grad_()
            value = loss(part, target[own])
            value.backward()
            results.append((value.item(), (part.grad / ranks.size).numpy()))  # DDP averages the gradients
        return results
