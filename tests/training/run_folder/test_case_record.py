"""Cases of a resumed run keep their parts; differences are listed."""

from pathlib import Path

import pytest

from medseg.data.cases import Case
from medseg.data.curation.splits import AutoSplit, FileSplit, FolderSplit, FractionSplit
from medseg.errors import DataError, TrainingError
from medseg.training.run_folder.case_record import CaseRecord, RecordedCase, declared_parts, read_record


class Fact:
    """The hashes of a case."""

    def __init__(self, image: str, label: str | None = "l") -> None:
        self.image_sha256, self.label_sha256 = image, label


def case(name: str, part=None, patient=None) -> Case:
    return Case(name, Path(f"{name}.nii"), part=part, patient=patient)


RECORD = CaseRecord(
    Path("cases.json"),
    {
        "a": RecordedCase("train", "1", "l"),
        "b": RecordedCase("val", "2", "l"),
        "c": RecordedCase("test", "3", "l"),
    },
)


def test_new_cases_join_the_part_of_their_patient_or_copy():
    cases = [case("b", patient="p"), case("c"), case("n1", patient="p"), case("n2"), case("n3"), case("n4")]
    facts = [Fact("2"), Fact("3"), Fact("7"), Fact("3"), Fact("8"), Fact("9")]
    parts = RECORD.split(cases, facts, {"n4": "test"})
    assert parts == {"b": "val", "c": "test", "n1": "val", "n2": "test", "n3": "train", "n4": "test"}


def test_a_case_moved_by_hand_is_a_change():
    cases, facts = [case("a"), case("b"), case("c")], [Fact("1"), Fact("2"), Fact("3")]
    assert RECORD.changes(cases, facts, {}) == []
    assert RECORD.changes(cases, facts, {"a": "train", "b": "train", "c": "test"}) == []  # val drawn from train
    with pytest.raises(DataError, match="case c: now declared as train, it was test"):
        RECORD.changes(cases, facts, {"c": "train"})


def test_declared_parts_come_from_files_and_folders_only(tmp_path):
    cases = [case("a", "train"), case("b", "test"), case("c")]
    assert declared_parts(cases, FractionSplit()) == {}
    assert declared_parts(cases, AutoSplit()) == {"b": "test"}
    assert declared_parts(cases[:2], AutoSplit()) == {"a": "train", "b": "test"}
    assert declared_parts(cases[:2], FolderSplit()) == {"a": "train", "b": "test"}
    path = tmp_path / "split.json"
    path.write_text('{"train": ["a", "b"], "val": ["c"]}')
    assert declared_parts(cases, FileSplit(file=path)) == {"a": "train", "b": "train", "c": "val"}


@pytest.mark.parametrize("text", ["[{]", '{"a": 1}', '[{"id": "a", "part": "dev"}]'])
def test_a_damaged_record_is_an_error_not_a_new_split(tmp_path, text):
    path = tmp_path / "cases.json"
    assert read_record(path) is None
    path.write_text(text)
    with pytest.raises(TrainingError, match="start a new run"):
        read_record(path)
