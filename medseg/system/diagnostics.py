"""Checks of the machine and the installation, for ``medseg doctor`` and bug reports.

``diagnose`` changes nothing, except that it writes and removes a small file to test whether a folder is
writable. It reads no environment variable.
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

from medseg.errors import Finding
from medseg.system.platform import cgroup_cores, cgroup_memory, physical_memory, usable_cores

GIB = 1024**3


@dataclass(frozen=True)
class OptionalFeature:
    """Packages that are not required, and what they add.

    Attributes:
        packages: names of the distributions, as in the extra of ``pyproject.toml``.
        purpose: what they are used for.
    """

    packages: tuple[str, ...]
    purpose: str


OPTIONAL_FEATURES = {
    "dask": OptionalFeature(
        ("distributed",), "inference by several processes or machines (medseg infer --workers, --scheduler)"
    ),
    "dicom": OptionalFeature(("highdicom",), "writing DICOM SEG objects"),
    "hpo": OptionalFeature(("optuna",), "searching for settings (medseg study sweep)"),
    "mlflow": OptionalFeature(("mlflow-skinny", "sqlalchemy", "alembic"), "tracking trainings with MLflow"),
    "onnx": OptionalFeature(("onnx", "onnxruntime", "onnxscript"), "export to ONNX (medseg export --to onnx)"),
    "openvino": OptionalFeature(("openvino",), "faster inference on Intel CPUs, export to OpenVINO"),
    "parquet": OptionalFeature(("pyarrow",), "tables of an evaluation as Parquet files"),
    "sam": OptionalFeature(("transformers",), "SAM, SAM 2.1 and MedSAM"),
    "serve": OptionalFeature(
        ("starlette", "uvicorn", "python-multipart", "dicomweb-client"),
        "annotation (medseg annotate, medseg serve)",
    ),
    "slurm": OptionalFeature(("dask-jobqueue", "submitit"), "studies on a SLURM cluster"),
    "wandb": OptionalFeature(("wandb",), "tracking trainings with Weights & Biases"),
    "wsi": OptionalFeature(("openslide-bin", "openslide-python"), "whole-slide images"),
    "zarr": OptionalFeature(("zarr",), "OME-Zarr images"),
}
"""Optional features by the name of their extra."""


def diagnose(folder: Path | None = None) -> list[Finding]:
    """Check the system, memory, devices, packages and storage.

    Args:
        folder: folder to check for free space and write permission. If None, the working folder.
    """
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
    hint = "Install Python 3.11 or later." if old else ""
    yield Finding("problem" if old else "ok", "system", "Python", version, hint)
    yield Finding("ok", "system", "operating system", f"{platform.platform()}, {platform.machine()}")
    total, allowed, quota = os.cpu_count() or 1, usable_cores(), cgroup_cores()
    limit = f", limited to {quota:g} by the container" if quota is not None and quota < allowed else ""
    few = min(allowed, quota or allowed) < total
    yield Finding("note" if few else "ok", "system", "CPU cores", f"{allowed} usable of {total}{limit}")


def _memory() -> Iterator[Finding]:
    total, available = physical_memory()
    limit = cgroup_memory()
    if total is None:
        yield Finding("note", "memory", "memory", "its size cannot be read on this system")
        return
    text = f"{total / GIB:.1f} GiB"
    if available is not None:
        text += f", {available / GIB:.1f} GiB available"
    if limit is not None and limit < total:
        text += f", limited to {limit / GIB:.1f} GiB by the container"
    usable = min(size for size in (total, available, limit) if size is not None)
    if usable < 2 * GIB:
        yield Finding(
            "note", "memory", "memory", text, "Training in 3D needs about 4 GiB; use smaller patches."
        )
    else:
        yield Finding("ok", "memory", "memory", text)


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        hint = "Reinstall torch for this system."
        yield Finding("problem", "devices", "torch", f"cannot be imported: {error}", hint)
        return
    threads = torch.get_num_threads()
    cores = min(usable_cores(), cgroup_cores() or float("inf"))
    if threads > cores:
        message = f"{threads}, more than the {cores:g} usable cores"
        yield Finding(
            "note", "devices", "torch threads", message, "Set OMP_NUM_THREADS to the number of cores."
        )
    else:
        yield Finding("ok", "devices", "torch threads", f"{threads}")
    with warnings.catch_warnings(record=True) as caught:  # torch warns of a driver that is too old
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        built = torch.version.cuda
        reason = (
            f"torch is built for CUDA {built}, but finds no device" if built else "torch is built without CUDA"
        )
        reason = str(caught[0].message).splitlines()[0] if caught else reason
        yield Finding("note", "devices", "CUDA", f"not available ({reason}); medseg uses the CPU")
        return
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(index)
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            yield Finding("problem", "devices", f"cuda:{index}", f"{name} does not respond: {error}")
            continue
        scarce = free < 4 * GIB
        text = f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        yield Finding("note" if scarce else "ok", "devices", f"cuda:{index}", text)


def _packages() -> Iterator[Finding]:
    version = installed_version("medseg")
    if version is None:
        hint = "Run pip install . in the project's folder."
        yield Finding("problem", "packages", "medseg", "not installed", hint)
        return
    yield Finding("ok", "packages", "medseg", version)
    for line in importlib.metadata.requires("medseg") or []:
        requirement = parse_requirement(line)
        if requirement is None:
            continue
        name, minimum = requirement
        installed = installed_version(name)
        hint = f'Run pip install "{name}>={minimum}".'
        if installed is None:
            yield Finding("problem", "packages", name, "not installed", hint)
        elif version_numbers(installed) < version_numbers(minimum):
            message = f"{installed} is too old, expected {minimum} or later"
            yield Finding("problem", "packages", name, message, hint)
        else:
            required = f" (required: {minimum})" if minimum != "0" else ""
            yield Finding("ok", "packages", name, f"{installed}{required}")


def _optional() -> Iterator[Finding]:
    for name, feature in OPTIONAL_FEATURES.items():
        versions = {package: installed_version(package) for package in feature.packages}
        missing = [package for package, version in versions.items() if version is None]
        if missing:
            hint = f"Run pip install {' '.join(missing)} if you need it."
            message = f"{', '.join(missing)} not installed; needed for {feature.purpose}"
            yield Finding("note", "optional", name, message, hint)
        else:
            listed = ", ".join(f"{package} {version}" for package, version in versions.items())
            yield Finding("ok", "optional", name, f"{listed}: {feature.purpose}")


def _storage(folder: Path) -> Iterator[Finding]:
    yield _check_folder("working folder", folder)
    try:
        yield _check_folder("temporary folder", Path(tempfile.gettempdir()))
    except FileNotFoundError as error:
        hint = "Set TMPDIR to a folder that you can write to."
        yield Finding("problem", "storage", "temporary folder", f"no writable folder: {error}", hint)
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield Finding("note", "storage", "shared memory", "no /dev/shm; workers use files instead")
        return
    usage = shutil.disk_usage(shared)
    text = f"{usage.free / GIB:.2f} of {usage.total / GIB:.2f} GiB free"
    if usage.free < GIB:
        hint = "Data loading workers need it: enlarge it (docker run --shm-size) or set data.workers=0."
        yield Finding("note", "storage", "shared memory", text, hint)
    else:
        yield Finding("ok", "storage", "shared memory", text)


def _check_folder(subject: str, folder: Path) -> Finding:
    """Check that a folder is writable and report its free space."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"medseg")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        message = f"{folder} is not writable: {error.strerror or error}"
        return Finding(
            "problem", "storage", subject, message, "Choose another folder, or change its permissions."
        )
    text = f"{folder}, {free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("note", "storage", subject, text, "Free some space for caches and checkpoints.")
    return Finding("ok", "storage", subject, text)


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def parse_requirement(line: str) -> tuple[str, str] | None:
    """Parse a ``Requires-Dist`` line.

    Returns:
        Name and minimum version ("0" if there is none), or None if the line belongs to an extra.

    Example:
        >>> parse_requirement("numpy>=1.26")
        ('numpy', '1.26')
    """
    head, _, marker = line.partition(";")
    if re.search(r"\bextra\b", marker):
        return None
    name = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", head)
    minimum = re.search(r">=\s*([0-9][0-9A-Za-z.]*)", head)
    return (name[1], minimum[1] if minimum else "0") if name else None


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version without trailing zeros, for comparison.

    Example:
        >>> version_numbers("2.13.0+cpu")
        (2, 13)
    """
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
