"""Training of the mask decoder of a tiny SAM on synthetic pictures."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_sam
import torch
from PIL import Image
from safetensors.torch import save_file

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError
from medseg.progress import QuietProgress
from medseg.sam import EmbeddingStore, load_sam
from medseg.sam.finetuning.options import FinetuneOptions
from medseg.sam.finetuning.samples import LabeledSlices, draw_prompts
from medseg.sam.finetuning.training import finetune, mask_loss
from medseg.sam.network import MaskLogits

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folder of a tiny SAM that is not trained."""
    model = tiny_sam.trainable(tiny_sam.tiny_sam())
    folder = tmp_path_factory.mktemp("base")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def ellipses(tmp_path_factory):
    """16 pictures with one bright and one dark ellipse."""
    folder = tmp_path_factory.mktemp("ellipses")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(16):
        picture = rng.normal(100, 10, (64, 64))
        label = np.zeros((64, 64), np.uint8)
        for value, side in ((1, 0), (2, 32)):
            center = rng.uniform(20, 44), side + rng.uniform(12, 20)
            radii = rng.uniform(7, 12, 2)
            inside = ((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 < 1
            label[inside] = value
            picture[inside] += 100 if value == 1 else -80
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(label).save(folder / "labels" / f"{number:02}.png")
    return folder


def _load(base):
    return load_sam(base, store=EmbeddingStore(), device="cpu")


@pytest.mark.slow
def test_trained_decoder_is_better(base, ellipses, tmp_path):
    options = FinetuneOptions(epochs=20, lr=3e-3, batch=2, prompts="box", jitter=0.02)
    result = finetune(_load(base), ellipses, tmp_path / "tuned", options)
    before, best = result.epochs[0], result.best
    assert before.box < 0.3
    assert best.box > before.box + 0.3
    assert best.loss < result.epochs[1].loss


def test_result_loads_again(base, ellipses, tmp_path):
    sam = _load(base)
    encoder = sam.network.encoder_digest
    result = finetune(sam, ellipses, tmp_path / "tuned", FinetuneOptions(epochs=1, batch=16))
    assert [epoch.epoch for epoch in result.epochs] == [0, 1]
    tuned = load_sam(tmp_path / "tuned", store=EmbeddingStore(), device="cpu")
    assert tuned.network.encoder_digest == encoder  # embeddings of the base model serve it
    for key, tensor in sam.network.model.state_dict().items():
        torch.testing.assert_close(tuned.network.model.state_dict()[key], tensor, atol=0, rtol=0)


@pytest.mark.slow
def test_interrupted_training_continues_with_the_same_result(base, ellipses, tmp_path):
    options = FinetuneOptions(epochs=2, lr=1e-2, batch=16)

    class Stop(QuietProgress):
        def advance(self, detail=""):
            if detail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(_load(base), ellipses, tmp_path / "tuned", options, progress=Stop())
    assert not (tmp_path / "tuned" / "model.safetensors").exists()
    resumed = finetune(_load(base), ellipses, tmp_path / "tuned", options)
    whole = finetune(_load(base), ellipses, tmp_path / "whole", options)
    assert resumed.epochs == whole.epochs
    first, second = (tmp_path / name / "model.safetensors" for name in ("tuned", "whole"))
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(ConfigError, match="another model, dataset or settings"):
        finetune(_load(base), ellipses, tmp_path / "tuned", options.model_copy(update={"seed": 1}))


def test_folders_that_are_refused(base, ellipses, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        finetune(_load(base), ellipses, tmp_path / "full")
    with pytest.raises(DataError):
        finetune(_load(base), tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompts_of_an_object():
    mask = np.zeros((20, 20), bool)
    mask[4:9, 6:17] = True
    rng = np.random.default_rng(0)
    assert draw_prompts(mask, "box", rng).box.tolist() == [4, 6, 8, 16]
    assert draw_prompts(mask, "point", rng).points[0, 0] == 6  # the middle row is deepest
    moved = np.array([draw_prompts(mask, "box", rng, 0.1).box for _ in range(200)])
    assert moved.std(axis=0) == pytest.approx([0.5, 1.1, 0.5, 1.1], rel=0.2)  # a tenth of 5 rows and 11 columns
    points = {tuple(draw_prompts(mask, "point", rng, 0.1).points[0]) for _ in range(50)}
    assert len(points) > 20
    assert all(mask[int(row), int(column)] for row, column in points)


def test_ignored_pixels_count_neither_in_the_loss_nor_as_objects(base, tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    label = np.zeros((64, 64), np.uint8)
    label[10:30, 10:30] = 1
    label[40:50] = 255
    for name in ("a.png", "b.png"):
        Image.fromarray(label).save(tmp_path / "images" / name)
        Image.fromarray(label).save(tmp_path / "labels" / name)
    slices = LabeledSlices(tmp_path, _load(base), FinetuneOptions())
    schema = LabelSchema.model_validate({"names": {"background": 0, "object": 1}, "ignore_value": 255})
    slices._plan = dataclasses.replace(slices._plan, schema=schema)
    (found,) = slices.of_case("a")
    assert found.count == 1
    assert found.mask(1).sum() == 400
    assert found.ignored().sum() == 640
    logits, targets = torch.tensor([[[[20.0, 20.0]]]]), torch.tensor([[[1.0, 0.0]]])
    result = MaskLogits(logits, torch.tensor([[1.0]]))
    assert mask_loss(result, targets, torch.tensor([[[1.0, 0.0]]])).item() == pytest.approx(0, abs=1e-6)
    assert mask_loss(result, targets).item() > 1


def test_loss_of_the_best_mask():
    targets = torch.tensor([[[1.0, 0.0]]])
    good, bad = torch.tensor([[20.0, -20.0]]), torch.tensor([[-20.0, 20.0]])
    result = MaskLogits(torch.stack([bad, good])[None], torch.tensor([[0.0, 1.0]]))
    assert mask_loss(result, targets).item() == pytest.approx(0, abs=1e-6)
    wrong = MaskLogits(torch.stack([bad, good])[None], torch.tensor([[1.0, 1.0]]))
    assert mask_loss(wrong, targets).item() == pytest.approx(0.5, abs=1e-6)  # (1 - 0)² / 2
