"""Equality with torchvision's operators and its Mask R-CNN; strict keys of its published weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.models.detection import MaskRCNNConfig
from medseg.models.detection.anchors import AnchorOptions
from medseg.models.detection.boxes import BoxCoder, box_iou, generalized_iou
from medseg.models.detection.heads import BoxHeadOptions
from medseg.models.detection.nms import nms
from medseg.models.detection.roi_align import Regions, RoIAlign
from medseg.models.detection.rpn import RPNOptions
from medseg.models.pretrained.key_mapping import KEY_TABLES
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS
from medseg.task import Task

pytestmark = pytest.mark.data

YX = [1, 0, 3, 2]
"""Between torchvision's order (x, y, x, y) and that of the axes."""
NAME = "maskrcnn_resnet50_fpn"


@pytest.fixture(scope="module")
def operators(recipe):
    path = Path(recipe.HERE) / "detection_ops.npz"
    return {name: torch.from_numpy(array) for name, array in np.load(path).items()}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms(operators, threshold):
    found = nms(operators["boxes"][:, YX], operators["scores"], threshold)
    assert found.tolist() == operators[f"nms_{threshold}"].tolist()


def test_nms_by_class(operators):
    boxes, scores, labels = (operators[name] for name in ("boxes", "scores", "labels"))
    assert nms(boxes[:, YX], scores, 0.5, groups=labels).tolist() == operators["batched_nms_0.5"].tolist()


def test_overlaps(operators):
    first, second = operators["boxes"][:15, YX], operators["boxes"][15:40, YX]
    torch.testing.assert_close(box_iou(first, second), operators["box_iou"])
    torch.testing.assert_close(generalized_iou(first, second), operators["giou"])


def test_codes_of_boxes(operators):
    boxes, anchors = operators["boxes"][:15, YX], operators["boxes"][15:30, YX]
    torch.testing.assert_close(BoxCoder(10, 5).encode(boxes, anchors)[:, YX], operators["coder_encode"])


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("samples", [-1, 2])
def test_roi_align(operators, aligned, samples):
    rois = operators["rois"]
    regions = Regions(rois[:, 1:][:, YX], rois[:, 0].long(), torch.zeros(len(rois), dtype=torch.long))
    pooled = RoIAlign((5, 7), max(samples, 0), bool(aligned)).pool([operators["feature"]], [(4, 4)], regions)
    torch.testing.assert_close(pooled, operators[f"roi_align_aligned{aligned}_sr{samples}"], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def network(recipe):
    config = MaskRCNNConfig(
        anchors=AnchorOptions(), level_size=56, aligned=False, pasting="rounded",
        shorter_side=160, longer_side=320,
        rpn=RPNOptions(candidates=(2000, 200), proposals=(2000, 60)), box_head=BoxHeadOptions(detections=12),
    )  # fmt: skip
    network = config.build(Task(2, 3, 4)).eval()
    state = KEY_TABLES["torchvision_maskrcnn"].rename(recipe.state_dict(NAME)).state
    network.load_state_dict(state, strict=True)
    return network


@pytest.mark.slow
@torch.inference_mode()
def test_mask_rcnn_equals_torchvisions_at_every_stage(recipe, network):
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    image = ((torch.from_numpy(recipe.make_input((3, 120, 150), "unit")) - mean) / std)[None]
    resized = network.resize(image)
    size = tuple(resized.shape[2:])
    outputs = {"transformed": torch.nn.functional.pad(resized, (0, 24))}
    pyramid = network.features(resized)
    outputs |= {f"fpn/{name}": level for name, level in zip([*"0123", "pool"], pyramid, strict=True)}
    for level, (objectness, codes) in enumerate(network.rpn.predict(pyramid)):
        outputs[f"rpn/objectness{level}"] = objectness
        by_anchor = codes.reshape(1, 3, 4, *codes.shape[2:])[:, :, YX]
        outputs[f"rpn/deltas{level}"] = by_anchor.reshape(codes.shape)
    anchors = network.anchors(pyramid, size)
    outputs["rpn/anchors"] = torch.cat(anchors)[:, YX]
    [proposals] = network.rpn.propose(network.rpn(pyramid, anchors), size)
    outputs["rpn/proposals"] = proposals[:, YX]
    given = torch.tensor(recipe.manifest()[NAME]["given_boxes"])[:, YX]
    outputs["given/box_roi_pool"] = network.pool(network.box_pool, pyramid, [given])
    logits, codes = network.box_head(outputs["given/box_roi_pool"])
    outputs["given/class_logits"] = logits
    outputs["given/box_regression"] = codes.view(5, 4, 4)[:, :, YX].reshape(5, 16)
    outputs["given/mask_logits"] = network.mask_head(network.pool(network.mask_pool, pyramid, [given]))
    [found] = network(image)
    outputs["final/boxes"], outputs["final/labels"] = found.boxes[:, YX], found.classes
    outputs["final/scores"], outputs["final/masks"] = found.scores, found.full_masks()[:, None]
    errors = recipe.check(NAME, {name: tensor.numpy() for name, tensor in outputs.items()})
    assert set(errors) == set(recipe.manifest()[NAME]["outputs"])


def old_key(key):
    """The key in torchvision's first published file."""
    for index in range(4):
        key = key.replace(f"mask_head.{index}.0.", f"mask_head.mask_fcn{index + 1}.")
        for block in ("inner_blocks", "layer_blocks"):
            key = key.replace(f"{block}.{index}.0.", f"{block}.{index}.")
    return key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


@pytest.mark.parametrize(
    ("name", "keys", "rename"),
    [
        ("maskrcnn_resnet50_fpn_coco", "maskrcnn_resnet50_fpn_coco91", str),
        ("maskrcnn_resnet50_fpn_coco", "maskrcnn_resnet50_fpn_coco91", old_key),
        ("maskrcnn_resnet50_fpn_v2_coco", "maskrcnn_resnet50_fpn_v2_coco91", str),
    ],
)
def test_published_keys_and_shapes(name, keys, rename, recipe):
    entry = PUBLISHED_WEIGHTS[name]
    assert entry.network is not None
    with torch.device("meta"):
        expected = {
            key: tensor.shape for key, tensor in entry.network.build(Task(2, 3, 91)).state_dict().items()
        }
        published = {rename(key): torch.empty(shape) for key, shape in recipe.keys(keys)}
    assert len(published) == len(expected)
    renamed = KEY_TABLES[entry.keys].rename(published)
    assert not renamed.dropped
    assert {key: tensor.shape for key, tensor in renamed.state.items()} == expected
