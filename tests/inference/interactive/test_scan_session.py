"""Sessions over files: positions and masks are those of the file, whatever its orientation and spacing."""

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import write_volume

from medseg.data.io.readers import MASK_FORMATS, read_scan
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import DataError
from medseg.inference.interactive.interactive import scan_windows
from medseg.inference.interactive.scan_session import ScanSession
from medseg.prompts import Lasso, Point, PromptSession

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
TURNED = np.array([[0, 0, -1.0, 40], [1.0, 0, 0, 0], [0, -2.0, 0, 60], [0, 0, 0, 1]])


def near_points(batch):
    """Segment the bright voxels of windows that have a positive point or area."""
    bright = batch[:, :1] - 0.5 if batch[:, 2:].any() else batch[:, :1] * 0 - 1
    return torch.cat([-bright, bright], dim=1)


def open_volume(path, spacing=None):
    scan = read_scan(path)
    preprocess = PreprocessConfig(spacing=spacing, normalize=Range(low=-100, high=100))
    return ScanSession(scan, scan_windows(scan, preprocess, 1, (16, 16, 16)), near_points)


@pytest.mark.parametrize("affine", [np.eye(4), LPS, TURNED])
@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0)])
def test_masks_are_on_the_grid_of_the_file(tmp_path, affine, spacing):
    volume = np.full((20, 14, 18), -100.0, np.float32)
    volume[4:9, 2:7, 9:15] = 100
    path = write_volume(tmp_path / "scan.nii.gz", volume, affine)
    session = open_volume(path, spacing)
    assert isinstance(session, PromptSession)
    mask = session.point((6, 4, 11))
    assert np.array_equal(mask, volume > 0)
    mask[:] = False  # a copy
    assert session.mask.any()
    saved = nib.load(session.save(tmp_path / "mask.nii.gz"))
    assert np.array_equal(saved.get_fdata(), volume > 0)
    assert np.allclose(saved.affine, affine)


def test_objects_one_after_the_other(tmp_path):
    volume = np.full((20, 14, 18), -100.0, np.float32)
    volume[4:9, 2:7, 9:15] = 100
    session = open_volume(write_volume(tmp_path / "scan.nii.gz", volume, LPS))
    session.box((3, 1, 8), (10, 8, 16))
    session.restart()
    assert not session.mask.any()
    assert session.prompts == ()
    session.restart(volume > 0)
    assert np.array_equal(session.mask, volume > 0)
    session.lasso([[3, 8], [3, 15], [9, 15], [9, 8]], axis=1, index=4)
    session.scribble([[5, 5, 10]])
    session.point((0, 0, 0), positive=False)
    assert [type(prompt).__name__ for prompt in session.prompts] == ["Lasso", "Scribble", "Point"]
    assert isinstance(session.prompts[0], Lasso)
    session.undo()
    assert len(session.prompts) == 2


def test_wrong_requests_are_refused(tmp_path):
    volume = np.zeros((8, 8, 8), np.float32)
    session = open_volume(write_volume(tmp_path / "scan.nii.gz", volume, LPS))
    with pytest.raises(DataError, match="outside the scan"):
        session.add(Point((1.0, 2.0, 30.0)))
    with pytest.raises(DataError, match="mask of shape"):
        session.restart(np.zeros((8, 8), bool))
    for name in ("mask.png", "mask.dcm", "mask.npz", "mask.tif", "mask.mhd", "mask.foo", "mask"):
        with pytest.raises(DataError, match=r"a volume is written to a file .* \.nii\.gz or .* or \.mha\."):
            session.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]
    for ending in MASK_FORMATS["volume"]:
        saved = read_scan(session.save(tmp_path / f"mask{ending}"))
        assert np.allclose(saved.grid.affine, LPS)


def test_a_label_map_of_several_objects_is_refused(tmp_path):
    session = open_volume(write_volume(tmp_path / "scan.nii.gz", np.zeros((8, 8, 8), np.float32), LPS))
    for values in (np.full((8, 8, 8), 7), np.full((8, 8, 8), np.nan), np.full((8, 8, 8), 0.5)):
        with pytest.raises(DataError, match=r"expected only 0 and 1, or booleans. Pass .* label_map == value"):
            session.restart(values)
    for ones in (np.ones((8, 8, 8), bool), np.ones((8, 8, 8)), np.ones((8, 8, 8), np.uint8)):
        session.restart(ones)
        assert session.mask.all()
        assert session.mask.dtype == bool
