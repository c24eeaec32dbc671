"""Average precision: hand-computed values, and equality with pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from medseg.metrics.instances.average_precision import DetectedObjects, PrecisionOptions, precision_table
from medseg.metrics.instances.overlaps import overlaps_of_boxes, overlaps_of_label_maps, overlaps_of_masks

SIZE = (20, 24)
SIZES = {"all": (0.0, 1e10), "small": (0.0, 100.0), "medium": (100.0, 250.0), "large": (250.0, 1e10)}


def image(reference, predicted, scores, **flags):
    overlaps = overlaps_of_label_maps(np.array(reference), np.array(predicted))
    kinds = [np.ones(len(sizes), int) for sizes in (overlaps.reference_sizes, overlaps.predicted_sizes)]
    return DetectedObjects(overlaps, np.array(scores), *kinds, **flags)


def test_a_false_positive_before_a_true_one_halves_the_precision():
    # the first detection is false: precision 1/2 at every recall
    found = precision_table([image([1, 1, 0], [1, 1, 2], [0.4, 0.9])])
    assert found.average() == pytest.approx(0.5)
    assert found.average_recall() == 1


def test_half_of_the_objects_found():
    # recall 0.5 with precision 1: 51 of 101 recalls
    found = precision_table([image([1, 1, 2], [1, 1, 0], [0.4])]).summary()
    assert found["ap50"] == pytest.approx(51 / 101)
    assert found["ar"] == 0.5
    assert math.isnan(found["ap_large"])


def test_more_than_100_detections_count():
    reference = np.arange(1, 201)
    many = image(reference, reference, np.linspace(1, 0.5, 200))
    assert precision_table([many]).average() == pytest.approx(1)
    assert precision_table([many], PrecisionOptions(detections=100)).average_recall() == 0.5


def test_detections_of_ignored_objects_are_neither_right_nor_wrong():
    picture = image([1, 1, 2, 2], [1, 1, 2, 2], [0.9, 0.8], ignored=np.array([True, False]))
    assert precision_table([picture]).average() == pytest.approx(1)


def test_a_class_without_reference_objects_is_left_out():
    overlaps = overlaps_of_label_maps(np.array([1, 0]), np.array([1, 2]))
    picture = DetectedObjects(overlaps, np.array([0.5, 0.9]), np.array([3]), np.array([3, 8]))
    found = precision_table([picture])
    assert found.average() == pytest.approx(1)
    assert found.average(class_index=3) == pytest.approx(1)
    assert math.isnan(found.average(class_index=8))
    assert math.isnan(precision_table([]).average())


class Picture:
    """Random objects and detections of one picture, with crowds, and scores with ties."""

    def __init__(self, rng, number, classes):
        self.number = number
        self.boxes = [self.box(rng) for _ in range(rng.integers(0, 6) * (rng.random() > 0.2))]
        self.found = [self.near(rng) for _ in range(rng.integers(0, 9) * (rng.random() > 0.2))]
        self.kinds = rng.integers(1, classes + 1, len(self.boxes))
        self.found_kinds = rng.integers(1, classes + 1, len(self.found))
        self.crowd = rng.random(len(self.boxes)) < 0.25
        self.areas = rng.integers(1, 400, len(self.boxes)).astype(float)
        scores = rng.random(len(self.found))
        self.scores = np.round(4 * scores) / 4 if rng.random() < 0.5 else scores
        self.masks = [self.mask(rng, box) for box in [*self.boxes, *self.found]]

    @staticmethod
    def box(rng):
        low = [rng.integers(0, side - 3) for side in SIZE]
        return [*low, *(a + rng.integers(1, side - a) for a, side in zip(low, SIZE, strict=True))]

    def near(self, rng):
        if not self.boxes or rng.random() < 0.3:
            return self.box(rng)
        box = np.array(self.boxes[rng.integers(len(self.boxes))]) + rng.integers(-1, 2, 4)
        box = box.clip(0, [SIZE[0] - 1, SIZE[1] - 1, *SIZE])
        return [*box[:2], *np.maximum(box[2:], box[:2] + 1)]

    @staticmethod
    def mask(rng, box):
        mask = rng.random((box[2] - box[0], box[3] - box[1])) < 0.8
        mask[0, 0] = True
        return mask

    def regions(self):
        boxes = [(slice(a, c), slice(b, d)) for a, b, c, d in [*self.boxes, *self.found]]
        return list(zip(boxes, self.masks, strict=True))

    def ours(self, kind):
        count = len(self.boxes)
        if kind == "bbox":
            both = (np.array(boxes).reshape(-1, 4) for boxes in (self.boxes, self.found))
            overlaps = overlaps_of_boxes(*both)
        else:
            overlaps = overlaps_of_masks(self.regions()[:count], self.regions()[count:])
        return DetectedObjects(
            overlaps, self.scores, self.kinds, self.found_kinds, self.crowd, reference_areas=self.areas
        )

    def coco(self, kind):
        """Annotations and results as COCO writes them."""
        entries = []
        for (rows, columns), mask in self.regions():
            whole = np.zeros(SIZE, np.uint8, order="F")
            whole[rows, columns] = mask
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            entries.append({"image_id": self.number, "bbox": box, "segmentation": coco_mask.encode(whole)})
        count = len(self.boxes)
        extra = zip(self.kinds.tolist(), self.crowd.tolist(), self.areas.tolist(), strict=True)
        truth = [
            {**entry, "category_id": k, "iscrowd": int(c), "area": a}
            for entry, (k, c, a) in zip(entries[:count], extra, strict=True)
        ]
        used = ("image_id", kind if kind == "bbox" else "segmentation")
        extra = zip(self.found_kinds.tolist(), self.scores.tolist(), strict=True)
        found = [
            {**{key: entry[key] for key in used}, "category_id": k, "score": s}
            for entry, (k, s) in zip(entries[count:], extra, strict=True)
        ]
        return truth, found


def pycocotools(pictures, kind, classes, detections):
    """Precision (T, 101, K, A) and recall (T, K, A); None without detections."""
    parts = [picture.coco(kind) for picture in pictures]
    truth = [entry for one, _ in parts for entry in one]
    found = [entry for _, one in parts for entry in one]
    if not found:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": [{"id": p.number, "height": SIZE[0], "width": SIZE[1]} for p in pictures],
            "annotations": [{**entry, "id": k} for k, entry in enumerate(truth, start=1)],
            "categories": [{"id": k} for k in range(1, classes + 1)],
        }
        data.createIndex()
        run = COCOeval(data, data.loadRes(found), kind)
        run.params.maxDets = [detections]
        run.params.areaRng, run.params.areaRngLbl = [list(v) for v in SIZES.values()], list(SIZES)
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., 0], run.eval["recall"][..., 0]


def compare(seed):
    rng = np.random.default_rng(seed)
    classes, kind = int(rng.integers(1, 4)), ("bbox", "segm")[seed % 2]
    pictures = [Picture(rng, number, classes) for number in range(rng.integers(1, 5))]
    detections = int(rng.choice([1, 3, 100]))
    expected = pycocotools(pictures, kind, classes, detections)
    if expected is None:
        return
    options = PrecisionOptions(sizes=SIZES, detections=detections)
    found = precision_table([picture.ours(kind) for picture in pictures], options)
    for k in range(1, classes + 1):
        if k not in found.classes:
            assert (expected[0][:, :, k - 1] == -1).all()
            continue
        column = found.classes.tolist().index(k)
        for ours, theirs in ((found.precision[:, :, column], expected[0][:, :, k - 1]),
                             (found.recall[:, column], expected[1][:, k - 1])):  # fmt: skip
            np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs, rtol=0, atol=1e-9)
    everything = expected[0][..., 0]
    mean = everything[everything > -1]
    assert found.average() == pytest.approx(mean.mean() if mean.size else math.nan, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("start", range(0, 20, 10))
def test_it_equals_pycocotools(start):
    for seed in range(start, start + 10):
        compare(seed)


@pytest.mark.slow
def test_it_equals_pycocotools_on_500_cases():
    for seed in range(500):
        compare(seed)
