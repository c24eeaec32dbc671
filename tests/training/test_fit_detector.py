"""Trainings of detectors, from numbered label maps to objects in files."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from test_fit_instances import settings, write_cells

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.demo.cells import draw_cells
from medseg.errors import ConfigError
from medseg.inference.detection import DetectionRun, to_instances
from medseg.inference.model.model_file import load_model
from medseg.inference.model.predictor import Predictor
from medseg.models.detection import Detections, Detector
from medseg.models.pretrained.weight_registry import PUBLISHED_WEIGHTS
from medseg.task import Task
from medseg.training.fit import fit

BACKBONE = {"depth": 18, "width": 0.125, "norm": "group", "stem_stride": 1, "stages": 2}
MODELS = {
    "maskrcnn": {
        "name": "maskrcnn", "backbone": BACKBONE, "feature_maps": 2, "extra_level": False,
        "pyramid": {"channels": 8}, "rpn": {"proposals": [16, 16]},
        "box_head": {"channels": 16, "size": 3, "samples": 16},
        "mask_head": {"channels": 8, "size": 4, "convs": 1},
    },
    "retina_unet": {
        "name": "retina_unet", "backbone": BACKBONE, "feature_maps": 2, "pyramid": {"channels": 8}, "convs": 1,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_from_numbered_pictures_to_objects_in_files(tmp_path, name):
    root = write_cells(tmp_path / "data")
    config = load_config({**settings(root), "model": MODELS[name]})
    assert config.task.decoder == "boxes"
    assert config.train.monitor == "instances"
    result = fit(config, tmp_path / "run")
    header = load_model(result.model)[0]
    sizes = [np.sqrt(np.prod(shape)) for level in header.model.anchors.shapes for shape in level]
    assert 6 < min(sizes) < max(sizes) < 30  # planned: the cells have radii of 5 to 7 pixels
    out = tmp_path / "out"
    asked = [
        "infer",
        str(root / "images"),
        "--model",
        str(tmp_path / "run"),
        "--output",
        str(out),
        "--overlays",
    ]
    assert run([*asked, "--set", "instances.score=0"]) == 0
    label_map = np.asarray(Image.open(out / "c0.png"))
    assert label_map.shape == (48, 48)
    if (out / "instances.csv").exists():
        with (out / "instances.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["case"] == "c0"]
        assert len(rows) >= len(np.unique(label_map[label_map > 0]))
    assert (out / "overlays" / "full_size" / "c0.png").is_file()


def test_volumes(tmp_path):
    from conftest import write_volume

    root = tmp_path / "data"
    affine = np.diag([1.0, -1.0, 3.0, 1.0])
    for i in range(3):
        cells = draw_cells((20, 20, 8), (1.0, 1.0, 3.0), np.random.default_rng(i), radius=(4.0, 6.0))
        write_volume(root / "images" / f"v{i}.nii.gz", 100.0 * (cells > 0), affine)
        write_volume(root / "labels" / f"v{i}.nii.gz", cells.astype(np.int16), affine)
    raw = {**settings(root, dims=3), "model": MODELS["retina_unet"], "sampling": {"patch_size": [16, 16, 8]}}
    result = fit(load_config(raw), tmp_path / "run")
    shapes = np.array(load_model(result.model)[0].model.anchors.shapes)
    assert (shapes[..., 2] < 0.7 * shapes[..., 0]).all()  # slices are three times as thick
    with pytest.raises(ConfigError, match=r"finds objects by boxes: not possible with inference\.flips"):
        Predictor(result.model, force=True, settings={"flips": [0]})
    predictor = Predictor(result.model, settings={"instances": {"score": 0.0}})
    prediction = predictor.predict(root / "images" / "v0.nii.gz")
    assert prediction.instances.spacing == (1.0, 1.0, 3.0)
    assert prediction.instances.shape == prediction.label_map.shape == (20, 20, 8)


def test_detectors_and_tasks_that_do_not_match():
    for raw in ({"model": MODELS["maskrcnn"], "task": {"name": "semantic"}}, {"task": {"decoder": "boxes"}}):
        with pytest.raises(ConfigError, match="do not match"):
            load_config({"spatial_dims": 2, **raw})


def test_settings_of_the_published_mask_rcnn():
    entry = PUBLISHED_WEIGHTS["maskrcnn_resnet50_fpn_coco"]
    assert entry.network.shorter_side == 800
    with torch.device("meta"):
        network = entry.network.build(Task(2, 3, 91))
    assert network.level_size == 56
    assert len(network.shapes) == 5


class Blocks(Detector):
    """Finds the bright block of a window, whatever the window."""

    spatial_dims = 2

    def detect(self, images):
        image = images[0, 0]
        places = (image > 0).nonzero()
        boxes = torch.zeros(0, 4)
        if len(places):
            boxes = torch.cat([places.amin(0), places.amax(0) + 1]).float()[None]
        count = len(boxes)
        return [
            Detections(boxes, torch.ones(count, dtype=torch.long), torch.full((count,), 0.9),
                       torch.ones(count, 4, 4), tuple(image.shape))
        ]  # fmt: skip


def test_windows_find_what_the_whole_finds():
    image = np.zeros((1, 64, 64), np.float32)
    image[0, 25:36, 30:35] = 1  # lies on the middle of the image
    whole = DetectionRun(Blocks().eval(), torch.device("cpu")).detect(image)
    parts = DetectionRun(Blocks().eval(), torch.device("cpu"), most=40 * 40).detect(image)
    assert whole.boxes.tolist() == parts.boxes.tolist() == [[25, 30, 36, 35]]
    [(box, mask)] = list(to_instances(parts, (1, 1)))
    assert box == (slice(25, 36), slice(30, 35))
    assert mask.all()


@pytest.mark.parametrize(("first", "last"), [(13, 41), (20, 44)])
def test_an_object_that_every_window_cuts_is_searched_in_a_window_around_it(first, last):
    image = np.zeros((1, 64, 64), np.float32)
    image[0, first:last, 4:9] = 1  # windows cover rows 0 to 32, 16 to 48 and 32 to 64
    found = DetectionRun(Blocks().eval(), torch.device("cpu"), most=40 * 40).detect(image)
    assert found.boxes.tolist() == [[first, 4, last, 9]]


def test_an_object_larger_than_the_windows_is_reported(caplog):
    image = np.zeros((1, 64, 64), np.float32)
    image[0, 4:60, 4:9] = 1
    found = DetectionRun(Blocks().eval(), torch.device("cpu"), most=40 * 40).detect(image)
    assert len(found) > 1
    assert "larger than the windows of the detector" in caplog.text


def test_a_window_with_as_many_objects_as_the_detector_returns_is_reported(caplog):
    network = Blocks().eval()
    image = np.ones((1, 8, 8), np.float32)
    DetectionRun(network, torch.device("cpu"), score=0.5).detect(image)
    assert not caplog.records
    network.most_detections = 1
    DetectionRun(network, torch.device("cpu"), score=0.5).detect(image)
    assert "at most 1 objects" in caplog.text


def test_the_number_of_detections_follows_from_the_training():
    mask_rcnn = load_config({"spatial_dims": 2, "model": {"name": "maskrcnn"}}).model
    assert mask_rcnn.with_detections(200).box_head.detections == 600
    assert mask_rcnn.with_detections(5).box_head.detections == 100
    retina = load_config({"spatial_dims": 3, "model": {"name": "retina_unet", "detections": 7}}).model
    assert retina.with_detections(200).detections == 7
    assert retina.model_copy(update={"detections": None}).with_detections(200).detections == 600


def test_objects_without_mask_are_left_out():
    found = Detections(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([2]), torch.tensor([0.7]),
                       torch.zeros(1, 4, 4), (8, 8))  # fmt: skip
    assert len(to_instances(found, (1, 1))) == 0
