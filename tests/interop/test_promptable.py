"""Models that answer prompts, by path or name."""

import pytest

from medseg.errors import ModelFileError
from medseg.interop import promptable
from medseg.interop.promptable import load_promptable
from medseg.sam import SamOptions


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(ModelFileError, match="no such model file"):
        load_promptable(tmp_path / "model.safetensors")


def test_a_sam_is_loaded_by_its_name(monkeypatch):
    monkeypatch.setattr(promptable, "load_sam", lambda source, options, device: (source, options, device))
    assert load_promptable("sam_vit_b", device="cpu") == ("sam_vit_b", None, "cpu")
    options = SamOptions(propagate=False)
    assert load_promptable("sam_vit_b", device="cpu", sam=options) == ("sam_vit_b", options, "cpu")
