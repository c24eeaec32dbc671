"""The page of a run, from the files in its folder."""

import json
import logging
import re

from medseg.config.schema import load_config, to_yaml
from medseg.files import write_json, write_text
from medseg.training.run_folder import report
from medseg.training.run_folder.layout import RunFolder
from medseg.training.run_folder.report import RunReport

SCORES = [{"case": "c1", "name": "ball", "dice": 0.25}]


def run_folder(root):
    run = RunFolder(root / "first")
    write_text(run.config, to_yaml(load_config({"data": {"path": str(root)}})))
    entry = {
        "epoch": 1,
        "step": 4,
        "loss": 0.5,
        "lr": 0.01,
        "seconds": 2.0,
        "val_dice": 0.25,
        "val_dice:ball": 0.25,
    }
    write_text(run.log, json.dumps(entry) + "\n")
    write_json(run.cases, [{"id": "c0", "part": "train"}, {"id": "c1", "part": "val"}])
    write_json(run.dataset, {"labels": {"names": {"background": [0], "ball": [1]}}, "channels": 1})
    messages = ("2026-01-01 00:00:00,000 WARNING few cores", "2026-01-01 00:00:01,000 INFO epoch 1") * 2
    write_text(run.messages, "\n".join(messages))
    return run


def test_the_page_is_made_from_the_files_of_the_run(tmp_path):
    run = run_folder(tmp_path)
    RunReport(run, 8, SCORES).write(running=True)
    text = re.sub("<[^>]*>", "\n", run.report.read_text().partition("<main")[2])
    for expected in ("first", "background, ball", "few cores", "1 training, 1 validation", "c1"):
        assert expected in text
    assert text.count("few cores") == 1
    assert json.loads(run.validation.read_text()) == SCORES
    RunReport(run, 8).write(running=False)  # a resumed run reads the scores of the earlier one
    assert "Where the latest validation is worst: c1" in re.sub("<[^>]*>", "", run.report.read_text())


def test_an_error_does_not_end_the_training(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(report, "write_training_page", fail)
    with caplog.at_level(logging.WARNING):
        RunReport(run_folder(tmp_path)).write(running=False)
    assert "report.html was not written" in caplog.text


def test_folders_are_not_on_the_page(tmp_path):
    folder = tmp_path / "Smith John"
    run = run_folder(tmp_path)
    files = {"image": str(folder / "ct.nii.gz"), "masks": {"ball": str(tmp_path / "masks of Alice" / "m.nii")}}
    write_json(run.cases, [{"id": "c0", "part": "train", **files}])
    texts = (files["image"], files["masks"]["ball"], str(run.log), str(tmp_path), "/home/bob/x.txt")
    write_text(run.messages, "\n".join(f"2026-01-01 00:00:00,000 WARNING {text}: damaged" for text in texts))
    RunReport(run).write(running=False)
    text = run.report.read_text()
    for hidden in ("Smith", "Alice", "bob", str(tmp_path.parent)):
        assert hidden not in text
    for shown in ("ct.nii.gz: damaged", "m.nii: damaged", "log.jsonl: damaged", "x.txt: damaged"):
        assert shown in text
