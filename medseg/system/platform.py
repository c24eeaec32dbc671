"""What the operating system offers: cores, memory, files, processes and locks, on Linux, macOS and Windows.

The only module that asks which system it runs on (beside :mod:`medseg.system.allocator`,
which speaks to its allocator).
Each function says what it returns where a system does not offer what it asks for.
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
"""Signals that ask a process to stop; SIGBREAK (Ctrl+Break) is Windows'."""

_FEW_DESCRIPTORS = 256
"""Open files that every system allows a process."""


def usable_cores() -> int:
    """Cores this process may run on (its affinity), or all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def granted_cores() -> int:
    """Cores to plan with, at least 1: the usable ones, fewer where a container grants less time."""
    quota = cgroup_cores()
    return usable_cores() if quota is None else max(1, min(usable_cores(), round(quota)))


def cgroup_cores(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Cores' worth of time that the control groups (version 2 or 1) grant, None if unlimited or unknown."""
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
    """Bytes of memory that the control groups (version 2 or 1) grant, None if unlimited or unknown."""
    limits = [limit for limit, _ in _cgroup_memory(root, membership)]
    return min(limits, default=None)


def _cgroup_memory(root: Path, membership: Path) -> list[tuple[int, int]]:
    """The limit and the use, in bytes, of each control group that limits memory."""
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    found: list[tuple[int, int]] = []
    for group in _groups(root, membership, "memory"):
        for limit, usage in names:
            text, used = _read(group / limit), _read(group / usage)
            if text.isdigit() and int(text) < 1 << 60:
                found.append((int(text), int(used) if used.isdigit() else 0))
    return found


def _groups(root: Path, membership: Path, controller: str) -> list[Path]:
    """The folders of this process's control groups and of all above them: each may set a limit."""
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
    """Bytes of memory in all and available; None for what cannot be read."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(meminfo), re.MULTILINE))
    total, available = (
        int(found[key]) * 1024 if key in found else None for key in ("MemTotal", "MemAvailable")
    )
    if total is None and sys.platform == "win32":
        return _windows_memory()
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, available


def available_memory(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Bytes that this process can still take without swapping or being killed; None if unknown.

    What the system says is available, or half of the memory where it does not say (macOS); less where a control
    group leaves less.
    """
    total, available = physical_memory()
    if available is None and total is not None:
        available = total // 2
    left = [max(limit - used, 0) for limit, used in _cgroup_memory(root, membership)]
    sizes = [*left] if available is None else [available, *left]
    return min(sizes, default=None)


def peak_memory(*, children: bool = False) -> int | None:
    """Bytes of memory that this process (or the largest ended child) held at most; None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None if children else _windows_peak()
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


def descriptor_limit() -> int:
    """Files that this process may hold open at once."""
    try:
        import resource
    except ImportError:  # Windows: as many as there is memory for
        return 1 << 16
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(int(soft), 1)


def free_space(folder: Path) -> int | None:
    """Bytes that are free on the disk of ``folder`` or of its nearest parent there is; None if unknown."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of all cores together: spent by anyone, by this process and its children, and idle."""

    busy: float
    own: float
    idle: float


def cpu_times(children: Sequence[int]) -> CpuTimes | None:
    """Processor time so far, that of ``children`` counted as own; None where the system does not tell."""
    fields = _read(Path("/proc/stat")).partition("\n")[0].split()[1:9]
    if len(fields) < 5:  # macOS, Windows
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, waiting, *rest = (int(field) / ticks for field in fields)
    stats = [_read(Path(f"/proc/{number}/stat")).rpartition(")")[2].split() for number in children]
    helped = sum(int(one[11]) + int(one[12]) for one in stats if len(one) > 12) / ticks
    return CpuTimes(user + nice + system + sum(rest), time.process_time() + helped, idle + waiting)


def reserve_space(descriptor: int, size: int) -> None:
    """Make an open file ``size`` bytes long, on the disk at once where the system can do that.

    Raises: OSError if there is not enough room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS, Windows
        os.ftruncate(descriptor, size)


def sync_file(path: Path) -> None:
    """Return once a file's bytes are on the disk."""
    access = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY  # Windows syncs no file opened to read
    descriptor = os.open(path, access | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return once a folder's names are on the disk, where the system and the file system can do that."""
    if sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot sync a folder
        pass
    finally:
        os.close(descriptor)


def process_token() -> str:
    """A name of this process for :func:`has_ended`: machine, number and start, letters and digits with dots."""
    return f"{_machine()}.{os.getpid()}.{_process_start(os.getpid()) or 0}"


def has_ended(mark: str) -> bool | None:
    """Whether the process that :func:`process_token` named has ended; None if it ran on another machine."""
    machine, _, rest = mark.partition(".")
    number, _, start = rest.partition(".")
    if machine != _machine() or not number.isdigit() or not start.isdigit():
        return None
    if not _is_running(int(number)):
        return True
    now = _process_start(int(number))
    return now is not None and start != "0" and now != int(start)  # the number is another process's by now


@cache
def _machine() -> str:
    """Six digits for this machine, its boot, and the container's own numbering of processes."""
    boot = _read(Path("/proc/sys/kernel/random/boot_id"))
    try:
        numbering = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{platform.node()} {boot} {numbering}".encode()).hexdigest()[:6]


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
    except PermissionError:  # another user's
        return True
    return True


def _process_start(number: int) -> int | None:
    """When a process started, in the system's own count; None if unknown."""
    fields = _read(Path(f"/proc/{number}/stat")).rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


@contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Hold a lock on the file ``path`` (made if absent), and yield whether it is held; waits for nobody.

    It ends with the process, however that ends, and is not passed on to forked processes that outlive it; who
    holds it may remove the file. File systems that know no locks yield True.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+b") as stream:
            held = _lock(stream.fileno())
            if held and not _is_open_at(path, stream.fileno()):  # removed by its last holder in between
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
    """In a forked process: a lock lives as long as any process has its file open."""
    while _lock_files:
        _lock_files.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_lock_files)


def _is_open_at(path: Path, descriptor: int) -> bool:
    """Whether a descriptor is of the file that lies at a path."""
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
    except OSError:  # the file system has no locks
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
    found = windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
    return int(counters.peak) if found else None


def _read(path: Path) -> str:
    """A file's text without blanks at its ends; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
