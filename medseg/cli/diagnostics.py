"""What this machine and this installation have to offer, and what stands in the way: facts, not prose.

``diagnose`` only looks: it changes nothing (but for a file of a few bytes that it writes and removes to
see whether a folder takes one) and reads no environment variable.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.system.platform import cgroup_cores, cgroup_memory, physical_memory, usable_cores

Status = Literal["ok", "note", "problem"]

GIB = 1024**3

# Distributions that are not required, and what each one would add.
OPTIONAL_PARTS = {
    "openvino": "faster inference on Intel CPUs",
    "highdicom": "writing DICOM SEG objects",
    "openslide-python": "segmenting whole-slide pictures",
    "zarr": "segmenting OME-Zarr pictures",
    "dask": "reading arrays larger than memory, chunk by chunk",
}


@dataclass(frozen=True)
class Finding:
    """One fact. ``problem``: something will fail; ``note``: good to know; ``ok``: as it should be.

    Attributes:
        topic: what it belongs to: system, memory, devices, packages, optional or storage.
        name: what was looked at.
        status: ok, note or problem.
        detail: what was found and, where it is not ok, what to do.
    """

    topic: str
    name: str
    status: Status
    detail: str


def diagnose(folder: Path | None = None) -> list[Finding]:
    """Look at the system, memory, devices, packages and storage; ``folder`` is the working folder if None."""
    return [
        *_system(),
        *_memory(),
        *_devices(),
        *_packages(),
        *_optional(),
        *_storage(Path.cwd() if folder is None else Path(folder)),
    ]


def _system() -> Iterator[Finding]:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Finding("system", "Python", "problem" if old else "ok", version + ("; needs 3.11" if old else ""))
    yield Finding("system", "operating system", "ok", f"{platform.platform()}, {platform.machine()}")
    total, allowed, quota = os.cpu_count() or 1, usable_cores(), cgroup_cores()
    limit = f", limited to {quota:g} by the container" if quota is not None and quota < allowed else ""
    few = min(allowed, quota or allowed) < total
    yield Finding("system", "CPU cores", "note" if few else "ok", f"{allowed} usable of {total}{limit}")


def _memory() -> Iterator[Finding]:
    total, available = physical_memory()
    limit = cgroup_memory()
    if total is None:
        yield Finding("memory", "memory", "note", "its size cannot be read on this system")
        return
    text = f"{total / GIB:.1f} GiB"
    if available is not None:
        text += f", {available / GIB:.1f} GiB available"
    if limit is not None and limit < total:
        text += f", limited to {limit / GIB:.1f} GiB by the container"
    usable = min(size for size in (total, available, limit) if size is not None)
    if usable < 2 * GIB:
        yield Finding("memory", "memory", "note", f"{text}; training in 3D wants 4 GiB: take smaller patches")
    else:
        yield Finding("memory", "memory", "ok", text)


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("devices", "torch", "problem", f"cannot be imported: {error}")
        return
    threads = torch.get_num_threads()
    cores = min(usable_cores(), cgroup_cores() or float("inf"))
    crowded = threads > cores
    advice = f"; more than the {cores:g} usable cores, which slows it down" if crowded else ""
    yield Finding("devices", "torch threads", "note" if crowded else "ok", f"{threads}{advice}")
    with warnings.catch_warnings(record=True) as told:  # a driver that is too old is told of as a warning
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        built = torch.version.cuda
        why = f"torch is built for CUDA {built}, finds no device" if built else "torch is built without CUDA"
        why = str(told[0].message).splitlines()[0] if told else why
        yield Finding("devices", "CUDA", "note", f"none: {why}; everything runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(index)
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            yield Finding("devices", f"cuda:{index}", "problem", f"{name} does not answer: {error}")
            continue
        scarce = free < 4 * GIB
        text = f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        yield Finding("devices", f"cuda:{index}", "note" if scarce else "ok", text)


def _packages() -> Iterator[Finding]:
    version = installed_version("medseg")
    if version is None:
        yield Finding("packages", "medseg", "problem", "not installed: pip install . in the project's folder")
        return
    yield Finding("packages", "medseg", "ok", version)
    for line in importlib.metadata.requires("medseg") or []:
        requirement = parse_requirement(line)
        if requirement is None:
            continue
        name, least = requirement
        found = installed_version(name)
        if found is None:
            yield Finding("packages", name, "problem", f'missing: pip install "{name}>={least}"')
        elif version_numbers(found) < version_numbers(least):
            detail = f'{found} is too old, needs {least}: pip install "{name}>={least}"'
            yield Finding("packages", name, "problem", detail)
        else:
            yield Finding("packages", name, "ok", f"{found} (needs {least})" if least != "0" else found)


def _optional() -> Iterator[Finding]:
    for name, use in OPTIONAL_PARTS.items():
        found = installed_version(name)
        if found is None:
            yield Finding("optional", name, "note", f"not installed; adds {use}: pip install {name}")
        else:
            yield Finding("optional", name, "ok", f"{found}: {use}")


def _storage(folder: Path) -> Iterator[Finding]:
    yield _place("working folder", folder)
    try:
        yield _place("temporary folder", Path(tempfile.gettempdir()))
    except FileNotFoundError as error:
        yield Finding("storage", "temporary folder", "problem", f"none can be written to: {error}")
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield Finding("storage", "shared memory", "note", "no /dev/shm; workers must share another way")
        return
    usage = shutil.disk_usage(shared)
    text = f"{usage.free / GIB:.2f} of {usage.total / GIB:.2f} GiB free"
    if usage.free < GIB:
        text += "; loaders pass batches through it: give the container more (--shm-size) or use no workers"
        yield Finding("storage", "shared memory", "note", text)
    else:
        yield Finding("storage", "shared memory", "ok", text)


def _place(name: str, folder: Path) -> Finding:
    """Whether ``folder`` takes a file, and how much room it has."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"medseg")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("storage", name, "problem", f"{folder} takes no file: {error.strerror or error}")
    text = f"{folder}, {free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("storage", name, "note", f"{text}; caches and checkpoints want more")
    return Finding("storage", name, "ok", text)


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, None if it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def parse_requirement(line: str) -> tuple[str, str] | None:
    """Name and least version ("0" if any will do) of a ``Requires-Dist`` line; None if it is for an extra."""
    head, _, marker = line.partition(";")
    if re.search(r"\bextra\b", marker):
        return None
    name = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", head)
    least = re.search(r">=\s*([0-9][0-9A-Za-z.]*)", head)
    return (name[1], least[1] if least else "0") if name else None


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without trailing zeros, to compare: "2.13.0+cpu" gives (2, 13)."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
