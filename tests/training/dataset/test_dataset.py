"""Datasets of resumed runs."""

import json
import shutil

import pytest
from conftest import ball_settings, write_balls

from medseg.config.schema import load_config
from medseg.errors import ChangedDataError
from medseg.training.dataset.preparation import NetworkNeeds, ResumedRun, prepare_dataset
from medseg.training.run_folder.case_record import CaseRecord, RecordedCase


@pytest.mark.parametrize("listed", [False, True])
def test_dropped_copies_may_be_missing_in_a_split_file(balls, tmp_path, listed):
    root = shutil.copytree(balls, tmp_path / "data")
    for folder in ("images", "labels"):
        shutil.copy(root / folder / "ball_0.nii.gz", root / folder / "twin.nii.gz")
    split = {f"ball_{i}": "val" if i == 5 else "train" for i in range(6)}
    (tmp_path / "split.json").write_text(json.dumps(split | ({"twin": "train"} if listed else {})))
    settings = ball_settings(root)
    settings["data"] |= {"duplicates": "drop", "split": {"name": "file", "file": str(tmp_path / "split.json")}}
    config, needs = load_config(settings), NetworkNeeds(3, (16, 16, 16))
    new = prepare_dataset(config.data, config.preprocess, needs, tmp_path)
    record = CaseRecord(
        tmp_path / "cases.json",
        {one.id: RecordedCase(new.split[one.id], one.image_sha256, one.label_sha256) for one in new.statistics},
    )
    again = prepare_dataset(config.data, config.preprocess, needs, tmp_path, resumed=ResumedRun(record))
    assert again.split == new.split == split


def test_cases_that_a_split_file_leaves_out_are_no_change(balls, tmp_path):
    root = shutil.copytree(balls, tmp_path / "data")
    parts = {f"ball_{i}": "val" if i == 5 else "train" for i in range(6)}
    split = {"name": "file", "file": str(tmp_path / "split.json"), "unmatched": "leave_out"}
    (tmp_path / "split.json").write_text(json.dumps(parts))
    settings = ball_settings(root)
    settings["data"] |= {"split": split}
    config, needs = load_config(settings), NetworkNeeds(3, (16, 16, 16))
    new = prepare_dataset(config.data, config.preprocess, needs, tmp_path)
    record = CaseRecord(
        tmp_path / "cases.json",
        {one.id: RecordedCase(new.split[one.id], one.image_sha256, one.label_sha256) for one in new.statistics},
    )
    write_balls(tmp_path / "more", cases=7)
    for folder in ("images", "labels"):
        shutil.copy(tmp_path / "more" / folder / "ball_6.nii.gz", root / folder)
    again = prepare_dataset(config.data, config.preprocess, needs, tmp_path, resumed=ResumedRun(record))
    assert again.split == parts
    (tmp_path / "split.json").write_text(json.dumps({**parts, "ball_6": "train"}))
    with pytest.raises(ChangedDataError, match="case ball_6: new"):
        prepare_dataset(config.data, config.preprocess, needs, tmp_path, resumed=ResumedRun(record))
