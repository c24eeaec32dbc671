"""The references' weights, inputs and outputs, beside the project."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "models"


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """The module that makes the references' weights and inputs and compares outputs."""
    path = FOLDER / "recipe.py"
    if not path.is_file():
        pytest.skip("the reference outputs are not here")
    spec = importlib.util.spec_from_file_location("fixture_recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder may be read-only
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = writes
    return module
