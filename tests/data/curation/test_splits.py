from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg.data.cases import Case
from medseg.data.curation.splits import (
    AutoSplit,
    FileSplit,
    FolderSplit,
    FoldSplit,
    FractionSplit,
    patients_in_several_parts,
)
from medseg.errors import DataError


def cases(number, part=None):
    return [Case(f"{part or 'case'}_{i}", Path(f"{i}.png"), None, part) for i in range(number)]


def sizes(split):
    return dict(Counter(split.values()))


def test_fractions_by_hand():
    # 20 cases: 0.2 · 20 = 4 test, 0.1 · 20 = 2 validate, 14 train
    assert sizes(FractionSplit().assign(cases(20))) == {"train": 14, "val": 2, "test": 4}
    # 3 cases: a part asked for gets one at least
    assert sizes(FractionSplit().assign(cases(3))) == {"train": 1, "val": 1, "test": 1}
    assert sizes(FractionSplit(val=0, test=0).assign(cases(3))) == {"train": 3}
    with pytest.raises(DataError, match=r"leaves no case to train on \(validation: 1, test: 1\)"):
        FractionSplit().assign(cases(2))


@given(st.integers(5, 60), st.permutations(range(5)), st.integers(0, 9))
def test_a_split_is_reproducible_and_does_not_depend_on_the_order(number, order, seed):
    some = cases(number)
    shuffled = [some[i] for i in order] + some[5:]
    for kind in (FractionSplit(seed=seed), FoldSplit(folds=3, seed=seed), AutoSplit(seed=seed)):
        split = kind.assign(some)
        assert split == kind.assign(shuffled)
        assert set(split) == {case.id for case in some}  # each case in exactly one part


def test_the_seed_matters():
    assert FractionSplit(seed=0).assign(cases(20)) != FractionSplit(seed=1).assign(cases(20))


@given(number=st.integers(7, 40), folds=st.integers(2, 5), test=st.sampled_from([0, 0.1, 0.25]))
def test_every_case_validates_in_exactly_one_fold(number, folds, test):
    splits = [FoldSplit(folds=folds, fold=f, test=test).assign(cases(number)) for f in range(folds)]
    held_out = [{i for i, p in s.items() if p == "test"} for s in splits]
    assert all(h == held_out[0] for h in held_out)
    validated = Counter(i for s in splits for i, p in s.items() if p == "val")
    assert set(validated.values()) == {1}
    assert set(validated) | held_out[0] == {case.id for case in cases(number)}
    assert not set(validated) & held_out[0]
    counts = [sizes(s)["val"] for s in splits]
    assert max(counts) - min(counts) <= 1


def test_impossible_folds_raise():
    with pytest.raises(ValidationError, match="fold is 5, expected 0 to 4"):
        FoldSplit(fold=5)
    with pytest.raises(DataError, match=r"too few for 5 folds\. Set data\.split\.folds"):
        FoldSplit().assign(cases(3))


def test_folders_define_the_parts():
    some = cases(10, "train") + cases(2, "val") + cases(3, "test")
    for kind in (FolderSplit(), AutoSplit()):
        assert kind.assign(some) == {case.id: case.part for case in some}


def test_without_a_val_folder_training_cases_are_taken():
    some = cases(20, "train") + cases(3, "test")
    split = FolderSplit(val=0.1).assign(some)
    assert sizes(split) == {"train": 18, "val": 2, "test": 3}  # 0.1 · 20 = 2
    assert all(split[f"test_{i}"] == "test" for i in range(3))


def test_missing_folders_raise():
    with pytest.raises(DataError, match="contains no folders train, val or test"):
        FolderSplit().assign(cases(3))
    with pytest.raises(DataError, match="images/train is empty"):
        FolderSplit().assign(cases(3, "val"))


def test_auto_without_folders_splits_by_fraction():
    assert AutoSplit(val=0.3, seed=4).assign(cases(20)) == FractionSplit(val=0.3, seed=4).assign(cases(20))


def visits(patients, each):
    return [Case(f"p{p}_{v}", Path("x.png"), patient=f"p{p}") for p in range(patients) for v in range(each)]


@given(patients=st.integers(5, 20), each=st.integers(1, 4), seed=st.integers(0, 5), stratify=st.booleans())
def test_cases_of_a_patient_stay_together(patients, each, seed, stratify):
    some = visits(patients, each)
    for kind in (FractionSplit(seed=seed, stratify=stratify), FoldSplit(folds=3, seed=seed, stratify=stratify)):
        split = kind.assign(some)
        assert patients_in_several_parts(some, split) == {}
        assert set(split) == {case.id for case in some}


def test_patients_are_counted_not_cases():
    # 10 patients of 3 visits: 0.2 · 10 = 2 patients = 6 cases for the test
    assert sizes(FractionSplit().assign(visits(10, 3))) == {"train": 21, "val": 3, "test": 6}
    with pytest.raises(DataError, match=r"4 patients.* are too few for 5 folds"):
        FoldSplit(folds=5).assign(visits(4, 3))


def test_patients_in_several_parts():
    some = visits(2, 2)
    assert patients_in_several_parts(some, {"p0_0": "train", "p0_1": "test", "p1_0": "val", "p1_1": "val"}) == {
        "p0": ["test", "train"]
    }


@given(seed=st.integers(0, 20))
def test_a_rare_label_is_in_every_part(seed):
    some = cases(20)
    holders = {case.id: frozenset({"rare"} if i < 4 else {"usual"}) for i, case in enumerate(some)}
    split = FractionSplit(val=0.25, test=0.25, seed=seed, stratify=True).assign(some, holders)
    assert sizes(split) == {"train": 10, "val": 5, "test": 5}
    rare = Counter(split[i] for i, held in holders.items() if "rare" in held)
    assert rare == {"train": 2, "val": 1, "test": 1}
    folds = [FoldSplit(folds=4, fold=f, seed=seed, stratify=True).assign(some, holders) for f in range(4)]
    assert [sum(s[c.id] == "val" for c in some[:4]) for s in folds] == [1, 1, 1, 1]
    assert Counter(i for s in folds for i, p in s.items() if p == "val") == {c.id: 1 for c in some}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"case_0": "train", "case_1": "train", "case_2": "val", "case_3": "test"}'),
        ("a.json", '{"train": ["case_0", "case_1"], "val": ["case_2"], "test": ["case_3"]}'),
        ("cases.json", '[{"id": "case_0", "part": "train"}, {"id": "case_1", "part": "train"}, '
         '{"id": "case_2", "part": "val"}, {"id": "case_3", "part": "test"}]'),
        ("a.csv", "id,split\ncase_0,train\ncase_1,train\ncase_2,val\ncase_3,test\n"),
    ],
)  # fmt: skip
def test_a_split_from_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    split = FileSplit(file=tmp_path / name).assign(cases(4))
    assert split == {"case_0": "train", "case_1": "train", "case_2": "val", "case_3": "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"case_0": "train"}', "missing: case_1; not in the dataset: none"),
        ('{"case_0": "train", "case_1": "val", "x": "val"}', "missing: none; not in the dataset: x"),
        (
            '{"case_0": "training", "case_1": "val"}',
            r"expected the parts train, val and test, got \['training",
        ),
        ('{"case_0": "val", "case_1": "val"}', "lists no training case"),
        ("[1]", "expected JSON of case id"),
        ('{"train": ["case_0", "case_1"], "test": ["case_1"]}', "the case case_1 is in several parts"),
    ],
)
def test_invalid_split_files_raise(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        FileSplit(file=tmp_path / "a.json").assign(cases(2))


def test_a_declared_test_part_is_kept():
    mixed = [*cases(6), Case("t", Path("t.png"), None, "test")]
    split = AutoSplit(val=0.2).assign(mixed)
    assert split["t"] == "test"
    assert sizes(split) == {"train": 5, "val": 1, "test": 1}


def test_one_case_in_the_training_folder_trains():
    case = Case("a", Path("images/train/a.png"), part="train")
    assert FolderSplit().assign([case]) == {"a": "train"}
