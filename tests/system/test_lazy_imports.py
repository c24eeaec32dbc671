"""Names of a package that are imported on first use."""

import inspect
import subprocess
import sys
import types
from importlib import import_module

import pytest

from medseg.system.lazy_imports import import_optional_late, lazy_names


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
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)


OPTIONAL_IMPORT = """
from importlib import import_module
def optional_import(module, version="", name=""):
    try:
        found = import_module(module)
    except ImportError:
        return None, False
    return (getattr(found, name) if name else found), True
"""  # as MONAI's
GREEDY = """
from greedy.utils.module import optional_import
heavy, _ = optional_import("heavy_integration")
heavy.part, _ = optional_import("heavy_integration.part")
Base, has_base = optional_import("heavy_integration.part", name="Base")
missing, has_missing = optional_import("missing_integration")
light, _ = optional_import("light_integration")
"""


@pytest.fixture
def greedy(tmp_path, monkeypatch):
    """The name of a package that imports optional packages as MONAI does; heavy_integration is heavy."""
    write_package(tmp_path, "heavy_integration", "loud = 1")
    (tmp_path / "heavy_integration" / "part.py").write_text("class Base:\n    size = 3\n")
    write_package(tmp_path, "light_integration")
    write_package(tmp_path, "greedy", GREEDY)
    write_package(tmp_path, "greedy/utils")
    (tmp_path / "greedy" / "utils" / "module.py").write_text(OPTIONAL_IMPORT)
    monkeypatch.syspath_prepend(tmp_path)
    yield "greedy"
    for name in list(sys.modules):
        if name.partition(".")[0] in ("greedy", "heavy_integration", "light_integration"):
            del sys.modules[name]


def test_an_optional_package_is_imported_when_it_is_used(greedy):
    before = list(sys.meta_path)
    for _ in range(2):
        import_optional_late(greedy, ("heavy_integration", "missing_integration"))
    assert len(sys.meta_path) == len(before) + 1
    package = import_module(greedy)
    assert sys.meta_path == before
    assert "heavy_integration" not in sys.modules
    assert not inspect.isclass(package.Base)
    assert inspect.unwrap(package.Base) is package.Base
    assert "heavy_integration" not in sys.modules
    assert (package.has_base, package.missing, package.has_missing) == (True, None, False)
    assert package.light is sys.modules["light_integration"]

    made = package.Base()
    assert type(made) is sys.modules["heavy_integration.part"].Base
    assert isinstance(made, package.Base)
    assert issubclass(types.new_class("Own", (package.Base,)), type(made))
    assert (package.heavy.loud, package.heavy.part.Base, package.Base.size) == (1, type(made), 3)
    import_optional_late(greedy, ("heavy_integration",))  # it is imported already
    assert sys.meta_path == before


def test_what_is_imported_already_is_used_as_it_is(greedy):
    heavy = import_module("heavy_integration")
    import_optional_late(greedy, ("heavy_integration",))
    assert import_module(greedy).heavy is heavy


@pytest.mark.slow
def test_monais_networks_find_transformers_after_medseg():
    pytest.importorskip("transformers")
    code = (
        "import sys, medseg; from monai.networks.nets import transchex;"
        "assert not {'mlflow', 'transformers'} & set(sys.modules);"
        "assert transchex.BertConfig(hidden_size=8).hidden_size == 8"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
