import base64
import gzip
import json

import numpy as np

from medseg.report.media import CaseView, volume_payload
from medseg.report.palette import Legend

RNG = np.random.default_rng(0)


def _view(shape=(60, 50, 40), spacing=(1.0, 1.0, 2.0)):
    label = np.zeros(shape, int)
    label[30:35, 25:30, 20:25] = 2
    label[30, 25, 20] = -1
    image = RNG.integers(0, 1000, shape).astype(np.int16)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (10, 20, 30)
    return CaseView("a<b", spacing, image, label, legend=Legend(("bg", "x", "organ")), affine=affine)


def _array(content, key):
    voxels = gzip.decompress(base64.b64decode(content[key]))
    return np.frombuffer(voxels, np.uint8).reshape(content["shape"], order="F")


def test_a_volume_is_cropped_with_its_place():
    payload = volume_payload(_view())
    content = json.loads(payload.json)
    # 20 mm around voxels 30 to 34, 25 to 29, and 20 to 24 of 2 mm
    assert content["start"] == [10, 5, 10]
    assert content["shape"] == [45, 45, 25]
    assert content["origin"] == [20, 25, 50]
    assert content["labels"] == [{"value": 2, "name": "organ", "color": [230, 90, 10]}]
    reference = _array(content, "reference")
    assert (reference == 2).sum() == 124
    assert reference[20, 20, 10] == 255  # not annotated
    assert content["prediction"] is None
    assert _array(content, "image").max() == 255
    assert "cropped" in content["note"]


def test_text_cannot_end_its_element():
    assert "<" not in volume_payload(_view()).json


def test_the_size_is_bounded_by_leaving_out_voxels_of_the_finest_axes():
    payload = volume_payload(_view(), max_bytes=30_000)
    content = json.loads(payload.json)
    assert len(payload.json) <= 30_000
    assert payload.stride[2] <= payload.stride[0]
    assert content["spacing"] == [s * t for s, t in zip((1.0, 1.0, 2.0), payload.stride, strict=True)]
    assert (_array(content, "reference") == 2).any()
    assert all(0 <= f < n for f, n in zip(content["focus"], content["shape"], strict=True))


def test_pictures_have_no_volume():
    assert volume_payload(CaseView("a", (1, 1), image=np.zeros((4, 4)))) is None
