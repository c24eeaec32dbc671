import json

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


def test_an_option_overrides_the_dataset(balls, capsys):
    assert run(["metrics", "recommend", str(balls), "--absent", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["answers"]["absent"] is True
    assert "absent" not in advice["measured"]
