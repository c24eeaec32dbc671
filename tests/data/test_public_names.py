"""The public names of the data packages are importable."""

from importlib import import_module

import pytest


@pytest.mark.parametrize("package", ["io", "tiled", "preprocessing", "augmentation", "loading"])
def test_every_public_name_exists(package):
    module = import_module(f"medseg.data.{package}")
    assert all(hasattr(module, name) for name in module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        _ = module.missing
