"""Test doubles of studies: executors in the process of the test, and trainings that return scores at once."""

from medseg.cli.main import run
from medseg.data.curation.case_statistics import image_digest, label_digest
from medseg.errors import MedsegError
from medseg.files import write_json
from medseg.metrics import write_csv
from medseg.progress import QuietProgress
from medseg.study import cell_job
from medseg.study.executors import CellResult
from medseg.study.executors.state import CellState, write_state
from medseg.training.dataset.preparation import find_labeled_cases


class InProcess:
    """Runs cells one after the other; remembers the folders of those that it ran."""

    def __init__(self):
        self.ran = []

    def run(self, cells, report=None):
        results = []
        for cell in cells:
            self.ran.append(cell.folder)
            code = 0
            try:
                cell_job.execute_cell(cell.folder, QuietProgress())
            except MedsegError as error:
                code = error.exit_code
            cell.log.write_text("printed\n", encoding="utf-8")
            write_state(cell.folder, CellState("failed" if code else "complete", exit_code=code, seconds=2.0))
            results.append(CellResult(cell, code))
            if report is not None:
                report(results[-1])
        return results


class InProcessCommands:
    """An executor that runs ``medseg`` commands in this process; those of some names fail."""

    def __init__(self, failing=()):
        self.failing, self.started = failing, []

    def run(self, cells, report=None):
        results = []
        for cell in cells:
            self.started.append(cell.name)
            cell.log.parent.mkdir(parents=True, exist_ok=True)
            cell.log.write_text("error: out of memory\n", encoding="utf-8")
            code = 5 if cell.name in self.failing else run(list(cell.command[3:]))
            results.append(CellResult(cell, code))
            if report is not None:
                report(results[-1])
        return results


def evaluated(dice, cases=("ball_0", "ball_1")):
    """Rows of an evaluation of one label."""
    return [
        {"case": case, "label": "1", "name": "ball", "status": "scored", "dice": value}
        for case, value in zip(cases, dice, strict=True)
    ]


def record_cases(run, data):
    """Write the record of the cases of a dataset to a run folder, as a training does."""
    _, plan = find_labeled_cases(data)
    entries = [
        {"id": one.id, "part": "test", "image_sha256": image_digest(one), "label_sha256": label_digest(one)}
        for one in plan.cases
    ]
    write_json(run / "cases.json", entries)


def replace_trainings(monkeypatch, scores_of):
    """Replace trainings by a function from their settings to their scores; cases need no preparation."""

    def train(folder, order, progress):
        rows = scores_of(order.config)
        write_csv(folder / order.part / "metrics" / "cases.csv", rows)
        return rows

    monkeypatch.setattr(cell_job, "train_and_evaluate", train)
    monkeypatch.setattr(cell_job, "prepare_cases", lambda config, part, folder, progress: None)
