import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.system import platform as system
from medseg.system.platform import cgroup_cores, cgroup_memory, physical_memory

NOWHERE = Path("/nowhere")


def test_usable_cores_are_at_most_all_cores():
    assert 1 <= system.usable_cores() <= (os.cpu_count() or 1)


def test_cores_of_a_version_2_group(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_cores(tmp_path, NOWHERE) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_cores(tmp_path, NOWHERE) is None


def test_cores_of_a_version_1_group(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_cores(tmp_path, NOWHERE) == 4
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_cores(tmp_path, NOWHERE) is None


def test_the_smallest_limit_of_nested_groups_applies(tmp_path):
    # the job is limited to 8 GiB, the step within it is not limited
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "job" / "memory.max").write_text(f"{8 << 30}\n")
    (tmp_path / "job" / "step" / "memory.max").write_text("max\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/job/step\n")
    assert cgroup_memory(tmp_path, membership) == 8 << 30


def test_memory_of_a_version_1_group(tmp_path):
    group = tmp_path / "memory" / "docker"
    group.mkdir(parents=True)
    membership = tmp_path / "membership"
    membership.write_text("3:cpu,cpuacct:/elsewhere\n2:memory:/docker\n")
    (group / "memory.limit_in_bytes").write_text("2147483648\n")
    assert cgroup_memory(tmp_path, membership) == 2 << 30
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # unlimited in version 1
    assert cgroup_memory(tmp_path, membership) is None


def test_without_control_groups_there_are_no_limits(tmp_path):
    assert cgroup_cores(tmp_path, NOWHERE) is None
    assert cgroup_memory(tmp_path, NOWHERE) is None


def test_physical_memory_is_read_in_bytes(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       2048 kB\nMemFree:  7 kB\nMemAvailable:   1024 kB\n")
    assert physical_memory(meminfo) == (2048 * 1024, 1024 * 1024)


def test_available_memory_in_a_container_is_its_limit_minus_its_usage(tmp_path):
    (tmp_path / "memory.max").write_text(f"{1 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 18}\n")
    assert system.available_memory(tmp_path, NOWHERE) == (1 << 20) - (1 << 18)


WITHOUT = """
import os, sys
for name in ("resource", "fcntl"):
    sys.modules[name] = None  # importing it fails
for name in ("sched_getaffinity", "posix_fallocate"):
    delattr(os, name)
from pathlib import Path
import medseg.training.fit, medseg.training.run_folder.layout
import medseg.data.curation.check, medseg.data.curation.summary
from medseg.files import write_text
from medseg.system.platform import descriptor_limit, granted_cores, peak_memory
write_text(Path(sys.argv[1]) / "a", "whole")
assert granted_cores() >= 1 and descriptor_limit() >= 256 and peak_memory() is None
"""


@pytest.mark.slow
def test_training_can_be_imported_without_unix_modules(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a").read_text() == "whole"


def test_only_the_platform_modules_make_platform_specific_calls():
    calls = r"sched_getaffinity|import resource|import fcntl|posix_fallocate|os\.fsync|os\.kill\("
    sources = Path(system.__file__).parents[1]
    found = {
        path.relative_to(sources).as_posix()
        for path in sources.rglob("*.py")
        if re.search(calls, path.read_text(encoding="utf-8"))
    }
    assert found == {"system/platform.py", "system/processes/cores.py"}


def test_on_windows_files_are_synced_and_folders_are_not(tmp_path, monkeypatch):
    flags = []
    monkeypatch.setattr(system.sys, "platform", "win32")
    monkeypatch.setattr(os, "open", lambda path, flag: flags.append((Path(path).name, flag)) or 5)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "close", lambda descriptor: None)
    system.sync_file(tmp_path / "a")
    system.sync_folder(tmp_path)
    assert flags == [("a", os.O_RDWR)]


def test_peak_memory_is_in_bytes():
    ones = bytearray(50 << 20)
    peak = system.peak_memory()
    assert peak is not None
    assert len(ones) < peak < 1 << 40


def test_free_space_of_a_folder_that_does_not_exist(tmp_path):
    free = system.free_space(tmp_path / "not" / "yet")
    assert free is not None
    assert free > 0


def test_a_process_token_identifies_a_running_process():
    code = "from medseg.system.platform import process_token; print(process_token())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert system.has_ended(system.process_token()) is False
    assert system.has_ended(ended.stdout.strip()) is True
    machine, number, start = system.process_token().split(".")
    assert system.has_ended(f"{machine}.{number}.{int(start) + 1}") is True  # the process id was reused
    assert system.has_ended(f"000000.{number}.{start}") is None
    assert system.has_ended("0a1b2c3d") is None


HOLD = """
import sys
from pathlib import Path
from medseg.system.platform import file_lock
with file_lock(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_released_when_its_process_ends(tmp_path):
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with system.file_lock(lock) as held:
            assert not held
        holder.kill()
    with system.file_lock(lock) as held:
        assert held
