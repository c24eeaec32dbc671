import dataclasses

import pytest

from medseg.metrics.definitions import metric_info
from medseg.metrics.recommendation import (
    QUESTIONS,
    Answers,
    StructureFacts,
    answers_from_data,
    recommend_metrics,
)


def columns(**answers):
    return [column for metric in recommend_metrics(Answers(**answers)).metrics for column in metric.columns]


def warnings(**answers):
    return " ".join(recommend_metrics(Answers(**answers)).warnings)


def test_there_is_a_question_for_every_answer():
    assert list(QUESTIONS) == [field.name for field in dataclasses.fields(Answers)]


def test_the_usual_question():
    found = columns()
    assert found[:2] == ["dice", "nsd"]
    assert "panoptic_quality" not in found


@pytest.mark.parametrize(
    ("answers", "column"),
    [
        ({"tubular": True}, "cldice"),
        ({"several": True}, "lesion_sensitivity_any"),
        ({"task": "instance"}, "panoptic_quality"),
        ({"touching": True}, "panoptic_quality"),
        ({"worse": "missed"}, "f_beta"),
        ({"focus": "volume"}, "relative_volume_difference"),
        ({"focus": "boundary"}, "hd95"),
        ({"probabilities": True}, "ece"),
        ({"probabilities": True, "imbalanced": True}, "average_precision"),
        ({"several": True, "varying": True}, "lesion_dice"),
    ],
)
def test_answers_add_metrics(answers, column):
    assert column in columns(**answers)
    assert column not in columns(absent=False)


def test_small_structures_with_a_boundary_question_have_no_dice():
    assert "dice" not in columns(small=True, focus="boundary")
    assert "Do not compare them between datasets" in warnings(small=True)


def test_separate_vessels_are_no_lesions():
    assert "lesion_f1" not in columns(tubular=True, several=True)
    assert "lesion_f1" in columns(tubular=True, several=True, task="instance")


def test_warnings():
    assert "accuracy" in warnings(imbalanced=True)
    assert "n_nan" in warnings(absent=True)
    assert "n_nan" not in warnings(absent=False)
    assert "never report it without overlap" in warnings(focus="volume")


def test_every_recommended_column_exists():
    flags = [
        field.name for field in dataclasses.fields(Answers) if field.name not in ("task", "focus", "worse")
    ]
    everything = dict.fromkeys(flags, True)
    for focus in ("overlap", "boundary", "volume", "centerline"):
        for task in ("semantic", "instance"):
            for column in columns(task=task, focus=focus, worse="missed", **everything):
                if column != "panoptic_quality":
                    assert metric_info(column.replace("…", "10"))


def test_answers_from_a_dataset():
    organ = StructureFacts("organ", 0.2, 1.0, 1, 20.0, 1.2, (0.3, 0.3, 0.3), 40_000)
    vessel = StructureFacts("vessel", 0.01, 0.9, 3, 2.0, 2.5, (0.5, 0.5, 0.9), 5_000)
    answers, reasons = answers_from_data([organ, vessel])
    assert answers == Answers(
        small=True, varying=True, tubular=True, imbalanced=True, several=True, absent=True
    )
    assert "20 times" in reasons["imbalanced"]
    assert "vessel is in 90%" in reasons["absent"]
    calm, _ = answers_from_data([organ])
    assert calm == Answers(small=False, varying=False, tubular=False, several=False, absent=False)
    assert answers_from_data([]) == (Answers(), {})


def test_a_compact_structure_of_small_radius_is_no_vessel():
    """The parts of a hippocampus are 14 and 63 times as large as balls of their radius."""
    head = StructureFacts("anterior", 0.027, 1.0, 1, 3.0, 1.4, (0.54, 0.3, 0.35), 1624)
    tail = StructureFacts("posterior", 0.025, 1.0, 1, 1.8, 1.4, (0.47, 0.47, 0.53), 1604)
    assert not answers_from_data([head, tail])[0].tubular
    vessels = StructureFacts("vessel", 0.072, 1.0, 3, 2.1, 1.4, (0.87, 0.78), 72_491)
    assert answers_from_data([vessels])[0].tubular
