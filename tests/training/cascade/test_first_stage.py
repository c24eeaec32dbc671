"""Trainings of cascades."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import ball_settings, write_balls

from medseg.cli.main import run as command
from medseg.config.schema import load_config, to_yaml
from medseg.data.cases import Case
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.loading.cache.case_file import read_case_file
from medseg.errors import ConfigError, MedsegError
from medseg.inference.model.model_file import load_model
from medseg.inference.model.predictor import Predictor
from medseg.planning.measured.dry_run import dry_run
from medseg.progress import QuietProgress
from medseg.training.cascade.first_stage import (
    SegmentationTime,
    extended_splits,
    first_stage_config,
    out_of_fold_splits,
)
from medseg.training.fit import fit
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.run_folder.log import read_log


def settings(balls, **train):
    return ball_settings(balls, iterations=2, epochs=1, **train) | {
        "cascade": {"spacing": [2, 2, 2], "patch_size": [8, 8, 8], "model": {"channels": [4, 8]}}
    }


@pytest.fixture(scope="module")
def run(balls, tmp_path_factory):
    """A training of a cascade."""
    folder = tmp_path_factory.mktemp("cascade") / "run"
    return fit(load_config(settings(balls)), folder, progress=QuietProgress()).run


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def parts(run, number):
    content = json.loads((run / "first_stage" / f"split_{number}.json").read_text())
    return {case: part for part, cases in content.items() for case in cases}


def test_each_training_case_is_left_out_by_one_network(run):
    whole = {entry["id"]: entry["part"] for entry in json.loads((run / "cases.json").read_text())}
    one, two = parts(run, 0), parts(run, 1)
    for case, part in whole.items():
        if part == "train":
            assert {one[case], two[case]} == {"train", "test"}
        else:
            assert one[case] == two[case] == part


def test_cases_are_segmented_by_the_network_that_was_not_trained_on_them(run, balls):
    stored = [np.asarray(read_case_file(file)["masks"]) for file in (run / "first_stage" / "masks").iterdir()]
    assert len(stored) == 5  # 4 training cases, 1 validation case
    other = parts(run, 1)
    case = next(case for case, part in parts(run, 0).items() if (part, other[case]) == ("test", "train"))
    files = [run / "first_stage" / f"network_{i}" for i in (0, 1)]
    unseen, seen = (Predictor(file, amp="off").predict(balls / "images" / f"{case}.nii.gz") for file in files)
    assert any(np.array_equal(unseen.label_map, one) for one in stored)
    assert not any(np.array_equal(seen.label_map, one) for one in stored)


def test_the_model_file_holds_both_stages(run, balls):
    header, _, _ = load_model(run / "model.safetensors")
    assert header.preprocess.spacing is None
    assert [one.preprocess.spacing for one in header.first_stages] == [(2, 2, 2)] * 2
    assert header.task.in_channels == 1 + 2
    assert all(one.fingerprint is None for one in header.first_stages)
    prediction = Predictor(run).predict(balls / "images" / "ball_0.nii.gz")
    assert prediction.label_map.shape == (20, 20, 20)


def test_inference_names_both_stages(run, balls, tmp_path):
    image = balls / "images" / "ball_0.nii.gz"
    assert command(["infer", str(image), "--model", str(run), "--output", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "provenance" / "ball_0.json").read_text())
    (model,) = record["made_of"]["models"]
    assert len(model["first_stage"]) == 2
    assert [one["roi_size"] for one in model["inference"]] == [[8, 8, 8], [16, 16, 16]]
    assert command(["infer", str(image), "--model", str(run), "--output", str(tmp_path)]) == 0  # up to date


class SuddenEndError(Exception):
    pass


@dataclass
class Stopper(QuietProgress):
    """Ends a training after some updates of one of its networks, as a crash would."""

    network: int
    update: int

    def __post_init__(self):
        self.networks, self.updates, self.training = -1, 0, []

    def start(self, total, description, *, unit="cases", completed=0):
        self.training.append(description == "training")
        if self.training[-1]:
            self.networks += 1
            self.updates = completed

    def advance(self, detail=""):
        self.updates += self.training[-1]
        if self.training[-1] and (self.networks, self.updates) == (self.network, self.update):
            raise SuddenEndError

    def finish(self):
        self.training.pop()


@pytest.mark.slow
@pytest.mark.parametrize(("network", "update"), [(0, 1), (1, 2), (2, 1)])
def test_a_resumed_cascade_equals_an_uninterrupted_one(balls, tmp_path, run, network, update):
    config = load_config(settings(balls, save_every_steps=1))
    with pytest.raises(SuddenEndError):
        fit(config, tmp_path / "run", progress=Stopper(network, update))
    fit(config, tmp_path / "run", resume="auto", progress=QuietProgress())
    resumed, whole = (load_model(one / "model.safetensors")[1] for one in (tmp_path / "run", run))
    assert all((resumed[name] == whole[name]).all() for name in whole)
    logs = [
        [e | {"seconds": 0, "waiting": 0} for e in read_log(one / "log.jsonl")]
        for one in (tmp_path / "run", run)
    ]
    assert logs[0] == logs[1]


def test_a_finished_first_stage_is_kept(balls, run):
    before = files_of(run / "first_stage")
    fit(load_config(settings(balls)), run, resume="auto", progress=QuietProgress())
    assert before == files_of(run / "first_stage")


def test_a_run_that_cannot_start_leaves_nothing(balls, tmp_path):
    config = load_config(settings(balls), ["cascade.folds=5"])  # there are 4 training cases
    with pytest.raises(ConfigError, match=r"cascade\.folds=5: the training part has 4 patients") as raised:
        fit(config, tmp_path / "run", progress=QuietProgress())
    assert "cascade.folds=4" in raised.value.hint
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_dry_run_measures_the_second_stage(balls, tmp_path):
    estimate = dry_run(load_config(settings(balls)), tmp_path / "run")
    assert estimate.loss > 0
    assert any("first stage" in line for line in estimate.assumed)


def test_settings_of_the_first_stage(balls, tmp_path):
    config = load_config(
        settings(balls), ["train.budget=20", "cascade.epochs=7", "preprocess.normalize.name=ct"]
    )
    first = first_stage_config(config, tmp_path / "split.json", tmp_path / "cache")
    assert (first.cascade, first.preprocess.spacing, first.sampling.patch_size) == (None, (2, 2, 2), (8, 8, 8))
    assert (first.train.epochs, first.train.batch_size) == (7, config.train.batch_size)
    assert first.train.budget == 3.4  # 40% of 20 minutes, 15% of it for segmentations, for two networks
    assert first.preprocess.normalize == config.preprocess.normalize
    assert load_config(settings(balls), ["cascade.model=null"]).cascade.model is None


@pytest.mark.parametrize(("seconds", "warned"), [(0.9, False), (2.0, True)])
def test_segmentations_that_take_time_of_the_second_stage_are_warned_of(seconds, warned, caplog):
    now = [30.0]
    time = SegmentationTime(TimeBudget(100, clock=lambda: now[0], began=0.0), share=0.4, cases=10)
    for _ in range(10):
        now[0] += seconds
        time.after_case()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warned  # 30 s + 10 × 2 s is more than 40 s
    assert not warned or "takes until 50 s" in messages[0]


def test_a_cascade_is_for_volumes():
    raw = {"spatial_dims": 2, "cascade": {"spacing": [2, 2, 2], "patch_size": [8, 8, 8]}}
    with pytest.raises(ConfigError, match="cascade: is for volumes"):
        load_config(raw)


def test_settings_can_be_written_and_read(balls, tmp_path):
    config = load_config(settings(balls))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


@dataclass(frozen=True)
class Cases:
    """What a split needs of a dataset."""

    cases: list
    split: dict
    statistics: list

    def part(self, part):
        return [case for case in self.cases if self.split[case.id] == part], []


def test_patients_and_copies_stay_together(tmp_path):
    cases = [Case(f"c{i}", tmp_path / f"c{i}.nii", patient=f"p{i // 2}") for i in range(6)]
    digests = ["a", "b", "c", "d", "e", "a"]  # the first and the last case are the same image
    statistics = [
        CaseStatistics.model_construct(
            id=case.id, image_sha256=digest, voxels_sha256=digest, intensities=(0, 1)
        )
        for case, digest in zip(cases, digests, strict=True)
    ]
    dataset = Cases(cases, {case.id: "train" for case in cases}, statistics)
    for split in out_of_fold_splits(dataset, 2, seed=0):
        assert split["c0"] == split["c1"] == split["c4"] == split["c5"]
        assert split["c2"] == split["c3"] != split["c0"]
    with pytest.raises(MedsegError):
        out_of_fold_splits(dataset, 3, seed=0)


def doubled(logits, target):
    return 2 * torch.nn.functional.cross_entropy(logits, target[:, 0], ignore_index=-1)


@pytest.mark.slow
def test_a_cascade_stopped_in_its_first_stage_continues_with_changed_cases(balls, tmp_path):
    data, folder = shutil.copytree(balls, tmp_path / "data"), tmp_path / "run"
    write_balls(tmp_path / "more", cases=7)
    for kind in ("images", "labels"):
        shutil.copy(data / kind / "ball_0.nii.gz", data / kind / "twin.nii.gz")
    config = load_config(settings(data, save_every_steps=1), ["data.duplicates=drop"])
    with pytest.raises(SuddenEndError):
        fit(config, folder, loss=doubled, progress=Stopper(0, 2))
    assert json.loads((folder / "extensions.json").read_text()) == {"loss": "doubled"}
    before = [parts(folder, number) for number in (0, 1)]
    gone = next(case for case, part in before[0].items() if part == "train" and case != "ball_0")
    for kind in ("images", "labels"):
        shutil.copy(tmp_path / "more" / kind / "ball_6.nii.gz", data / kind)
        (data / kind / f"{gone}.nii.gz").unlink()
    options = {"loss": doubled, "resume": "auto", "progress": QuietProgress()}
    fit(config, folder, accept_new_cases=True, **options)
    after = [parts(folder, number) for number in (0, 1)]
    assert {split.pop("ball_6") for split in after} == {"train", "test"}
    for old, new in zip(before, after, strict=True):
        assert new == {case: part for case, part in old.items() if case != gone}
    kept = json.loads((folder / "cases-until-step-0.json").read_text())
    assert sorted(entry["id"] for entry in kept) == sorted(before[0])
    fit(config, folder, **options)  # what was accepted is no change any more


def test_new_cases_stay_with_their_patients(tmp_path):
    names = {"a": "p", "b": "q", "n1": "q", "n2": None, "n3": None, "v": None, "n4": None}
    cases = [Case(name, tmp_path / name, patient=patient) for name, patient in names.items()]
    split = dict.fromkeys(names, "train") | {"v": "val", "n4": "val"}
    earlier = [
        {"a": "test", "b": "train", "v": "val", "gone": "train"},
        {"a": "train", "b": "test", "v": "val", "gone": "test"},
    ]
    one, two = extended_splits(Cases(cases, split, []), earlier)
    assert one == split | {"a": "test", "n3": "test"}
    assert two == split | {"b": "test", "n1": "test", "n2": "test"}
    assert extended_splits(Cases(cases, split, []), [{"a": "train"}]) == [split]
