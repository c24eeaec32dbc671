"""The examples in docstrings, run by doctest."""

import doctest
import importlib
from pathlib import Path

import pytest

import medseg

ROOT = Path(medseg.__file__).parent
MODULES = sorted(
    ".".join(("medseg", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
OPTIONAL = {"distributed", "highdicom", "onnx", "onnxruntime", "onnxscript", "openslide", "openvino", "zarr"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
    result = doctest.testmod(module)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples fail; see the output above"
    assert list(tmp_path.iterdir()) == []
