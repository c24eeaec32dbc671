import numpy as np
from PIL import Image

from medseg.demo.cells import write_cells


def test_pictures_of_numbered_touching_cells(tmp_path):
    write_cells(tmp_path, cases=2, shape=(48, 40), spacing=(1.0, 1.0))
    image = np.asarray(Image.open(tmp_path / "images" / "cells_01.png"))
    cells = np.asarray(Image.open(tmp_path / "labels" / "cells_01.png"))
    assert image.shape == cells.shape == (48, 40)
    assert cells.max() > 2
    assert image[cells > 0].mean() > image[cells == 0].mean() + 30
