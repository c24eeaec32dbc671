"""Sessions over files: positions and masks are those of the file, whatever its orientation and spacing."""

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import write_volume

from medseg.data.io.readers import MASK_FORMATS, read_scan
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import DataError, ExistingFileError
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


def test_files_that_the_session_did_not_save_are_kept(tmp_path):
    scan = write_volume(tmp_path / "scan.nii.gz", np.zeros((8, 8, 8), np.float32), LPS)
    session, mask = open_volume(scan), tmp_path / "mask.nii.gz"
    mask.write_bytes(b"drawn in three hours")
    with pytest.raises(ExistingFileError, match=r"mask\.nii\.gz: file exists, and is no earlier save"):
        session.save(mask)
    assert mask.read_bytes() == b"drawn in three hours"
    session.save(mask, overwrite=True)
    session.restart(np.ones((8, 8, 8)))
    session.save(mask)  # its own
    assert read_scan(mask).array.all()
    with pytest.raises(ExistingFileError):
        open_volume(scan).save(mask)  # of another session
    with pytest.raises(DataError, match="is the scan itself"):
        session.save(scan, overwrite=True)
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ExistingFileError):
        session.save(tmp_path / "link.nii.gz")


def test_prompts_without_numbers_are_one_error(tmp_path):
    session = open_volume(write_volume(tmp_path / "scan.nii.gz", np.zeros((8, 8, 8), np.float32), LPS))
    for wrong in (("a", "b", "c"), (None, 1, 2), ([1, 2], 3, 4)):
        with pytest.raises(DataError, match=r"point: expected positions of numbers, got \("):
            session.point(wrong)
        with pytest.raises(DataError, match="box: expected positions of numbers"):
            session.box((0, 0, 0), wrong)
    for wrong in (4, [[1, 2, 3]]):
        with pytest.raises(DataError, match="point: expected a number for each axis"):
            session.point(wrong)
    with pytest.raises(DataError, match="scribble: expected positions of numbers"):
        session.scribble([[1, 2, 3], [1, 2]])
    with pytest.raises(DataError, match="lasso: expected positions of numbers"):
        session.lasso("here", axis=0, index=1)
    with pytest.raises(DataError, match="point: expected positions of numbers"):
        session.add(Point(("a", "b", "c")))
    assert session.prompts == ()


def test_strokes_are_cut_at_the_border_only(tmp_path):
    volume = np.full((20, 14, 18), -100.0, np.float32)
    volume[:4, 2:7, 9:15] = 100
    session = open_volume(write_volume(tmp_path / "scan.nii.gz", volume))
    across = np.stack(np.meshgrid(np.arange(-1, 3), np.arange(3, 6)), axis=-1).reshape(-1, 2)
    mask = session.scribble(np.insert(across, 2, 11, axis=1))
    assert np.array_equal(mask, volume > 0)
    with pytest.raises(DataError, match=r"the point \[-9\.0, 4\.0, 11\.0\] lies outside"):
        session.scribble([[-9, 4, 11], [1, 4, 11]])
    assert len(session.prompts) == 1
