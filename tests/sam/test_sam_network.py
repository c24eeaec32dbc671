"""SAM and SAM 2.1 against transformers: files in every layout, logits of all prompts, preprocessing."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import tiny_sam
import torch
from PIL import Image
from safetensors.torch import save_file

from medseg.errors import ConfigError, ModelFileError
from medseg.interop.promptable import load_promptable
from medseg.prompts import Box, Point
from medseg.sam import AutomaticOptions, EmbeddingStore, Sam, automatic_masks, is_sam, load_network, load_sam
from medseg.sam.network import EncodedPrompts
from medseg.sam.official_keys import TRUNKS, Trunk, rename_sam, rename_sam2, sam2_settings, sam_settings
from medseg.sam.pictures import Frame, prepare
from medseg.sam.published import PUBLISHED_SAM

pytest.importorskip("transformers")

FAMILIES = ("sam", "sam2")


@pytest.fixture(scope="module")
def models():
    """The reference networks."""
    return {"sam": tiny_sam.tiny_sam(), "sam2": tiny_sam.tiny_sam2()}


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    """Their folders in Hugging Face's layout."""
    root = tmp_path_factory.mktemp("sam")
    for name, model in models.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(model.config.to_dict()))
        state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        save_file(state, root / name / "model.safetensors")
    return {name: root / name for name in models}


@pytest.fixture(scope="module")
def networks(folders):
    """The networks as medseg loads them."""
    return {name: load_network(folder, device="cpu") for name, folder in folders.items()}


@pytest.fixture
def tiny_trunk(monkeypatch):
    """Make the tiny SAM 2.1's image encoder known."""
    trunk = Trunk(1, (4, 2, 2, 1), (3,), tiny_sam.SIDE)
    monkeypatch.setitem(TRUNKS, (8, (1, 1, 2, 1)), trunk)


def _prompts(kind: str, mask_side: int) -> dict[str, torch.Tensor]:
    """Return prompts of three objects in transformers' form, (1, 3, …)."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(1, 3, 2, 2, generator=generator) * 64
    labels = torch.tensor([[[1, 0], [1, 1], [1, -10]]])
    corners = torch.rand(1, 3, 2, 2, generator=generator) * 64
    boxes = torch.sort(corners, dim=2).values.reshape(1, 3, 4)
    masks = torch.randn(1, 1, mask_side, mask_side, generator=generator) * 5
    return {
        "points": {"input_points": points, "input_labels": labels},
        "boxes": {"input_boxes": boxes},
        "masks": {"input_masks": masks},
        "points and boxes": {"input_points": points, "input_labels": labels, "input_boxes": boxes},
        "points, boxes and masks": {
            "input_points": points[:, :1], "input_labels": labels[:, :1], "input_boxes": boxes[:, :1],
            "input_masks": masks,
        },
    }[kind]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["points", "boxes", "masks", "points and boxes", "points, boxes and masks"])
def test_logits_of_transformers(models, networks, family, kind, multimask):
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    given = _prompts(kind, networks[family].mask_size)
    with torch.no_grad():
        expected = models[family](pixel_values=pixels, multimask_output=multimask, **given)
        encoded = EncodedPrompts(
            points=given["input_points"][0] if "input_points" in given else None,
            labels=given["input_labels"][0] if "input_labels" in given else None,
            boxes=given["input_boxes"][0] if "input_boxes" in given else None,
            masks=given.get("input_masks"),
        )
        found = networks[family].decode(networks[family].embed(pixels), encoded, multimask=multimask)
    assert expected.pred_masks.abs().mean() > 0.1
    torch.testing.assert_close(found.logits, expected.pred_masks[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.iou, expected.iou_scores[0], atol=1e-5, rtol=1e-5)


def test_encoders_of_the_same_weights_with_other_settings_share_no_embeddings(folders, networks, tmp_path):
    settings = json.loads((folders["sam2"] / "config.json").read_text())
    changes = [
        ("image_size", 128, "prompt_encoder_config"),
        ("global_attention_blocks", [2], "backbone_config"),
    ]
    for number, (name, value, part) in enumerate(changes):
        changed = json.loads(json.dumps(settings))
        inner = changed["vision_config"][part] if part == "backbone_config" else changed[part]
        assert inner[name] != value
        inner[name] = value
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(changed))
        (folder / "model.safetensors").symlink_to(folders["sam2"] / "model.safetensors")
        assert load_network(folder, device="cpu").encoder_digest != networks["sam2"].encoder_digest


def test_several_prompts_with_a_mask_each_equal_one_after_the_other(networks):
    for network in networks.values():
        embedding = network.embed(torch.randn(1, 3, 64, 64))
        masks = torch.randn(2, 1, network.mask_size, network.mask_size)
        boxes = torch.tensor([[4.0, 5, 20, 30], [10, 10, 60, 50]])
        with torch.no_grad():
            both = network.decode(embedding, EncodedPrompts(boxes=boxes, masks=masks), multimask=False)
            for index in range(2):
                one = EncodedPrompts(boxes=boxes[index : index + 1], masks=masks[index : index + 1])
                alone = network.decode(embedding, one, multimask=False)
                torch.testing.assert_close(both.logits[index], alone.logits[0], atol=1e-5, rtol=1e-5)


def test_official_layouts(models, networks, tmp_path, tiny_trunk):
    torch.save(tiny_sam.official_sam(models["sam"]), tmp_path / "sam_vit_t.pth")
    torch.save(tiny_sam.official_sam2(models["sam2"]), tmp_path / "sam2.1_tiny.pt")
    save_file(tiny_sam.official_sam(models["sam"]), tmp_path / "medsam_vit_t.safetensors")
    files = {"sam_vit_t.pth": "sam", "sam2.1_tiny.pt": "sam2", "medsam_vit_t.safetensors": "medsam"}
    for name, preprocessing in files.items():
        assert is_sam(tmp_path / name)
        network = load_network(tmp_path / name, device="cpu")
        reference = networks["sam2" if preprocessing == "sam2" else "sam"]
        assert network.preprocessing == preprocessing
        assert network.encoder_digest == reference.encoder_digest
        for key, tensor in reference.model.state_dict().items():
            torch.testing.assert_close(network.model.state_dict()[key], tensor, atol=0, rtol=0)
        pixels = torch.randn(1, 3, 64, 64)
        box = EncodedPrompts(boxes=torch.tensor([[4.0, 5, 20, 30]]))
        with torch.no_grad():
            found = network.decode(network.embed(pixels), box, multimask=True).logits
            wanted = reference.decode(reference.embed(pixels), box, multimask=True).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ("b", {}),
        ("h", {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
               "global_attn_indexes": [7, 15, 23, 31]}),
    ],
)  # fmt: skip
def test_architecture_of_published_sam(size, settings):
    """The architecture that follows from the weights' shapes is transformers' for the published file."""
    from transformers.models.sam.configuration_sam import SamConfig
    from transformers.models.sam.modeling_sam import SamModel

    wanted = SamConfig(vision_config=settings)
    with torch.device("meta"):
        state = SamModel(wanted).state_dict()
    found = SamConfig(**sam_settings(rename_sam(_official(state))))
    for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config"):
        assert getattr(found, part).to_dict() == getattr(wanted, part).to_dict()


@pytest.mark.parametrize(
    ("blocks", "width", "heads", "windows", "background", "everywhere"),
    [
        ((1, 2, 7, 2), 96, 1, (8, 4, 14, 7), 7, (5, 7, 9)),
        ((2, 6, 36, 4), 144, 2, (8, 4, 16, 8), 7, (23, 33, 43)),
    ],
)
def test_architecture_of_published_sam2(blocks, width, heads, windows, background, everywhere):
    """The same for SAM 2.1 tiny and large."""
    from transformers.models.sam2.configuration_sam2 import Sam2Config
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    dims = [width * 2**stage for stage in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": width, "blocks_per_stage": list(blocks),
        "embed_dim_per_stage": dims, "num_attention_heads_per_stage": [heads * 2**i for i in range(4)],
        "window_size_per_stage": list(windows), "global_attention_blocks": list(everywhere),
        "window_positional_embedding_background_size": [background, background],
    }  # fmt: skip
    wanted = Sam2Config(vision_config={"backbone_config": backbone, "backbone_channel_list": dims[::-1]})
    with torch.device("meta"):
        state = Sam2Model(wanted).state_dict()
    found = Sam2Config(**sam2_settings(rename_sam2(tiny_sam.official_sam2(_holder(state))["model"])))
    assert found.vision_config.to_dict() == wanted.vision_config.to_dict()
    assert found.prompt_encoder_config.to_dict() == wanted.prompt_encoder_config.to_dict()
    assert found.mask_decoder_config.to_dict() == wanted.mask_decoder_config.to_dict()


def _holder(state):
    return SimpleNamespace(state_dict=lambda: state)


def _official(state):
    return tiny_sam.official_sam(_holder(state))


def test_examples_of_the_guide(folders, tmp_path, monkeypatch):
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "sam.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", guide, flags=re.S | re.M)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medseg.sam.loading.EMBEDDINGS", tmp_path / "embeddings")
    voxels = np.random.default_rng(0).normal(size=(60, 50, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([1, 1, 4, 1])), "scan.nii.gz")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)).save("cells.png")
    for name in ("medsam_vit_b", "sam_vit_b"):
        Path(name).symlink_to(folders["sam"])
    for block in blocks:
        exec(compile(block, "sam.md", "exec"), {})
    assert nib.load("mask.nii.gz").shape == (60, 50, 10)


def test_published_name_with_the_weights_in_a_file(models, tmp_path, monkeypatch):
    torch.save(tiny_sam.official_sam(models["sam"]), tmp_path / "weights.pth")
    network = load_network("medsam_vit_b", weights=tmp_path / "weights.pth", device="cpu")
    assert network.preprocessing == "medsam"
    assert is_sam("medsam_vit_b")
    monkeypatch.setattr("medseg.sam.published.CACHE", tmp_path / "nothing")
    with pytest.raises(ModelFileError, match="have not been downloaded"):
        load_network("sam_vit_b")
    assert PUBLISHED_SAM["sam_vit_b"].path().parent == tmp_path / "nothing"


def test_files_that_are_refused(models, folders, tmp_path):
    state = tiny_sam.official_sam(models["sam"])
    cases = {
        "unknown": state | {"extra.weight": torch.ones(1)},
        "missing": {key: value for key, value in state.items() if "iou_token" not in key},
        "shape": state | {"mask_decoder.iou_token.weight": torch.ones(1, 5)},
        "other": {"layer.weight": torch.ones(2)},
    }
    messages = {
        "unknown": "1 are unknown",
        "missing": "1 tensors are",
        "shape": "expected",
        "other": "not those",
    }
    for name, weights in cases.items():
        torch.save(weights, tmp_path / f"{name}.pth")
        with pytest.raises(ModelFileError, match=messages[name]):
            load_network(tmp_path / f"{name}.pth")
    torch.save({"model": models["sam"]}, tmp_path / "pickle.pth")
    with pytest.raises(ModelFileError, match="holds more than tensors"):
        load_network(tmp_path / "pickle.pth")
    torch.save(tiny_sam.official_sam2(models["sam2"]), tmp_path / "width.pt")
    with pytest.raises(ModelFileError, match="is none of SAM"):
        load_network(tmp_path / "width.pt")
    with pytest.raises(ConfigError, match="no such SAM"):
        load_network("sam_vit_x")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelFileError, match="declares model_type 'bert'"):
        load_network(tmp_path / "bert")
    (tmp_path / "run").mkdir()
    with pytest.raises(ModelFileError, match=r"holds no config\.json"):
        load_network(tmp_path / "run")
    assert not is_sam(tmp_path / "bert")
    assert not is_sam(tmp_path / "other.pth")
    assert not is_sam(tmp_path / "nothing.pth")
    assert is_sam(folders["sam2"])


@pytest.mark.parametrize("shape", [(48, 100), (200, 37), (64, 64), (31, 31)])
def test_preprocessing_of_transformers(shape):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    expected = processor(picture, return_tensors="pt")
    frame = Frame(shape, 64, 16, "sam")
    torch.testing.assert_close(prepare(picture, frame), expected["pixel_values"], atol=2e-6, rtol=0)
    assert list(frame.resized) == np.array(expected["reshaped_input_sizes"][0]).tolist()
    logits = torch.randn(1, 3, 16, 16)
    masks = processor.post_process_masks(
        [logits], [shape], [frame.resized], binarize=False, pad_size={"height": 64, "width": 64}
    )
    torch.testing.assert_close(frame.to_picture(logits), masks[0], atol=1e-6, rtol=0)


def test_positions_of_transformers():
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
    from transformers.models.sam.processing_sam import SamProcessor

    points = np.array([[3.0, 40], [20, 99]])  # row, column
    frame = Frame((48, 100), 64, 16, "sam")
    expected = SamProcessor._normalize_coordinates(
        SimpleNamespace(image_processor=SamImageProcessorPil()), 64, points[:, ::-1].copy(), (48, 100)
    )
    np.testing.assert_allclose(frame.positions(points), expected, rtol=1e-6)


def test_preprocessing_of_sam2_and_medsam():
    picture = np.random.default_rng(0).integers(0, 256, (40, 100, 3), dtype=np.uint8)
    values = prepare(picture, Frame((40, 100), 64, 16, "sam2"))
    assert values.shape == (1, 3, 64, 64)
    resized = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR))
    back = values[0].permute(1, 2, 0).numpy() * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)
    np.testing.assert_allclose(back * 255, resized, atol=1.01)  # Pillow rounds after each axis
    medsam = prepare(picture, Frame((40, 100), 64, 16, "medsam"))
    assert (medsam.min(), medsam.max()) == (0, 1)
    square = prepare(picture[:, :40].repeat(2, 0)[:64, :64].copy(), Frame((64, 40), 64, 16, "medsam"))
    assert square.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_session_gives_the_masks_of_transformers(models, networks, family):
    """From the file's pixels to the mask: a box on a picture that is not square."""
    picture = np.random.default_rng(3).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    session = Sam(networks[family], store=EmbeddingStore(dtype=torch.float32)).open(np.moveaxis(picture, 2, 0))
    mask = session.add(Box((10, 20), (30, 60)))
    frame = Frame((48, 80), 64, networks[family].mask_size, family)
    box = frame.positions(np.array([[10.0, 20], [29, 59]])).reshape(1, 1, 4)
    with torch.no_grad():
        logits = models[family](pixel_values=prepare(picture, frame), input_boxes=box, multimask_output=False)
    expected = frame.to_picture(logits.pred_masks[0])[0, 0] > 0
    assert 0 < expected.sum() < expected.numel()
    np.testing.assert_array_equal(mask, expected)


def test_automatic_masks_of_transformers(models, networks):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    picture = np.random.default_rng(4).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    _, points, images, labels = processor.generate_crop_boxes(picture, 64, points_per_crop=4)
    assert len(images) == 1
    frame = Frame((48, 64), 64, networks["sam"].mask_size, "sam")
    with torch.no_grad():
        output = models["sam"](
            pixel_values=prepare(picture, frame),
            input_points=points.transpose(1, 2).reshape(1, 16, 1, 2).float(),
            input_labels=labels.reshape(1, 16, 1),
        )
    full = frame.to_picture(output.pred_masks[0])
    limit = float(output.iou_scores.quantile(0.5))
    _, scores, boxes = processor.filter_masks(
        full, output.iou_scores[0], (48, 64), [0, 0, 64, 48], pred_iou_thresh=limit, stability_score_thresh=0.3
    )
    options = AutomaticOptions(points=4, min_iou=0, min_stability=0.3, nms=1)
    sam = Sam(networks["sam"], store=EmbeddingStore(dtype=torch.float32))
    found = automatic_masks(sam, np.moveaxis(picture, 2, 0), options.model_copy(update={"min_iou": limit}))
    order = np.argsort(-scores.numpy(), kind="stable")
    filled = [index for index in order if (boxes[index, 2:] > boxes[index, :2]).any()]
    assert len(filled) > 3
    assert [float(s) for s in scores[filled].clamp(0, 1)] == pytest.approx(found.scores.tolist(), abs=1e-5)
    expected = [[[y0, y1 + 1], [x0, x1 + 1]] for x0, y0, x1, y1 in boxes[filled].int().tolist()]
    assert found.boxes.tolist() == expected


def test_embeddings_on_disk_serve_another_process(folders, tmp_path):
    picture = np.random.default_rng(5).integers(0, 256, (64, 64), dtype=np.uint8)
    masks = []
    for _ in range(2):
        sam = load_sam(folders["sam"], store=EmbeddingStore(tmp_path), device="cpu")
        masks.append(sam.open(picture).add(Point((30, 30))))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    np.testing.assert_array_equal(*masks)
    assert sam.name == "sam"
    assert isinstance(load_promptable(folders["sam2"], device="cpu"), Sam)
