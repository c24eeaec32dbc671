"""What ``medseg study status`` shows of the folds of a cross-validation."""

import json

from medseg.cli.main import run
from medseg.files import write_json
from medseg.study.executors.state import CellState, write_state
from medseg.study.status import study_status


def test_all_folds_are_listed_with_the_dice_of_their_last_validation(tmp_path, capsys):
    write_json(tmp_path / "study.json", {"folds": 3})
    fold = tmp_path / "folds" / "fold_0"
    (fold / "run").mkdir(parents=True)
    entries = [{"epoch": 1, "loss": 1.0, "val_dice": 0.25}, {"epoch": 2, "loss": 0.5, "val_dice": 0.5}]
    (fold / "run" / "log.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in entries))
    write_state(fold, CellState("complete", exit_code=0, seconds=18.0))
    write_state(tmp_path / "folds" / "fold_1", CellState("failed", exit_code=3, seconds=2.0))
    found = [(one.name, one.status, one.dice) for one in study_status(tmp_path)]
    assert found == [("fold 0", "complete", 0.5), ("fold 1", "failed", None), ("fold 2", "waiting", None)]
    assert run(["study", "status", str(tmp_path)]) == 4
    assert "1 complete, 1 failed, 1 waiting" in capsys.readouterr().out
    # once its held-out cases are compared, a fold has their score
    write_json(tmp_path / "summary.json", {"folds": [{"fold": "0", "dice": 0.6}, {"fold": "all", "dice": 0.6}]})
    assert study_status(tmp_path)[0].dice == 0.6
