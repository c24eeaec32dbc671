import json
from dataclasses import replace

import pytest

from medseg.config.schema import load_config
from medseg.data.cases import Case
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, DataError
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.folds import assign_folds, case_strata
from medseg.study.cross_validation.options import CrossValidationConfig
from medseg.study.cross_validation.settings import Study
from medseg.training.dataset.preparation import PreparedDataset

LABELS = LabelSchema(names={"background": (0,), "organ": (1,), "tumor": (2,)})


def statistics(case, organ, tumor=0):
    return CaseStatistics(
        id=case, image_sha256=case, label_sha256=f"label {case}", voxels_sha256=case, kind="volume",
        shape=(10, 10, 10), spacing=(1.0, 1.0, 2.0), channels=1, dtype="int16", label_dtype="uint8",
        intensities=(0, 1), label_counts={0: 1000 - organ - tumor, 1: organ, **({2: tumor} if tumor else {})},
        foreground=(),
    )  # fmt: skip


def dataset(cases, facts, test=()):
    split = {case.id: "test" if case.id in test else "train" for case in cases}
    return PreparedDataset(list(cases), list(facts), split, LABELS, 1, PreprocessConfig())


def study_in(folder, folds=2, **options):
    return Study(CrossValidationConfig({}, folds=folds, **options), StudyFolder(folder), load_config({}))


@pytest.fixture
def twelve(tmp_path):
    """Twelve cases of six patients; four cases have a tumor, the last two are test cases."""
    cases = [
        Case(f"c{i:02d}", tmp_path / f"c{i:02d}.nii.gz", patient=f"p{i // 2}", metadata={"site": "AB"[i % 2]})
        for i in range(12)
    ]
    facts = [statistics(case.id, organ=100 + 10 * i, tumor=5 * (i < 4)) for i, case in enumerate(cases)]
    return dataset(cases, facts, test=("c10", "c11"))


def test_the_strata_by_hand(twelve):
    strata = case_strata(twelve, [f"c{i:02d}" for i in range(6)], ["site"])
    # six cases in thirds of two by the volume of the organ; four with a tumor: thirds of 2, 1 and 1
    assert strata["c00"] == {"tumor", "organ 1/3", "tumor 1/3", "site=A"}
    assert strata["c03"] == {"tumor", "organ 2/3", "tumor 3/3", "site=B"}
    assert strata["c05"] == {"organ 3/3", "site=B"}  # the organ is in every case, so it is no stratum itself


def test_an_unknown_column_is_refused(twelve):
    with pytest.raises(ConfigError, match="no case has a column 'center'"):
        case_strata(twelve, ["c00"], ["center"])


def test_patients_stay_together_and_tumors_are_distributed(twelve, tmp_path):
    folds = assign_folds(study_in(tmp_path), twelve)
    assert set(folds.fold_of) == {f"c{i:02d}" for i in range(10)}
    for i in range(0, 10, 2):
        assert folds.fold_of[f"c{i:02d}"] == folds.fold_of[f"c{i + 1:02d}"]
    assert folds.fold_of["c00"] != folds.fold_of["c02"]  # the two patients with a tumor
    assert [case.id for case in folds.test] == ["c10", "c11"]
    first = folds.split(0)
    assert {part for case, part in first.items() if folds.fold_of.get(case) == 0} == {"val"}
    assert {part for case, part in first.items() if folds.fold_of.get(case) == 1} == {"train"}
    assert first["c10"] == "test"


def test_copies_of_an_image_are_in_one_fold(twelve, tmp_path):
    facts = [
        one.model_copy(update={"image_sha256": "same"}) if one.id in ("c00", "c09") else one
        for one in twelve.statistics
    ]
    folds = assign_folds(study_in(tmp_path, folds=3), replace(twelve, statistics=facts))
    assert folds.fold_of["c00"] == folds.fold_of["c09"]


def test_folds_are_recorded_and_read_again(twelve, tmp_path):
    study = study_in(tmp_path)
    first = assign_folds(study, twelve)
    splits = json.loads((tmp_path / "splits.json").read_text(encoding="utf-8"))
    assert [sorted(one["val"]) for one in splits] == [
        sorted(case.id for case in first.held_out(fold)) for fold in (0, 1)
    ]
    assert all(one["test"] == ["c10", "c11"] for one in splits)
    assert json.loads((tmp_path / "folds/fold_1/split.json").read_text(encoding="utf-8")) == first.split(1)
    again = assign_folds(study, replace(twelve, split=dict.fromkeys(twelve.split, "train")))
    assert again.fold_of == first.fold_of  # not that of another split


def test_changed_cases_are_refused(twelve, tmp_path):
    study = study_in(tmp_path)
    assign_folds(study, twelve)
    facts = [twelve.statistics[0].model_copy(update={"label_sha256": "other"}), *twelve.statistics[1:]]
    with pytest.raises(DataError, match="case c00: label map changed") as error:
        assign_folds(study, replace(twelve, statistics=facts))
    assert "--output" in error.value.hint  # there is no --accept-new-cases


def test_more_folds_than_patients_are_refused(twelve, tmp_path):
    with pytest.raises(DataError, match=r"5 patients.* are too few for 6 folds"):
        assign_folds(study_in(tmp_path, folds=6), twelve)


@pytest.mark.parametrize("options", [{"folds": 1}, {"jobs": 0}, {"budget": 0.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError):
        CrossValidationConfig({}, **options)
