from types import SimpleNamespace

from medseg.study.reproduction import CaseChange, Difference
from medseg.study.reproduction.differences import compare_cases, compare_environments
from medseg.training.run_folder.case_record import RecordedCase


def facts(name, image, label):
    return SimpleNamespace(id=name, image_sha256=image, label_sha256=label)


def test_cases_are_compared_by_the_hashes_of_their_files():
    recorded = {name: RecordedCase("train", f"i{name}", f"l{name}") for name in "abcd"}
    current = [
        facts("a", "ia", "la"),
        facts("b", "new", "lb"),
        facts("c", "new", "new"),
        facts("e", "ie", "le"),
    ]
    assert compare_cases(recorded, current) == [
        CaseChange("b", "image changed"),
        CaseChange("c", "image changed"),
        CaseChange("c", "label changed"),
        CaseChange("d", "missing"),
        CaseChange("e", "added"),
    ]


def test_facts_are_compared_by_topic():
    before = {
        "python": "3.11.2",
        "packages": {"medseg": "1.0", "torch": "2.8.0"},
        "source_sha256": "a" * 64,
        "cpu": "X",
    }
    now = {
        "python": "3.11.2",
        "packages": {"medseg": "1.0", "torch": "2.9.0"},
        "source_sha256": "b" * 64,
        "cpu": "Y",
        "threads": 2,
        "processes": 1,
    }
    found = compare_environments(before, now)
    assert found == [
        Difference("code", "source_sha256", "a" * 12, "b" * 12),
        Difference("versions", "torch", "2.8.0", "2.9.0"),
        Difference("hardware", "cpu", "X", "Y"),
        Difference("hardware", "threads", None, "2"),
    ]
    assert [one.describe() for one in found][1:] == [
        "torch: 2.8.0 → 2.9.0",
        "cpu: X → Y",
        "threads: not recorded → 2",
    ]
    assert compare_environments(now, now) == []
