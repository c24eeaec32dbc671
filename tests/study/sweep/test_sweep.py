import csv
import json
import re
import shutil
import signal
import sys

import pytest
from conftest import ball_settings, write_balls
from study_doubles import record_cases
from sweep_stubs import SPACE, open_worker, run_stub, score_of

from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError, DataError, TrainingError, TrainingStopped
from medseg.progress import QuietProgress
from medseg.study.status import study_status
from medseg.study.sweep import claims, read_sweep, run_sweep
from medseg.study.sweep.study_folder import SweepFolder


def states(worker):
    return [trial.state for trial in worker.shared.records()]


def drawn(worker):
    return [trial.changes for trial in worker.shared.records()]


def stop(job, progress):
    """Validate once; then a signal stops the training."""
    if job.pruner is not None:
        job.pruner.is_worse(1, 0.5)
    raise TrainingStopped(signal.SIGTERM)


def write_inputs(folder, settings, space):
    (folder / "balls.yaml").write_text(to_yaml(load_config(settings)), encoding="utf-8")
    (folder / "space.yaml").write_text(space, encoding="utf-8")
    return [
        "study",
        "sweep",
        str(folder / "balls.yaml"),
        str(folder / "space.yaml"),
        "--trials",
        "2",
        "--dry-run",
    ]


def test_a_dry_run_prints_the_space(balls, tmp_path, capsys):
    space = "space: {train.ema: [0, 0.98]}\nobjectives: [dice:label_1, seconds_per_case]\n"
    settings = ball_settings(balls)
    settings["data"].pop("labels", None)  # the values are measured
    assert run(write_inputs(tmp_path, settings, space)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "train.ema  0, 0.98",
        "objectives: dice:label_1 (higher is better), seconds_per_case (lower is better); pruner: none; "
        "sampler: tpe",
    ]


def test_a_dry_run_lists_everything_that_is_wrong_at_once(balls, tmp_path, capsys):
    space = "space: {train.emma: [0, 0.98]}\nobjectives: [dice:bal]\n"
    dry = write_inputs(tmp_path, ball_settings(balls), space)
    assert run(dry) == 2
    error = capsys.readouterr().err
    assert "error: the sweep: 2 things are wrong:\n  the search space: train.emma: unknown setting" in error
    assert "\n  objectives: dice:bal: no such label in the dataset; expected one of ball" in error
    assert run([*dry, "--data", str(tmp_path / "none"), "--set", "train.ema=2"]) == 2
    assert "train.ema: " in capsys.readouterr().err  # without settings, there is nothing to compare with
    (tmp_path / "space.yaml").write_text("space: {train.ema: [0, 0.98]}\nobjectives: [fps, dise]\n")
    assert run([*dry, "--data", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "'fps', 'dise' are not known" in error
    assert "none: does not exist" in error


def test_an_unknown_label_of_an_objective_ends_a_sweep_before_its_first_trial(balls, tmp_path):
    sweep = read_sweep({"space": SPACE, "objectives": ["dice:bal"]})
    with pytest.raises(ConfigError, match="dice:bal: no such label in the dataset; expected one of ball"):
        run_sweep(load_config(ball_settings(balls)), sweep, tmp_path / "s", trials=1, progress=QuietProgress())
    assert not (tmp_path / "s" / "trials").exists()


def test_all_trials_are_accounted_for_and_the_best_settings_are_complete(tmp_path, capfd):
    worker = open_worker(tmp_path, trials=8, pruner="none", files=True)
    worker.run()
    assert worker.is_finished()
    assert states(worker) == ["complete"] * 8
    best = load_config(tmp_path / "best.yaml")
    scores = {trial.number: trial.scores[0] for trial in worker.shared.records()}
    assert score_of(best) == pytest.approx(max(scores.values()))
    assert best.data.cache is None  # it can be trained elsewhere
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["dice"]) for row in rows] == pytest.approx(list(scores.values()))
    assert "# Chosen by a sweep on the validation cases: trial " in (tmp_path / "best.yaml").read_text("utf-8")
    assert capfd.readouterr() == ("", "")  # Optuna prints nothing


def test_the_page_names_the_best_trial_and_says_how_it_was_chosen(tmp_path):
    worker = open_worker(tmp_path, trials=10, pruner="none", files=True)
    worker.run()
    page = (tmp_path / "report.html").read_text("utf-8")
    best = max(worker.shared.records(), key=lambda trial: trial.scores[0])
    text = re.sub("<[^>]+>", "", page)
    assert f"Trial {best.number} is the best: validation Dice {best.scores[0]:.4g}" in text
    assert "the configuration itself (trial 0) has" in text
    assert "the test cases were not read" in text
    assert page.count('class="plot"') == 4  # history, importance, two settings
    assert f'value="{best.scores[0]:.9g}"' in page
    assert {f"trial {i}" for i in range(10)} <= set(re.findall(r"<title>(trial \d+):", page))


def test_the_first_trial_is_the_configuration_itself(tmp_path):
    worker = open_worker(tmp_path, trials=1)
    worker.run()
    (first,) = worker.shared.records()
    settings = load_config(ball_settings("DATA"))
    assert first.changes == {"train.optimizer.lr": settings.train.optimizer.lr, "model.channels": "[4, 8]"}


def test_a_sweep_goes_on_with_more_trials(tmp_path):
    open_worker(tmp_path, trials=2).run()
    worker = open_worker(tmp_path, trials=4)
    assert (worker.counted, worker.is_finished()) == (2, False)
    worker.run()
    assert states(worker) == ["complete"] * 4
    assert open_worker(tmp_path, trials=4).is_finished()


def test_a_trial_that_a_signal_stopped_is_continued(tmp_path):
    seen = []

    def note(job, progress):
        seen.append(job.config.train.optimizer.lr)
        return run_stub(job, progress)

    with pytest.raises(TrainingStopped):
        open_worker(tmp_path, execute=stop).run()
    worker = open_worker(tmp_path, trials=3, execute=note)
    assert states(worker) == ["running"]
    stopped = worker.shared.records()[0]
    worker.run()
    assert states(worker) == ["complete"] * 3
    assert seen[0] == stopped.changes["train.optimizer.lr"]
    first = worker.shared.records()[0]
    assert (first.attempts, first.curve[1]) == (2, 0.5)  # the repeated step does not replace the first one


def test_an_interrupted_sweep_draws_the_same_trials(tmp_path):
    whole = open_worker(tmp_path / "whole", trials=7)
    whole.run()
    calls = []

    def sometimes(job, progress):
        calls.append(job)
        return stop(job, progress) if len(calls) in (3, 4) else run_stub(job, progress)

    for _ in range(2):
        with pytest.raises(TrainingStopped):
            open_worker(tmp_path / "broken", trials=7, execute=sometimes).run()
    broken = open_worker(tmp_path / "broken", trials=7, execute=sometimes)
    broken.run()
    assert drawn(broken) == drawn(whole)
    assert states(broken) == states(whole)


@pytest.fixture
def kill(monkeypatch):
    """A function that begins a trial and leaves it as a process that is killed does."""
    ended = claims.has_ended
    monkeypatch.setattr(claims, "has_ended", lambda token: token == "killed" or ended(token))

    def begin(folder):
        trial = open_worker(folder).shared.next_trial(6)
        claim = max((folder / "trials" / f"{trial.number:04}" / "claims").glob("*.json"))
        claim.write_text(json.dumps({"process": "killed"}), encoding="utf-8")
        return trial.number

    return begin


def test_a_trial_whose_process_was_killed_is_run_again(tmp_path, kill):
    assert kill(tmp_path) == 0
    worker = open_worker(tmp_path, trials=3)
    worker.run()
    assert states(worker) == ["complete"] * 3
    assert [trial.attempts for trial in worker.shared.records()] == [2, 1, 1]


def test_a_trial_that_kills_every_process_fails(tmp_path, kill):
    assert [kill(tmp_path) for _ in range(3)] == [0, 0, 0]
    worker = open_worker(tmp_path, trials=3)
    worker.run()
    assert states(worker) == ["failed", "complete", "complete"]
    assert worker.shared.records()[0].error == "3 processes were killed before they got any further"


def test_a_killed_process_that_had_only_begun_to_draw(tmp_path):
    worker = open_worker(tmp_path, baseline=False)
    worker.shared.study.ask()  # no values and no claim
    worker.run()
    assert states(worker) == ["complete"] * 6
    assert all(len(changes) == 2 for changes in drawn(worker))


def test_two_processes_do_not_run_the_same_trial(tmp_path):
    first, second = open_worker(tmp_path).shared, open_worker(tmp_path).shared
    trials = [shared.next_trial(3) for shared in (first, second, first)]
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert second.next_trial(3) is None
    assert second.is_worked_on()


def test_a_failed_trial_is_listed_and_the_others_go_on(tmp_path):
    def fail_wide(job, progress):
        if job.config.model.channels == (8, 16):
            raise DataError("case ball_3: unreadable", hint="Copy it again.")
        return run_stub(job, progress)

    worker = open_worker(tmp_path, trials=8, execute=fail_wide, files=True)
    worker.run()
    failed = [trial for trial in worker.shared.records() if trial.state == "failed"]
    assert failed
    assert {trial.changes["model.channels"] for trial in failed} == {"[8, 16]"}
    assert failed[0].error == "case ball_3: unreadable. Copy it again."
    log = tmp_path / "trials" / f"{failed[0].number:04}" / "failed.log"
    assert "Traceback" in log.read_text("utf-8")
    assert "unreadable" in (tmp_path / "report.html").read_text("utf-8")


def test_if_the_first_trials_fail_the_sweep_stops(tmp_path):
    def fail(job, progress):
        raise DataError("the disk is gone")

    worker = open_worker(tmp_path, execute=fail)
    with pytest.raises(TrainingError, match="the first 3 trials failed, the last one with: the disk is gone"):
        worker.run()
    assert states(worker) == ["failed"] * 3


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_pruned(tmp_path, pruner):
    worker = open_worker(tmp_path, trials=10, pruner=pruner, startup=2, files=True)
    worker.run()
    records = worker.shared.records()
    pruned = [trial for trial in records if trial.state == "pruned"]
    assert pruned
    best = max((trial for trial in records if trial.scores), key=lambda trial: trial.scores[0])
    assert all(trial.scores == () and max(trial.curve) < 3 for trial in pruned)
    if pruner == "median":
        assert all(trial.curve[1] < best.curve[1] for trial in pruned)
    assert "pruned (last validation)" in (tmp_path / "report.html").read_text("utf-8")


def test_the_median_waits_for_the_warmup(tmp_path):
    pruners = [
        open_worker(tmp_path / str(share), warmup=share).shared.study.pruner for share in (0.0, 0.3, 0.9)
    ]
    assert [pruner._n_warmup_steps for pruner in pruners] == [0, 1, 2]  # of 2 epochs


def test_a_pruned_trial_whose_process_is_killed_stays_pruned(tmp_path, kill):
    shared = open_worker(tmp_path).shared
    trial = shared.next_trial(1)
    trial.trial.set_user_attr("pruned", 1)
    with trial.claim:
        pass
    assert open_worker(tmp_path).shared.next_trial(1).ended


def test_a_trial_that_was_ended_ends_again_when_its_training_repeats_the_step(tmp_path):
    trial = open_worker(tmp_path).shared.next_trial(1)
    assert not trial.is_worse(1, 0.5)
    trial.trial.set_user_attr("pruned", 2)
    trial.trial.report(0.4, 2)
    with trial.claim:  # killed before the training ended
        pass
    again = open_worker(tmp_path).shared.next_trial(1)
    assert again.is_worse(1, 0.5)
    assert again.is_worse(2, 0.4)


def test_a_trial_that_another_process_finished_keeps_its_first_result(tmp_path, caplog):
    silent, other = open_worker(tmp_path).shared, open_worker(tmp_path).shared
    number = silent.next_trial(3).number
    other.complete(number, [0.75], 10.0)
    silent.complete(number, [0.5], 20.0)
    silent.fail(number, "too late")
    (record,) = silent.records()
    assert (record.state, record.scores, record.seconds, record.error) == ("complete", (0.75,), 10.0, None)
    assert "another process has finished it" in caplog.text


def test_several_objectives_give_a_pareto_front(tmp_path):
    worker = open_worker(tmp_path, trials=6, objectives=["dice", "seconds_per_case"], files=True)
    worker.run()
    files = sorted((tmp_path / "pareto").iterdir())
    records = worker.shared.records()
    # one trial of each width: seconds are 1.2 and 2.4, and the best score of a width surpasses its others
    best = [max((t for t in records if t.scores[1] == s), key=lambda t: t.scores[0]) for s in (1.2, 2.4)]
    front = best if best[1].scores[0] > best[0].scores[0] else best[:1]
    assert [path.name for path in files] == sorted(f"trial_{trial.number:04}.yaml" for trial in front)
    best_file = tmp_path / "pareto" / f"trial_{max(front, key=lambda t: t.scores[0]).number:04}.yaml"
    assert (tmp_path / "best.yaml").read_text("utf-8") == best_file.read_text("utf-8")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Pareto front" in page
    assert "seconds per case" in page


def test_another_study_in_the_folder_is_refused(tmp_path):
    settings, sweep = load_config(ball_settings("DATA")), read_sweep({"space": SPACE})
    folder = SweepFolder(tmp_path / "study")
    folder.start(settings, sweep)
    folder.start(settings, sweep)
    with pytest.raises(ConfigError, match="another search space"):
        folder.start(settings, sweep.model_copy(update={"objectives": ("iou",)}))
    with pytest.raises(ConfigError, match="with other settings"):
        folder.start(load_config(ball_settings("DATA", epochs=7)), sweep)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="no sweep"):
        SweepFolder(tmp_path).start(settings, sweep)


def test_a_damaged_journal_is_an_error(tmp_path):
    open_worker(tmp_path, trials=1).run()
    with (tmp_path / "journal.log").open("a", encoding="utf-8") as stream:
        stream.write('{"op_code": 4, "wor\n{"op_code": 4}\n')
    with pytest.raises(ConfigError, match="journal of the sweep is damaged"):
        open_worker(tmp_path)


def test_a_line_that_a_killed_process_cut_off_is_removed_before_the_next_one(tmp_path):
    open_worker(tmp_path, trials=1).run()
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    open_worker(tmp_path, trials=2).run()
    assert journal.read_bytes().startswith(whole + b"{")
    assert states(open_worker(tmp_path, trials=2)) == ["complete", "complete"]


def test_without_optuna_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match="needs the package optuna") as error:
        open_worker(tmp_path)
    assert "medseg[hpo]" in error.value.hint


def test_study_status_shows_the_trials(tmp_path, kill):
    settings, sweep = load_config(ball_settings("DATA")), read_sweep({"space": SPACE})
    SweepFolder(tmp_path).start(settings, sweep)
    open_worker(tmp_path, trials=1).run()
    kill(tmp_path)
    open_worker(tmp_path).shared.next_trial(3)
    first, *others = study_status(tmp_path)
    lr = settings.train.optimizer.lr
    assert first.name == f"trial 0: train.optimizer.lr={lr}, model.channels=[4, 8]"
    assert first.dice == pytest.approx(score_of(settings))
    assert [one.status for one in (first, *others)] == ["complete", "running"]  # the killed one is continued
    kill(tmp_path)
    assert [one.status for one in study_status(tmp_path)] == ["complete", "running", "stopped"]


def test_finished_trials_of_other_files_are_refused(tmp_path):
    data = write_balls(tmp_path / "DATA", cases=2, size=16)
    config, sweep = load_config(ball_settings(data)), read_sweep({"space": SPACE})
    out = tmp_path / "out"
    SweepFolder(out).start(config, sweep)
    worker = open_worker(out, trials=2, pruner="none")
    worker.run()
    record_cases(worker.shared.folder(0) / "run", config.data)
    assert len(run_sweep(config, sweep, out, trials=2, progress=QuietProgress()).trials) == 2
    shutil.copy(data / "labels" / "ball_1.nii.gz", data / "labels" / "ball_0.nii.gz")
    with pytest.raises(DataError, match="changed since 1 of 2 finished runs began") as caught:
        run_sweep(config, sweep, out, trials=2, progress=QuietProgress())
    assert "case ball_0: label map changed" in str(caught.value)


def test_a_trial_of_files_that_changed_during_the_sweep_fails(tmp_path):
    data = write_balls(tmp_path / "DATA", cases=2, size=16)

    def record(job, progress):
        if job.folder.name == "0001":
            shutil.copy(data / "labels" / "ball_1.nii.gz", data / "labels" / "ball_0.nii.gz")
        record_cases(job.folder / "run", load_config(ball_settings(data)).data)
        return run_stub(job, progress)

    worker = open_worker(tmp_path / "out", trials=2, execute=record, pruner="none")
    worker.run()
    assert states(worker) == ["complete", "failed"]
    assert worker.shared.records()[1].error == "files of 1 cases changed since trial 0 began: ['ball_0']"
