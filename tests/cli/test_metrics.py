import json

import numpy as np
from conftest import write_picture

from medseg.cli.main import run


def test_options_answer_the_questions(capsys):
    assert run(["metrics", "recommend", "--no-ask", "--tubular", "--no-absent"]) == 0
    output = capsys.readouterr().out
    assert "cldice" in output
    assert "tubular       yes         given" in output
    assert "absent        no          given" in output
    assert "small         no          assumed" in output


def test_a_dataset_answers_questions(balls, capsys):
    assert run(["metrics", "recommend", str(balls), "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["answers"]["absent"] is False
    assert "is in 100% of the cases" in advice["measured"]["absent"]
    assert "dice" in [column for metric in advice["metrics"] for column in metric["columns"]]


def test_label_files_that_number_objects_ask_for_instance_metrics(tmp_path, capsys):
    for n in range(2):
        objects = np.zeros((32, 32), np.uint8)
        objects[4:10, 4:10], objects[4:10, 14:20] = 1, 2 + n
        write_picture(tmp_path / "images" / f"{n}.png", objects * 60)
        write_picture(tmp_path / "labels" / f"{n}.png", objects)
    assert run(["metrics", "recommend", str(tmp_path), "data.instances=keep", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["answers"]["task"] == "instance"
    assert advice["measured"]["task"] == "the label files number objects"


def test_an_option_overrides_the_dataset(balls, capsys):
    assert run(["metrics", "recommend", str(balls), "--absent", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["answers"]["absent"] is True
    assert "absent" not in advice["measured"]
