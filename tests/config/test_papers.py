"""The papers' schedules in ``configs/papers``: networks, updates, learning rates by part, crops, scales."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from medseg.config.schema import load_config
from medseg.models.pretrained.key_mapping import KEY_TABLES
from medseg.models.pretrained.loading import parameter_groups
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS
from medseg.optim import learning_rate
from medseg.task import Task

FOLDER = Path(__file__).parents[2] / "configs" / "papers"
SHARED = {"base", "coco_voc"}  # bases of the others


@dataclass
class Paper:
    """What a paper says; rates by what parameters' names begin with, "" for all others."""

    classes: int
    parameters: float  # millions
    updates: int
    batch: int
    crop: tuple[int, int]
    rates: dict[str, float]
    momentum: float = 0.9
    decay: float = 1e-4
    scale: tuple[float, float] = (1, 1)
    halfway: float = 0.5**0.9  # of the schedule
    channels: int = 3
    aux_weight: float | None = None
    published: str | None = None


PAPERS = {
    # a summed loss's 1e-10 and 5e-4, for pictures of 500 × 375
    "fcn8s_vgg16_voc": Paper(
        21, 134.5, 300_000, 1, (500, 500), {"": 1.875e-5}, 0.99, 5e-4 / 187_500, halfway=1,
        published="vgg16_imagenet",
    ),
    "fcn_resnet50_coco_voc": Paper(
        21, 35.3, 30 * 2891, 32, (480, 480), {"": 0.02, "aux_classifier.": 0.2}, scale=(260 / 480, 1040 / 480),
        aux_weight=0.5, published="resnet50_imagenet",
    ),
    "deeplabv3_resnet101_coco_voc": Paper(
        21, 61.0, 30 * 2891, 32, (480, 480), {"": 0.02, "aux_classifier.": 0.2}, scale=(260 / 480, 1040 / 480),
        aux_weight=0.5, published="resnet101_imagenet",
    ),
    "deeplabv1_vgg16_voc": Paper(
        21, 20.5, 6000, 20, (321, 321), {"": 1e-3, "classifier.fc8.": 1e-2}, decay=5e-4, halfway=0.1,
        published="vgg16_imagenet",
    ),
    "deeplabv2_resnet101_voc": Paper(
        21, 44.0, 20_000, 10, (321, 321), {"": 2.5e-4, "aspp.": 2.5e-3}, decay=5e-4, scale=(0.5, 1.5),
        published="resnet101_imagenet",
    ),
    "deeplabv3_resnet101_voc": Paper(
        21, 58.6, 30_000, 16, (513, 513), {"": 0.007}, scale=(0.5, 2), published="resnet101_imagenet"
    ),
    "deeplabv3plus_resnet101_voc": Paper(
        21, 59.3, 30_000, 16, (513, 513), {"": 0.007}, scale=(0.5, 2), published="resnet101_imagenet"
    ),
    "pspnet_resnet50_ade20k": Paper(
        150, 49.2, 126_300, 16, (473, 473), {"": 0.01, "ppm.": 0.1, "classifier.": 0.1, "aux_classifier.": 0.1},
        scale=(0.5, 2), aux_weight=0.4,
    ),
    "pspnet_resnet50_cityscapes": Paper(
        19, 49.1, 37_000, 16, (713, 713), {"": 0.01, "ppm.": 0.1, "classifier.": 0.1, "aux_classifier.": 0.1},
        scale=(0.5, 2), aux_weight=0.4,
    ),
    "hrnetv2_w48_cityscapes": Paper(
        19, 65.9, 120_032, 12, (512, 1024), {"": 0.01}, decay=5e-4, scale=(0.5, 2)
    ),
    "unet_isbi2012": Paper(
        2, 31.0, 30_000, 1, (388, 388), {"": 1e-3}, 0.99, 0, scale=(0.9, 1.1), halfway=1, channels=1
    ),
}  # fmt: skip
papers = pytest.mark.parametrize(("name", "paper"), PAPERS.items(), ids=PAPERS)


def test_every_file_is_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PAPERS) | SHARED


@papers
def test_the_schedule_is_the_papers(name, paper):
    config = load_config(FOLDER / f"{name}.yaml")
    train = config.train
    assert (train.epochs * train.iterations, train.batch_size * train.accumulate) == (
        paper.updates,
        paper.batch,
    )
    assert config.sampling.patch_size == paper.crop
    assert config.sampling.forced_share == 0
    assert config.augment.affine.scale == pytest.approx(paper.scale, abs=0.01)
    assert config.augment.affine.probability == (paper.scale != (1, 1))
    assert train.optimizer.name == "sgd"
    assert (train.optimizer.momentum, train.optimizer.nesterov) == (paper.momentum, False)
    assert train.optimizer.weight_decay == pytest.approx(paper.decay, rel=0.02)
    assert (train.gradient_clip, train.ema) == (None, 0)
    half = learning_rate(1.0, train.schedule, paper.updates // 2, paper.updates, [])
    assert half == pytest.approx(paper.halfway, rel=1e-3)
    assert paper.aux_weight is None or train.aux_weight == paper.aux_weight


@papers
def test_the_network_is_the_papers_and_its_parts_have_their_rates(name, paper):
    config = load_config(FOLDER / f"{name}.yaml")
    task = Task(2, paper.channels, paper.classes)
    with torch.device("meta"):
        network = config.model.build(task)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(paper.parameters, abs=0.06)
    optimizer = config.train.optimizer.build(parameter_groups(network, config.weights))
    rates = {id(p): group["lr"] * group["factor"] for group in optimizer.param_groups for p in group["params"]}
    begun = set()
    for key, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        begins = max((prefix for prefix in paper.rates if key.startswith(prefix)), key=len)
        begun.add(begins)
        assert rates.pop(id(parameter)) == pytest.approx(paper.rates[begins], rel=0.02), key
    assert not rates
    assert begun == set(paper.rates)
    assert config.loss.build(task, [1] * paper.classes) is not None


@papers
def test_the_weights_are_known_and_the_header_describes_them(name, paper):
    config = load_config(FOLDER / f"{name}.yaml")
    assert config.weights.published == paper.published
    assert paper.published is None or paper.published in PUBLISHED_WEIGHTS
    assert config.weights.keys in ("auto", *KEY_TABLES)
    header = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    assert f"medseg train configs/papers/{name}.yaml data.path=" in header
    assert paper.published is None or f"medseg weights get {paper.published}" in header
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", header)
    for words in ("Published: ", "Needs a GPU", "Differences"):
        assert words in header, words
    assert max(map(len, header.splitlines())) <= 120
