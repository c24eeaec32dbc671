"""Thresholds of other folds, and tables of objects by fold."""

import numpy as np
import pytest
from PIL import Image

from medseg.evaluation.objects import evaluate_objects
from medseg.instances.options import InstanceDecoding
from medseg.study.cross_validation.objects.decoding import decoding_of_others, median_decoding
from medseg.study.cross_validation.objects.output import format_object_tables, object_fold_rows
from medseg.study.cross_validation.options import FailedFold


def write(path, label_map):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(label_map, np.uint16)).save(path)


def test_held_out_cases_have_no_influence_on_their_thresholds():
    own = InstanceDecoding(foreground=0.1, score=0.9, calibration=(5.0, 5.0))
    others = {
        1: InstanceDecoding(foreground=0.4, score=0.2, calibration=(1.0, 0.0)),
        2: InstanceDecoding(foreground=0.6, score=0.4, calibration=(2.0, -1.0)),
    }
    chosen = decoding_of_others({0: own, **others}, 0, InstanceDecoding())
    assert (chosen.foreground, chosen.score) == pytest.approx((0.5, 0.3))
    assert chosen.calibration == (1.5, -0.5)
    assert median_decoding([own, *others.values()]).foreground == 0.4


def test_a_single_fold_is_decoded_with_the_settings():
    settings = InstanceDecoding(foreground=0.7)
    assert decoding_of_others({1: InstanceDecoding(foreground=0.3)}, 1, settings) is settings


def test_a_row_for_each_fold_and_one_for_all(tmp_path):
    write(tmp_path / "labels" / "a.png", [[1, 1, 2, 2], [1, 1, 2, 2]])
    write(tmp_path / "found" / "a.png", [[3, 3, 0, 0], [3, 3, 0, 0]])
    write(tmp_path / "labels" / "b.png", [[7, 7, 0, 0]])
    write(tmp_path / "found" / "b.png", [[1, 1, 0, 0]])
    evaluation = evaluate_objects(tmp_path / "found", tmp_path / "labels")
    rows = object_fold_rows(evaluation, {"a": 0, "b": 1})
    assert [(row["fold"], row["cases"], row["objects"], row["found"]) for row in rows] == [
        ("0", 1, 2, 1), ("1", 1, 1, 1), ("all", 2, 3, 2),
    ]  # fmt: skip
    # F1 = 2 TP / (2 TP + FP + FN): 2/3, 1, and 4/5 for all objects together
    assert [row["f1_50"] for row in rows] == pytest.approx([2 / 3, 1.0, 0.8])
    assert rows[-1]["f1_50"] == evaluation.summary["scores"]["f1_50"]
    text = format_object_tables(rows, failed=[FailedFold(2, "no memory", tmp_path / "log")])
    assert "| all | 2 | 3 | 2 | 0.8000 |" in text
    assert "* fold 2: no memory" in text
