import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from medseg.errors import Finding
from medseg.system import diagnostics
from medseg.system.diagnostics import (
    OPTIONAL_FEATURES,
    diagnose,
    parse_requirement,
    version_numbers,
)

NOWHERE = Path("/nonexistent")


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return diagnose()


def test_every_topic_has_findings_with_a_message(findings):
    assert {one.topic for one in findings} == {
        *("system", "memory", "devices", "packages", "optional", "storage")
    }
    assert all(one.status in ("ok", "note", "problem") and one.subject and one.message for one in findings)


def test_subjects_are_unique(findings):
    assert len(by_subject(findings)) == len(findings)


def test_core_dependencies_are_those_of_the_installed_distribution(findings):
    packages = by_subject([one for one in findings if one.topic == "packages"])
    assert {"medseg", "numpy", "torch", "SimpleITK", "ruamel.yaml"} <= set(packages)
    assert "ruff" not in packages  # required by an extra only
    assert importlib.metadata.version("numpy") in packages["numpy"].message


def test_a_missing_package_is_a_problem_with_a_hint(monkeypatch):
    versions = {"numpy": None, "scipy": "1.12.9"}
    real = diagnostics.installed_version
    monkeypatch.setattr(diagnostics, "installed_version", lambda name: versions.get(name, real(name)))
    packages = by_subject(list(diagnostics._packages()))
    assert packages["numpy"].status == "problem"
    assert 'pip install "numpy>=' in packages["numpy"].hint
    assert packages["scipy"].status == "problem"
    assert "too old" in packages["scipy"].message
    assert packages["click"].status == "ok"


def test_optional_features_are_a_note_if_a_package_is_missing(monkeypatch):
    present = ("distributed", "onnx")
    monkeypatch.setattr(diagnostics, "installed_version", lambda name: "2.0" if name in present else None)
    optional = by_subject(list(diagnostics._optional()))
    assert optional["dask"].status == "ok"
    assert "inference by several processes" in optional["dask"].message
    assert optional["openvino"].status == optional["dicom"].status == optional["onnx"].status == "note"
    assert "DICOM SEG" in optional["dicom"].message
    assert "pip install onnxruntime onnxscript" in optional["onnx"].hint  # onnx itself is there


def test_optional_features_are_the_extras_of_the_distribution():
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    expected = {
        name: {re.match(r"[\w.-]+", line)[0] for line in lines}
        for name, lines in project["optional-dependencies"].items()
        if name not in ("all", "dev", "docs")
    }
    assert {name: set(feature.packages) for name, feature in OPTIONAL_FEATURES.items()} == expected


def test_a_folder_that_is_not_writable_is_a_problem(tmp_path):
    missing = by_subject(diagnose(tmp_path / "missing"))["working folder"]
    assert missing.status == "problem"
    assert "missing" in missing.message


def test_the_check_leaves_no_file(tmp_path):
    assert by_subject(diagnose(tmp_path))["working folder"].status in ("ok", "note")
    assert list(tmp_path.iterdir()) == []


def test_importing_the_module_does_not_import_torch():
    code = "import sys, medseg.system.diagnostics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_little_memory_is_a_note(monkeypatch):
    monkeypatch.setattr(diagnostics, "physical_memory", lambda: (8 << 30, 6 << 30))
    monkeypatch.setattr(diagnostics, "cgroup_memory", lambda: 1 << 30)
    (finding,) = diagnostics._memory()
    assert finding.status == "note"
    assert "limited to 1.0 GiB" in finding.message


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
