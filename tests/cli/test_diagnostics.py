import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.cli import diagnostics as doctor
from medseg.cli.diagnostics import (
    Finding,
    diagnose,
    parse_requirement,
    version_numbers,
)

NOWHERE = Path("/nonexistent")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return diagnose()


def test_every_topic_is_covered_and_every_finding_says_something(findings):
    assert {one.topic for one in findings} == {
        *("system", "memory", "devices", "packages", "optional", "storage")
    }
    assert all(one.status in ("ok", "note", "problem") and one.name and one.detail for one in findings)


def test_findings_are_named_once(findings):
    assert len(by_name(findings)) == len(findings)


def test_core_dependencies_are_those_of_the_installed_distribution(findings):
    packages = by_name([one for one in findings if one.topic == "packages"])
    assert {"medseg", "numpy", "torch", "SimpleITK", "ruamel.yaml"} <= set(packages)
    assert "ruff" not in packages  # only an extra asks for it
    assert importlib.metadata.version("numpy") in packages["numpy"].detail


def test_a_missing_package_is_a_problem_with_its_remedy(monkeypatch):
    found = {"numpy": None, "scipy": "1.12.9"}
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: found.get(name, real(name)))
    packages = by_name(list(doctor._packages()))
    assert packages["numpy"].status == "problem"
    assert 'pip install "numpy>=' in packages["numpy"].detail
    assert packages["scipy"].status == "problem"
    assert "too old" in packages["scipy"].detail
    assert packages["click"].status == "ok"


def test_optional_parts_are_a_note_when_absent(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: "2.0" if name == "dask" else None)
    optional = by_name(list(doctor._optional()))
    assert optional["dask"].status == "ok"
    assert optional["openvino"].status == optional["highdicom"].status == "note"
    assert "DICOM SEG" in optional["highdicom"].detail


def test_a_folder_that_takes_no_file_is_a_problem(tmp_path):
    missing = by_name(diagnose(tmp_path / "missing"))["working folder"]
    assert missing.status == "problem"
    assert "missing" in missing.detail


def test_looking_leaves_the_folder_as_it_was(tmp_path):
    assert by_name(diagnose(tmp_path))["working folder"].status in ("ok", "note")
    assert list(tmp_path.iterdir()) == []


def test_torch_is_imported_only_when_asked():
    code = "import sys, medseg.cli.diagnostics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_little_memory_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "physical_memory", lambda: (8 << 30, 6 << 30))
    monkeypatch.setattr(doctor, "cgroup_memory", lambda: 1 << 30)
    (finding,) = doctor._memory()
    assert finding.status == "note"
    assert "limited to 1.0 GiB" in finding.detail


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("numpy>=1.26", ("numpy", "1.26")),
        ("ruamel.yaml (<1,>=0.18.6)", ("ruamel.yaml", "0.18.6")),
        ("pyright[nodejs]>=1.1.380", ("pyright", "1.1.380")),
        ('tomli>=2; python_version < "3.11"', ("tomli", "2")),
        ("torch", ("torch", "0")),
        ('pytest>=8.2; extra == "dev"', None),
    ],
)
def test_requirements_are_parsed(line, expected):
    assert parse_requirement(line) == expected


def test_versions_compare_by_their_numbers():
    assert version_numbers("2.13.0+cpu") == (2, 13)
    assert version_numbers("2.8") == version_numbers("2.8.0") < version_numbers("2.10")
    assert version_numbers("3.0rc1") == (3,)
    assert version_numbers("0") == ()
