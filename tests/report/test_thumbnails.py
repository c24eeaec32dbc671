import base64
import io

import numpy as np
from conftest import write_volume
from PIL import Image

from medseg.data.curation.check import check_dataset
from medseg.report.thumbnails import draw_thumbnail


def test_small_volumes_are_enlarged(tmp_path):
    image = np.zeros((12, 20, 8), np.float32)
    label = np.zeros(image.shape, np.uint8)
    image[3:9, 4:16, 2:6], label[3:9, 4:16, 2:6] = 100, 1
    write_volume(tmp_path / "images" / "a.nii.gz", image)
    write_volume(tmp_path / "labels" / "a.nii.gz", label)
    report = check_dataset(tmp_path)
    thumbnail = draw_thumbnail(report.listing.cases[0], report)
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail.source.partition(",")[2])))
    assert picture.size == (180, 300)
    assert "axial slice with" in thumbnail.alt
