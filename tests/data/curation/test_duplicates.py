"""Cases with the same image: detected, kept in one part, dropped."""

import shutil

import numpy as np
import pytest
from conftest import ball_settings, write_balls, write_volume

from medseg.config.schema import load_config
from medseg.data.cases import Case
from medseg.data.curation.case_statistics import measure_case
from medseg.data.curation.duplicates import bind_copies, find_copies, surplus_copies
from medseg.data.curation.splits import FractionSplit
from medseg.errors import DataError
from medseg.files import write_json
from medseg.training.dataset.preparation import ResumedRun, prepare_dataset
from medseg.training.loop_setup import network_needs
from medseg.training.run_folder.case_record import read_record


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Ten balls, three of which have the same image."""
    root = write_balls(tmp_path_factory.mktemp("copied"), cases=10)
    for name in ("ball_4", "ball_8"):
        shutil.copy(root / "images" / "ball_1.nii.gz", root / "images" / f"{name}.nii.gz")
    return root


def surveyed(root, tmp_path, *overrides):
    config = load_config(ball_settings(root), overrides)
    return prepare_dataset(config.data, config.preprocess, network_needs(config), tmp_path / "facts")


def test_copies_stay_in_one_part_of_the_split(copied, tmp_path):
    for seed in range(8):
        dataset = surveyed(copied, tmp_path, f"data.split.seed={seed}")
        assert len({dataset.split[name] for name in ("ball_1", "ball_4", "ball_8")}) == 1
        assert len(dataset.cases) == 10
    assert "warning: cases with the same image (ball_1, ball_4, ball_8): they stay" in dataset.summary


def test_copies_are_dropped_or_raise_if_configured(copied, tmp_path):
    dataset = surveyed(copied, tmp_path, "data.duplicates=drop")
    assert [case.id for case in dataset.cases] == [f"ball_{i}" for i in (0, 1, 2, 3, 5, 6, 7, 9)]
    assert set(dataset.split) == {case.id for case in dataset.cases} == {fact.id for fact in dataset.statistics}
    with pytest.raises(DataError, match=r"images are the same .*\n  ball_1, ball_4, ball_8"):
        surveyed(copied, tmp_path, "data.duplicates=refuse")


def test_a_split_file_that_separates_copies_raises(copied, tmp_path):
    split = "\n".join(
        ["id,split", *(f"ball_{i},{'test' if i == 8 else 'val' if i else 'train'}" for i in range(10))]
    )
    (tmp_path / "split.csv").write_text(split)
    asked = ["data.split={name: file, file: " + str(tmp_path / "split.csv") + "}"]
    with pytest.raises(DataError, match="ball_1 in val, ball_4 in val, ball_8 in test"):
        surveyed(copied, tmp_path, *asked)
    kept = surveyed(copied, tmp_path, *asked, "data.duplicates=drop").split
    assert kept["ball_8"] == "test"
    assert not {"ball_1", "ball_4"} & set(kept)


def test_a_run_that_dropped_copies_can_be_resumed_and_its_split_reused(copied, tmp_path):
    first = surveyed(copied, tmp_path, "data.duplicates=drop")
    write_json(tmp_path / "cases.json", first.case_entries())
    asked = ["data.split={name: file, file: " + str(tmp_path / "cases.json") + "}", "data.duplicates=drop"]
    assert surveyed(copied, tmp_path, *asked).split == first.split
    record = read_record(tmp_path / "cases.json")
    config = load_config(ball_settings(copied), ["data.duplicates=drop"])
    again = prepare_dataset(
        config.data, config.preprocess, network_needs(config), tmp_path / "facts", resumed=ResumedRun(record)
    )
    assert (again.split, again.changes) == (first.split, ())


def test_copies_connect_their_patients(tmp_path):
    cases = [Case(f"{p}{i}", tmp_path, patient=p) for p in "abcdefgh" for i in (0, 1)]
    bound = bind_copies(cases, [["a0", "b0"], ["b1", "c1"]])
    assert len({c.patient for c in bound if c.id[0] in "abc"}) == 1
    assert [c.patient for c in bound[6:]] == [c.patient for c in cases[6:]]
    for seed in range(5):
        split = FractionSplit(val=0.3, test=0.3, seed=seed).assign(bound)
        assert len({split[c.id] for c in cases[:6]}) == 1
    assert surplus_copies([["a0", "b0"]], {"a0": "train", "b0": "test"}) == {"a0"}


def test_blank_slices_and_other_voxels_are_no_copies(tmp_path):
    images = {
        "blank": np.zeros((4, 5, 6)),
        "void": np.zeros((4, 5, 6)),
        "x": np.eye(4)[:, :, None] * np.arange(6),
    }
    images |= {"same": images["x"], "other": images["x"] + 1}
    facts = []
    for name, voxels in images.items():
        path = write_volume(tmp_path / f"{name}.nii{'.gz' if name == 'x' else ''}", voxels.astype(np.int16))
        facts.append(measure_case(Case(name, path)))
    assert find_copies(facts) == [["same", "x"]]
