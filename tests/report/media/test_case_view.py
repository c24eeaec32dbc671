import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg.data.labels.schema import LabelSchema
from medseg.errors import LabelGridError
from medseg.report.media import CaseView, read_case_view


def _save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def test_a_volume_is_turned_to_ras_and_its_values_become_classes(tmp_path):
    affine = np.diag([-2.0, 1.0, 3.0, 1.0])  # the first axis runs to the left
    image = np.zeros((3, 2, 2), np.int16)
    image[0] = 7
    label = np.zeros((3, 2, 2), np.int16)
    label[0], label[1], label[2] = 5, 9, 4
    labels = LabelSchema(names={"background": (0,), "kidney": (5, 4)}, ignore_value=9)
    view = read_case_view(
        "a",
        image=_save(tmp_path / "a.nii.gz", image, affine),
        prediction=_save(tmp_path / "b.nii.gz", label, affine),
        labels=labels,
    )
    assert view.spacing == (2, 1, 3)
    assert view.image[:, 0, 0].tolist() == [0, 0, 7]
    assert view.prediction[:, 0, 0].tolist() == [1, -1, 1]  # 4 and 5 are one label, 9 is ignored
    assert view.affine[0].tolist() == [2, 0, 0, -4]  # what was the last voxel, at x = -4 mm, is now the first
    assert view.legend.name(1) == "kidney"


def test_values_without_names_are_labels_of_their_own(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 40, 80]], np.uint8)).save(path)
    view = read_case_view("a", reference=path)
    assert view.image is None
    assert view.reference.tolist() == [[0, 1, 2]]
    assert [view.legend.name(1), view.legend.name(2)] == ["label_40", "label_80"]


def test_many_values_are_one_label(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(100, dtype=np.uint8)[None]).save(path)
    view = read_case_view("a", reference=path)
    assert view.reference.sum() == 99


def test_grids_that_differ_are_refused(tmp_path):
    image = _save(tmp_path / "a.nii.gz", np.zeros((3, 2, 2), np.int16))
    label = _save(tmp_path / "b.nii.gz", np.zeros((3, 2, 3), np.int16))
    with pytest.raises(LabelGridError, match=r"b\.nii\.gz: shapes differ"):
        read_case_view("a", image=image, reference=label)


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        CaseView("a", (1, 1), image=np.zeros((2, 2)), reference=np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="no image"):
        CaseView("a", (1, 1))
