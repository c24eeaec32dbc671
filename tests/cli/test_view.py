import json

import nibabel as nib
import numpy as np
from click.testing import CliRunner
from PIL import Image

from medseg.cli.main import cli, run


def _case(folder):
    label = np.zeros((12, 12, 12), np.uint8)
    label[4:8, 4:8, 4:8] = 3
    for name, array in (("images", np.arange(12**3, dtype=np.int16).reshape(label.shape)), ("labels", label)):
        (folder / name).mkdir()
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / name / "scan.nii.gz")
    return folder


def _view(*arguments):
    return CliRunner().invoke(cli, ["view", *map(str, arguments)], catch_exceptions=False)


def test_a_page_and_exports_of_an_image(tmp_path):
    data = _case(tmp_path)
    page = tmp_path / "out" / "page.html"
    result = _view(
        data / "images" / "scan.nii.gz", "--reference", data / "labels", "--prediction",
        data / "labels" / "scan.nii.gz", "--labels", "organ=3", "--output", page, "--export", "slicer",
    )  # fmt: skip
    assert result.exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "organ" in text
    assert "Content-Security-Policy" in text
    assert 'class="medseg-volume"' in text
    assert (tmp_path / "out" / "scan.ctbl").read_text().splitlines()[-1].startswith("3 organ ")


def test_label_maps_alone_and_pictures(tmp_path):
    Image.fromarray(np.eye(20, dtype=np.uint8)).save(tmp_path / "a.png")
    assert _view("a", "--reference", tmp_path / "a.png", "--output", tmp_path / "a.html").exit_code == 0
    assert "medseg-volume" not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_case_of_a_run_with_its_labels(tmp_path):
    data, folder = _case(tmp_path), tmp_path / "run"
    folder.mkdir()
    entry = {"id": "scan", "part": "val", "image": str(data / "images" / "scan.nii.gz")}
    entry |= {"label": str(data / "labels" / "scan.nii.gz")}
    (folder / "cases.json").write_text(json.dumps([entry]))
    labels = {"names": {"background": [0], "spleen": [3]}}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert _view("scan", "--run", folder, "--output", tmp_path / "b.html").exit_code == 0
    assert "spleen" in (tmp_path / "b.html").read_text(encoding="utf-8")


def test_errors_say_what_to_give(tmp_path, capsys):
    assert run(["view", "missing.nii.gz"]) == 3
    assert "no such image" in capsys.readouterr().err
    data = _case(tmp_path)
    assert run(["view", "other", "--reference", str(data / "labels")]) == 3
    assert "no file is named other.*" in capsys.readouterr().err
