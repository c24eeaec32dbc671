"""Services of the operating system: cores, memory, files, processes and locks, on Linux, macOS and Windows.

Only this module distinguishes between operating systems, with :mod:`medseg.system.processes` for child
processes and :mod:`medseg.system.allocator` for its memory allocator. Each function documents its result on
systems that lack the service.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)
)
"""Signals that request a process to stop; SIGBREAK (Ctrl+Break) exists on Windows only."""


def usable_cores() -> int:
    """Return the number of cores this process may run on (its affinity); all cores if that is unknown."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def granted_cores() -> int:
    """Return the number of cores to plan with, at least 1: the usable ones, limited by a container's quota."""
    quota = cgroup_cores()
    return usable_cores() if quota is None else max(1, min(usable_cores(), round(quota)))


def cgroup_cores(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Return the CPU limit of the control groups (version 2 or 1), in cores; None if unlimited or unknown."""
    limits: list[float] = []
    for group in _groups(root, membership, "cpu"):
        fields = _read(group / "cpu.max").split()
        if len(fields) != 2:
            fields = [_read(group / f"cpu.cfs_{part}_us") for part in ("quota", "period")]
        quota, period = (int(field) if field.isdigit() else 0 for field in fields)
        if quota and period:
            limits.append(quota / period)
    return min(limits, default=None)


def cgroup_memory(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the memory limit of the control groups (version 2 or 1), bytes; None if unlimited or unknown."""
    limits = [limit for limit, _ in _cgroup_memory(root, membership)]
    return min(limits, default=None)


def _cgroup_memory(root: Path, membership: Path) -> list[tuple[int, int]]:
    """Limit and usage, in bytes, of each control group that limits memory."""
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    limits: list[tuple[int, int]] = []
    for group in _groups(root, membership, "memory"):
        for limit, usage in names:
            text, used = _read(group / limit), _read(group / usage)
            if text.isdigit() and int(text) < 1 << 60:
                limits.append((int(text), int(used) if used.isdigit() else 0))
    return limits


def _groups(root: Path, membership: Path, controller: str) -> list[Path]:
    """The folders of the control groups of this process and their parents, each of which may set a limit."""
    folders = [root, root / controller]
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        inner = Path(path.lstrip("/"))
        folders += [base / one for one in (inner, *inner.parents)]
    return folders


def physical_memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int | None, int | None]:
    """Return the total and the available physical memory, in bytes; None for what is unknown."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(meminfo), re.MULTILINE))
    total, available = (
        int(fields[key]) * 1024 if key in fields else None for key in ("MemTotal", "MemAvailable")
    )
    if total is None and sys.platform == "win32":
        return _windows_memory()
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, available


def available_memory(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the bytes that this process can still allocate without swapping or being killed; None if unknown.

    The memory that the system reports as available, or half of the total memory if it does not report it
    (macOS), limited by what the control groups leave.
    """
    total, available = physical_memory()
    if available is None and total is not None:
        available = total // 2
    left = [max(limit - used, 0) for limit, used in _cgroup_memory(root, membership)]
    sizes = [*left] if available is None else [available, *left]
    return min(sizes, default=None)


def peak_memory(*, children: bool = False) -> int | None:
    """Return the peak memory of this process (or of its largest ended child), in bytes; None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None if children else _windows_peak()
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


def descriptor_limit() -> int:
    """Return the number of files that this process may have open at the same time."""
    try:
        import resource
    except ImportError:  # Windows: limited by memory only
        return 1 << 16
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(int(soft), 1)


def free_space(folder: Path) -> int | None:
    """Return the free bytes on the disk of ``folder`` or its nearest existing parent; None if unknown."""
    for existing in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(existing).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


@dataclass(frozen=True)
class CpuTimes:
    """Processor time, in seconds summed over all cores.

    Attributes:
        busy: time used by all processes.
        own: time used by this process and its children.
        idle: idle time.
    """

    busy: float
    own: float
    idle: float


def cpu_times(children: Sequence[int]) -> CpuTimes | None:
    """Return the processor time so far, counting ``children`` (process ids) as own; None if unknown."""
    fields = _read(Path("/proc/stat")).partition("\n")[0].split()[1:9]
    if len(fields) < 5:  # macOS, Windows
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, waiting, *rest = (int(field) / ticks for field in fields)
    stats = [_read(Path(f"/proc/{number}/stat")).rpartition(")")[2].split() for number in children]
    helped = sum(int(one[11]) + int(one[12]) for one in stats if len(one) > 12) / ticks
    return CpuTimes(user + nice + system + sum(rest), time.process_time() + helped, idle + waiting)


def reserve_space(descriptor: int, size: int) -> None:
    """Set the size of an open file and, if the system supports it, allocate the space on the disk.

    Raises:
        OSError: if there is not enough space.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS, Windows
        os.ftruncate(descriptor, size)


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    access = (
        os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
    )  # Windows cannot flush files opened for reading
    descriptor = os.open(path, access | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush the entries of a folder to the disk, if the system and the file system support it."""
    if sys.platform == "win32":  # folders cannot be opened on Windows
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot sync a folder
        pass
    finally:
        os.close(descriptor)


def process_age() -> float:
    """Return the seconds since this process was started; 0 if it is not known."""
    began, uptime = _process_start(os.getpid()), _read(Path("/proc/uptime")).split()
    if began is None or not uptime:  # macOS, Windows
        return 0.0
    return max(float(uptime[0]) - began / os.sysconf("SC_CLK_TCK"), 0.0)


def process_token() -> str:
    """Return an identifier of this process for :func:`has_ended`: ``MACHINE.PID.START``, a valid file name."""
    return f"{_machine()}.{os.getpid()}.{_process_start(os.getpid()) or 0}"


def has_ended(token: str) -> bool | None:
    """Whether the process of a :func:`process_token` has ended; None if it ran on another machine."""
    machine, _, rest = token.partition(".")
    number, _, start = rest.partition(".")
    if machine != _machine() or not number.isdigit() or not start.isdigit():
        return None
    if not _is_running(int(number)) or _is_zombie(int(number)):
        return True
    now = _process_start(int(number))
    return now is not None and start != "0" and now != int(start)  # the process id was reused


@cache
def _machine() -> str:
    """Six hexadecimal digits that identify the machine, its boot and the process namespace."""
    boot = _read(Path("/proc/sys/kernel/random/boot_id"))
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {boot} {namespace}".encode()).hexdigest()[:6]


def _is_running(number: int) -> bool:
    if sys.platform == "win32":
        query, still_active = 0x1000, 259
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(query, False, number)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == still_active
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def _is_zombie(number: int) -> bool:
    """Whether a process ended, but its parent has not read its exit status."""
    return _read(Path(f"/proc/{number}/stat")).rpartition(")")[2].split()[:1] == ["Z"]


def _process_start(number: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if unknown."""
    fields = _read(Path(f"/proc/{number}/stat")).rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


@contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Try to lock the file ``path`` without waiting, and yield whether the lock is held.

    The file is created if it does not exist; the holder of the lock may remove it. The lock is released when
    the process ends, in whatever way, and is not inherited by forked processes. Yields True on file systems
    without locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+b") as stream:
            held = _lock(stream.fileno())
            if held and not _is_open_at(
                path, stream.fileno()
            ):  # removed by the previous holder in the meantime
                continue
            _lock_files.append(stream)
            try:
                yield held
            finally:
                _lock_files.remove(stream)
                if held:
                    _unlock(stream.fileno())
            return


_lock_files: list[IO[bytes]] = []


def _close_lock_files() -> None:
    """Close the files of locks in a forked process; a lock is held as long as any process has its file open."""
    while _lock_files:
        _lock_files.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_lock_files)


def _is_open_at(path: Path, descriptor: int) -> bool:
    """Whether a descriptor refers to the file at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # the file system does not support locks
        return True
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _windows_memory() -> tuple[int | None, int | None]:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d", "e")),
        )

    status = Status(length=ctypes.sizeof(Status))
    windll: Any = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return int(status.total), int(status.available)


def _windows_peak() -> int | None:
    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("faults", ctypes.c_ulong),
            *((name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    windll: Any = getattr(ctypes, "windll", None)
    if windll is None:
        return None
    process = ctypes.c_void_p(windll.kernel32.GetCurrentProcess())
    succeeded = windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
    return int(counters.peak) if succeeded else None


def _read(path: Path) -> str:
    """The stripped text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
