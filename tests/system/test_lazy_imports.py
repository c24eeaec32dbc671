"""Names of a package that are imported on first use."""

import subprocess
import sys

import pytest

from medseg.system.lazy_imports import lazy_names


def test_a_name_is_imported_when_it_is_used():
    get, names = lazy_names("shapes", {"math": ("tau", "pi"), "medseg_missing": ("later",)})
    assert names() == ["later", "pi", "tau"]
    assert get("tau") == pytest.approx(6.2832, abs=1e-4)
    with pytest.raises(ModuleNotFoundError, match="medseg_missing"):  # not imported before
        get("later")
    with pytest.raises(AttributeError, match=r"module 'shapes' has no attribute 'area'"):
        get("area")


def test_importing_medseg_imports_no_heavy_package():
    heavy = {"torch", "numpy", "pydantic", "monai"}
    code = f"import sys, medseg; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
