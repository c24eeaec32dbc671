import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medseg.errors import NotWritableError
from medseg.files import (
    check_writable,
    remove_stale_temporaries,
    sha256_file,
    sha256_json,
    write_atomic,
    write_folder_atomic,
    write_json,
    write_text,
)


def test_a_file_is_written_atomically(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    with write_atomic(path) as temporary:
        assert temporary.name.endswith("a.nii.gz")  # writers choose the format by it
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_the_longest_name_of_a_file_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 123 + ".nii.gz")  # 253 bytes
    with write_atomic(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with write_atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_complete_or_absent(tmp_path):
    def fail():
        with write_folder_atomic(tmp_path / "f") as temporary:
            (temporary / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with write_folder_atomic(tmp_path / "f") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f" / "a").read_text() == "1"


def write_beside_another_process(path, **options):
    with write_folder_atomic(path, **options) as temporary:
        (temporary / "a").write_text("mine")
        path.mkdir()
        (path / "a").write_text("theirs")


def test_a_folder_filled_by_another_process_is_not_passed_off_as_written(tmp_path):
    with pytest.raises(OSError, match="not empty") as caught:
        write_beside_another_process(tmp_path / "f")
    assert caught.value.filename == str(tmp_path / "f")
    assert (tmp_path / "f" / "a").read_text() == "theirs"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_folder_that_is_a_link_to_another_disk_gets_what_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "f").symlink_to(tmp_path / "disk")
    with write_folder_atomic(tmp_path / "f") as temporary:
        (temporary / "images").mkdir()
        (temporary / "images" / "a").write_text("1")
    assert (tmp_path / "f").is_symlink()
    assert (tmp_path / "disk" / "images" / "a").read_text() == "1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "f"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_folder_that_cannot_be_moved_to_another_disk_leaves_nothing_there(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "f").symlink_to(tmp_path / "disk")

    def fail(source, target):
        target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def write():
        with write_folder_atomic(tmp_path / "f") as temporary:
            (temporary / "a").write_text("1")

    monkeypatch.setattr(shutil, "move", fail)
    with pytest.raises(OSError, match="No space"):
        write()
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_full_disk_is_reported_whatever_the_writer_raises(tmp_path, monkeypatch):
    class SerializationError(Exception):
        """As safetensors raises it: neither an OSError nor a RuntimeError."""

    def write():
        with write_atomic(tmp_path / "model.safetensors"):
            raise SerializationError("Error while serializing")

    with pytest.raises(SerializationError):
        write()
    monkeypatch.setattr("medseg.files.free_space", lambda folder: 0)
    with pytest.raises(OSError, match="no space left on the disk"):
        write()


def test_a_folder_created_by_another_process_is_kept(tmp_path):
    write_beside_another_process(tmp_path / "f", keep_existing=True)
    assert (tmp_path / "f" / "a").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_json_is_not_escaped(tmp_path):
    write_json(tmp_path / "a.json", {"größe": [1, 2]})
    assert "größe" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_hashes(tmp_path):
    write_text(tmp_path / "a", "abc")
    # FIPS 180-2, appendix B.1: the digest of "abc"
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


KILLED = """
import os, sys
from pathlib import Path
from medseg.files import write_atomic, write_folder_atomic
with write_atomic(Path(sys.argv[1]) / "file") as a, write_folder_atomic(Path(sys.argv[1]) / "folder") as b:
    a.write_text("half")
    (b / "part").write_text("half")
    os._exit(1)
"""


def test_only_the_temporaries_of_ended_processes_are_removed(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    old, new = tmp_path / ".tmp-0a1b2c3d-old", tmp_path / ".tmp-0a1b2c3d-new"  # of another machine
    for path in (old, new, tmp_path / "whole"):
        path.write_text("")
    os.utime(old, (time.time() - 90_000,) * 2)
    with write_atomic(tmp_path / "mine") as mine:
        mine.write_text("mine")
        assert len(remove_stale_temporaries(tmp_path)) == 3
        assert mine.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "mine", "whole"]


def test_a_failed_write_names_the_file_and_not_the_temporary_one(tmp_path):
    path = tmp_path / "c.yaml"
    with pytest.raises(PermissionError) as caught, write_atomic(path) as temporary:
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))
    assert caught.value.filename == str(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught, write_atomic(path) as temporary:
        temporary.write_text("text")
    assert caught.value.filename == str(path)


def test_a_read_only_disk_is_not_hidden_by_the_removal_of_the_temporary_file(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "mkdir", lambda path, **options: None if path == tmp_path else refuse(path))
    with pytest.raises(OSError, match="Read-only") as caught, write_atomic(tmp_path / "c.yaml") as temporary:
        refuse(temporary)
    assert caught.value.filename == str(tmp_path / "c.yaml")
    with pytest.raises(OSError, match="Read-only") as caught, write_folder_atomic(tmp_path / "folder"):
        pass
    assert caught.value.filename == str(tmp_path / "folder")


def test_a_read_only_disk_without_space_is_not_reported_as_full(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OSError, match="Read-only") as caught, write_atomic(tmp_path / "a.txt"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert caught.value.errno == errno.EROFS


def test_a_folder_is_checked_without_leaving_anything(tmp_path):
    old = tmp_path / "old.txt"
    old.write_text("kept")
    for path in (tmp_path, old, tmp_path / "new" / "folder", old / "below"):
        check_writable(path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert old.read_text() == "kept"


def test_an_unwritable_folder_is_named_as_given(tmp_path, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    (tmp_path / "ro").mkdir()
    monkeypatch.chdir(tmp_path)
    words = r"^ro/run: cannot be written, ro is not writable \(Permission denied\)\. Choose a folder"
    with pytest.raises(NotWritableError, match=words) as caught:
        check_writable(Path("ro/run"))
    assert caught.value.exit_code == 1
