import json
import re

import numpy as np
from conftest import write_volume
from tiny_model import save_tiny

from medseg.data.cases import Case
from medseg.files import write_text
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.model.predictor import Predictor
from medseg.inference.report import write_inference_report
from medseg.report.pages.case_sections import CaseFiles, draw_case_sections


def test_the_page_of_a_batch_shows_cases_and_failures(tmp_path):
    for index in range(2):
        voxels = np.random.default_rng(index).normal(0, 100, (10, 9, 8)).astype(np.int16)
        write_volume(tmp_path / "scans" / f"s{index}.nii.gz", voxels)
    (tmp_path / "run").mkdir()
    predictor = Predictor(save_tiny(tmp_path / "run" / "model.safetensors"), device="cpu", backend="torch")
    cases, out = find_inputs([tmp_path / "scans"]), tmp_path / "out"
    (tmp_path / "scans" / "s1.nii.gz").write_bytes(b"no volume")
    outcomes = infer_cases(predictor, cases, out)
    page = write_inference_report(out, cases, outcomes)
    text = page.read_text()
    words = re.sub("<[^>]*>", "", text.partition("<main")[2])
    assert "1 of 2 scans was segmented" in words
    assert "1 case failed: s1: " in words
    assert text.count("data:image/png;base64,") >= 6  # image and prediction in three planes


def test_nothing_segmented_gives_no_page(tmp_path):
    assert write_inference_report(tmp_path, [], []) is None
    assert list(tmp_path.iterdir()) == []


def test_folders_are_not_on_the_page(tmp_path):
    image, out = tmp_path / "Smith John" / "ct.nii.gz", tmp_path / "out"
    record = {"case": "b", "output": "b.nii.gz"}
    (out / "provenance").mkdir(parents=True)
    write_text(out / "provenance" / "b.json", json.dumps(record))
    (out / "b.nii.gz").write_bytes(b"no volume")
    cases = [Case("a", image), Case("b", image.with_name("b.nii.gz"))]
    outcomes = [
        CaseOutcome("a", "failed", error=f"{image}: cannot be read", warnings=(f"{image}: is dark",)),
        CaseOutcome("b", "done", out / "b.nii.gz"),
    ]
    text = write_inference_report(out, cases, outcomes).read_text()
    assert "ct.nii.gz: cannot be read" in text
    assert "Smith" not in text
    assert str(tmp_path) not in text


def test_a_case_that_cannot_be_drawn_names_no_folder(tmp_path):
    image = tmp_path / "Smith John" / "ct.nii.gz"
    image.parent.mkdir()
    image.write_bytes(b"no volume")
    (picture,) = draw_case_sections({"a": CaseFiles(image=image)}).pictures.values()
    assert "This case cannot be drawn: ct.nii.gz: " in picture
    assert "Smith" not in picture
