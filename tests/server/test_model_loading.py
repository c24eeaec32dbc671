"""Models by the names and paths of ``--model``."""

import numpy as np
import pytest
import torch
from sam_double import BrightRegions
from server_doubles import SHAPE, client_of, make_app, save_tiny, write_dataset

from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, ModelFileError
from medseg.inference.model.model_file import OBJECT_LABELS, ModelHeader, save_model
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig
from medseg.prompts.options import PromptTask
from medseg.sam import Sam
from medseg.server.models import AutomaticModel, PromptModel, loading
from medseg.server.models.loading import load_model
from medseg.server.options import ServerOptions


def save_prompt_model(path):
    """A network with random weights that answers prompts."""
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=3, channels=1, labels=OBJECT_LABELS, preprocess=PreprocessConfig(), prompts=PromptTask(),
        inference=InferenceConfig(roi_size=(8, 8, 8)), model=UNetConfig(channels=(2, 4)),
    )  # fmt: skip
    save_model(path, header, dict(header.model.build(header.task).state_dict()))
    return path


def test_paths_names_and_averages(tmp_path):
    run = tmp_path / "liver"
    run.mkdir()
    first, second = save_tiny(run / "model.safetensors"), save_tiny(tmp_path / "b.safetensors", 1)
    for text, name, members in (
        (str(first), "liver", 1),
        (str(run), "liver", 1),
        (str(second), "b", 1),
        (f"organ={second}", "organ", 1),
        (f"both={first},{second}", "both", 2),
    ):
        model = load_model(text, "cpu")
        assert isinstance(model, AutomaticModel)
        assert (model.name, len(model.predictor.members)) == (name, members)
    with pytest.raises((ModelFileError, ConfigError)):
        load_model(str(tmp_path / "missing"), "cpu")
    with pytest.raises(ConfigError):
        load_model("name=", "cpu")


def test_a_network_of_task_prompts_answers_points(tmp_path):
    path = save_prompt_model(tmp_path / "clicks.safetensors")
    root = write_dataset(tmp_path / "data")
    assert isinstance(load_model(str(path), "cpu"), PromptModel)
    with client_of(make_app(root, None, models=(str(path),), device="cpu")) as client:
        info = client.get("/info/").json()["models"]["clicks"]
        assert (info["type"], info["dimension"]) == ("deepgrow", 3)
        data = {"params": '{"foreground": [[3, 4, 5]], "background": [], "label": "foreground"}'}
        reply = client.post("/infer/clicks?image=scan_1&output=image", data=data, files={"x": b""})
        assert reply.status_code == 200, reply.text
        assert len(reply.content.partition(b"\n\n")[2]) == np.prod(SHAPE)


def test_two_models_need_two_names(tmp_path):
    path = save_tiny(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="name a"):
        make_app(write_dataset(tmp_path / "data"), None, models=(str(path), str(path)), device="cpu")
    assert ServerOptions(data=tmp_path).is_local


def test_a_sam_on_a_cpu_segments_the_slices_with_prompts_unless_told(monkeypatch, caplog, tmp_path):
    asked = []

    def load(source, *, device, sam):
        asked.append(sam.propagate)
        return Sam(BrightRegions(), sam)

    monkeypatch.setattr(loading, "load_promptable", load)
    monkeypatch.setattr(loading, "answers_prompts", lambda source: True)
    caplog.set_level("INFO", "medseg.server")
    for given, propagated in ((None, False), (True, True), (False, False)):
        caplog.clear()
        model = load_model("sam_vit_b", "cpu", propagate=given)
        assert (model.promptable.options.propagate, asked.pop()) == (propagated, propagated)
        assert ("--propagate" in caplog.text) is not propagated
