"""What remains of the earlier result of a case that fails with ``--overwrite``."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_model
from tiny_model import OVERWRITE, contents, save_tiny

from medseg.data.labels.schema import LabelSchema
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.folder import open_output
from medseg.inference.batch.outputs.provenance import read_record
from medseg.inference.model.predictor import Predictor

model, predictor, scans = tiny_model.model, tiny_model.predictor, tiny_model.scans


def refuse_s1(monkeypatch):
    """Let the network fail for the scan s1."""
    network = Predictor.run

    def run_or_fail(self, ready, **options):
        if ready.scan.path.name == "s1.nii.gz":
            raise RuntimeError("the network failed")
        return network(self, ready, **options)

    monkeypatch.setattr(Predictor, "run", run_or_fail)


@pytest.mark.parametrize("layout", ["flat", "nnunet", "bids"])
def test_a_failed_case_leaves_no_result_of_other_settings(
    model, predictor, scans, tmp_path, monkeypatch, caplog, layout
):
    out, options = tmp_path / "out", BatchOptions(layout=layout, probabilities=True)
    infer_cases(predictor, find_inputs([scans]), out, options)
    before = contents(out)
    mirrored = Predictor(model, device="cpu", backend="torch", amp="off", settings={"flips": [0]})
    refuse_s1(monkeypatch)
    outcomes = infer_cases(mirrored, find_inputs([scans]), out, replace(options, overwrite=True))
    assert [o.status for o in outcomes] == ["done", "failed", "done"]
    assert not [path for path in out.rglob("*") if "s1" in path.name]  # also no empty sub-s1/
    assert (
        "earlier results of failed cases, of other inputs or settings, were removed (1):\n  s1" in caplog.text
    )
    assert before.keys() - contents(out).keys() == {path for path in before if "s1" in path.name}
    monkeypatch.undo()
    infer_cases(mirrored, find_inputs([scans / "s0.nii.gz"]), out, options)
    assert "s1,the network failed" in (out / "failures.csv").read_text()  # not forgotten
    assert infer_cases(mirrored, find_inputs([scans / "s1.nii.gz"]), out, options)[0].status == "done"
    assert contents(out).keys() == before.keys()


def test_a_failed_case_keeps_a_complete_result_of_the_same_settings(predictor, scans, tmp_path, monkeypatch):
    cases, out = find_inputs([scans / "s1.nii.gz"]), tmp_path / "out"
    infer_cases(predictor, cases, out, BatchOptions(layout="bids"))
    before = contents(out)
    refuse_s1(monkeypatch)
    (outcome,) = infer_cases(predictor, cases, out, BatchOptions(layout="bids", overwrite=True))
    assert outcome.status == "failed"
    after = contents(out)
    assert {path: after[path] for path in before if path.name != "medseg.json"} == {
        path: content for path, content in before.items() if path.name != "medseg.json"
    }


def test_a_case_whose_input_broke_has_no_result_after_a_failure(predictor, scans, tmp_path):
    cases, out = find_inputs([scans / "s1.nii.gz"]), tmp_path / "out"
    infer_cases(predictor, cases, out)
    (scans / "s1.nii.gz").write_bytes(b"cut")
    assert infer_cases(predictor, cases, out, OVERWRITE)[0].status == "failed"
    assert {path.name for path in out.iterdir()} == {"requested.json", "failures.csv"}


@pytest.mark.parametrize("same", [True, False])
def test_files_are_renamed_together_or_the_result_is_restored_or_removed(
    model, predictor, scans, tmp_path, monkeypatch, same
):
    cases, out = find_inputs([scans / "s1.nii.gz"]), tmp_path / "out"
    bids = BatchOptions(layout="bids", overwrite=True)
    infer_cases(predictor, cases, out, bids)
    before = (out / "provenance" / "s1.json").read_text()
    settings = {} if same else {"flips": [0]}
    other = Predictor(model, device="cpu", backend="torch", amp="off", settings=settings)
    rename = Path.replace

    def denied(self, target):
        if Path(target).name == "sub-s1_dseg.nii.gz":
            raise PermissionError(errno.EACCES, "denied", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", denied)
    (outcome,) = infer_cases(other, cases, out, replace(bids, probabilities=True))
    assert outcome.status == "failed"
    record, label_map = read_record(out, "s1"), out / "sub-s1" / "anat" / "sub-s1_dseg.nii.gz"
    if same:
        assert record is not None
        assert record.finished
        assert not record.is_edited()
        assert {**record.content, "files": None} == {**json.loads(before), "files": None}
        assert record.includes(out / "probabilities" / "s1.nii.gz")
    else:
        assert record is None
        assert not label_map.parent.parent.exists()
        assert not list(out.glob("probabilities/*"))


def test_results_with_other_labels_are_removed_before_the_names_change(predictor, scans, tmp_path):
    out, cases = tmp_path / "out", find_inputs([scans / "s0.nii.gz"])
    infer_cases(predictor, cases, out)
    other = save_tiny(tmp_path / "other.safetensors", labels=LabelSchema(names={"no": (0,), "liver": (1,)}))
    second = Predictor(other, device="cpu", backend="torch", amp="off")
    with open_output(second, cases, out, OVERWRITE, []):
        assert "liver" in (out / "medseg.json").read_text()
        assert not (out / "s0.nii.gz").exists()  # also if the process is killed now
