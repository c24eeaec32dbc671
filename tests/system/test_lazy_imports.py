"""Names of a package that are imported on first use."""

import subprocess
import sys
from importlib import import_module

import pytest

from medseg.system.lazy_imports import import_without, lazy_names


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


def write_package(folder, name, text=""):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


def test_a_package_does_not_find_what_is_left_out_and_others_do(tmp_path, monkeypatch):
    write_package(tmp_path, "heavy_integration")
    write_package(tmp_path, "light_integration")
    tried = "import light_integration\ntry:\n    import heavy_integration\nexcept ImportError:\n    pass\n"
    write_package(tmp_path, "greedy", tried)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    for _ in range(2):
        import_without("greedy", ("heavy_integration",))
    assert len(sys.meta_path) == len(before) + 1
    greedy = import_module("greedy")
    assert sys.meta_path == before
    assert not hasattr(greedy, "heavy_integration")
    assert hasattr(greedy, "light_integration")
    assert import_module("heavy_integration").__file__ == str(tmp_path / "heavy_integration" / "__init__.py")
    import_without("greedy", ("heavy_integration",))  # it is imported already
    assert sys.meta_path == before
