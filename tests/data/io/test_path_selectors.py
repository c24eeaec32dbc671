"""Paths with ``#``: a selector, or a part of the name of an existing file or folder."""

import numpy as np
import pytest
from series import write_dicom

from medseg.data.cases import Case
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import read_scan
from medseg.errors import DataError
from medseg.inference.batch.input_discovery import find_inputs


def test_folders_with_a_number_sign_in_their_name_can_be_read(tmp_path):
    one, two = np.zeros((3, 4, 5), np.int16) + 7, np.zeros((4, 4, 5), np.int16) + 9
    write_dicom(tmp_path / "study#1", one)
    write_dicom(tmp_path / "study", two, SeriesNumber=1)  # must not be read in its place
    assert read_scan(tmp_path / "study#1").array.shape == (1, 5, 4, 3)
    single = next((tmp_path / "study#1").iterdir())
    assert read_scan(single).array.max() == 7
    np.save(tmp_path / "study#1" / "x.npy", np.ones((2, 3, 4)))
    assert read_scan(tmp_path / "study#1" / "x.npy").array.shape == (1, 2, 3, 4)
    np.save(tmp_path / "y#2.npy", np.ones((2, 3, 5)))
    assert read_scan(tmp_path / "y#2.npy").array.shape == (1, 2, 3, 5)
    assert [case.id for case in find_inputs([tmp_path / "study#1"])] == ["study#1"]


def test_selectors_select_a_part(tmp_path):
    (tmp_path / "scan").mkdir()
    np.savez(tmp_path / "both.npz", **{"a/b": np.ones((2, 3, 4)), "c": np.ones((3, 3, 3))})
    assert split_selector(tmp_path / "scan#8") == (tmp_path / "scan", "8")
    assert read_scan(tmp_path / "both.npz#a/b").array.shape == (1, 2, 3, 4)
    missing = tmp_path / "scan#1" / "missing.nii.gz"
    assert split_selector(missing) == (missing, None)


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "/etc/x", "a\\b", "..", ".hidden", "", " ", "a\nb"])
def test_a_case_id_never_leaves_the_output_folder(tmp_path, name):
    with pytest.raises(DataError, match="case id"):
        Case(name, tmp_path / "scan.nii.gz")


def test_a_manifest_with_ids_outside_the_output_folder_raises(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"")
    (tmp_path / "manifest.csv").write_text("id,image\n../../escaped,x.npy\n")
    with pytest.raises(DataError, match=r"case id '\.\./\.\./escaped' holds a slash"):
        find_inputs([tmp_path / "manifest.csv"])
