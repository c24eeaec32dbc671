"""Objects that are clicked on in a validation."""

import numpy as np
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import write_cached_case
from medseg.inference.options import InferenceConfig
from medseg.prompts.options import PromptTask
from medseg.training.prompting.validation import PromptValidator


def validator(case, labels, **options):
    inference = InferenceConfig(roi_size=(16, 16))
    return PromptValidator([case], labels, inference, torch.device("cpu"), None, **options)


def cached(tmp_path, codes, classes, objects=None):
    image = np.where(codes > 1, 1.0, 0.0)[None].astype(np.float32)
    return write_cached_case(tmp_path / "case.safetensors", image, codes, classes, (1.0, 1.0), objects)


def squares(count):
    """Return a map of ``count`` squares, numbered from 1."""
    numbers = np.zeros((16, 6 * count), np.uint8)
    for i in range(count):
        numbers[4:8, 6 * i + 1 : 6 * i + 5] = i + 1
    return numbers


def test_at_most_four_objects_of_a_case(tmp_path):
    names = {"background": (0,), **{f"c{i}": (i,) for i in range(1, 8)}}
    case = cached(tmp_path, squares(7) + 1, 8)
    checked = validator(case, LabelSchema(names=names))
    masks = list(checked.objects(case))
    assert [int(mask.sum()) for mask in masks] == [16] * 4
    assert all(np.array_equal(a, b) for a, b in zip(masks, checked.objects(case), strict=True))


def test_classes_components_and_instances(tmp_path):
    labels = LabelSchema(names={"background": (0,), "cell": (1,)})
    case = cached(tmp_path, np.where(squares(3) > 0, 2, 1).astype(np.uint8), 2, squares(3).astype(np.int32))
    assert [int(mask.sum()) for mask in validator(case, labels).objects(case)] == [48]
    parts = validator(case, labels, task=PromptTask(objects="components"))
    assert [int(mask.sum()) for mask in parts.objects(case)] == [16]
    assert len(list(validator(case, labels, instances=True).objects(case))) == 3


def test_dice_after_each_click(tmp_path):
    class Right(torch.nn.Module):
        def forward(self, inputs):
            bright = inputs[:, :1] - 0.5
            return torch.cat([-bright, bright], dim=1)

    labels = LabelSchema(names={"background": (0,), "cell": (1,)})
    case = cached(tmp_path, np.where(squares(1) > 0, 2, 1).astype(np.uint8), 2)
    (validated,) = validator(case, labels).validate(Right())
    assert validated.clicks == ((1.0,) * 5,)
    assert validated.counts[0].tp == 16
