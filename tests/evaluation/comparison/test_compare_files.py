"""Comparison of tables, folders and predictions, and the files it writes."""

import csv
import json
import math

import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg import EvaluationOptions, compare_runs
from medseg.cli.main import run
from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison import ComparisonOptions, name_methods, read_groups, read_method
from medseg.evaluation.comparison.options import resolve_metric
from medseg.study import ComparisonInputs

QUICK = ComparisonOptions(resamples=20)


def write_table(path, scores, metric="dice", label="organ"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "name", metric])
        writer.writerows([case, label, value] for case, value in scores.items())
    return path


def read_rows(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.beta(12, 3, 20)
    for name, shift in (("old", 0.0), ("new", 0.03)):
        values = base + shift + rng.normal(0, 0.01, 20)
        write_table(tmp_path / name / "metrics" / "cases.csv", {f"{i:03}": v for i, v in enumerate(values)})
    return tmp_path


def test_a_decimal_comma_does_not_make_a_method_fail_the_case(tmp_path, capsys):
    tables = [
        write_table(tmp_path / f"{name}.csv", {"1": 0.8, "2": second, "3": "NA", "4": "-"})
        for name, second in (("a", 0.7), ("b", "0,9"))
    ]
    assert run(["compare", *map(str, tables)]) == 3
    error = capsys.readouterr().err
    assert "b.csv: dice of case 2 is '0,9', not a number" in error
    assert "Write numbers with a point" in error


def test_the_command_answers_in_words_and_writes_tables(tables, capsys):
    output = tables / "out"
    (tables / "site.csv").write_text(
        "case,site\n" + "".join(f"{i:03},{'AB'[i % 2]}\n" for i in range(20)), encoding="utf-8"
    )
    folders = [str(tables / name / "metrics") for name in ("old", "new")]
    options = ["--groups", str(tables / "site.csv"), "--margin", "0.01", "--detect", "0.01"]
    assert run(["compare", *folders, *options, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("new is better than old: Dice 0.")
    assert "By site, new against old: A +0.0" in printed
    content = json.loads((output / "comparison.json").read_text())
    assert content["results"][0]["decision"] == "better"
    rows = read_rows(output / "comparison.csv")
    assert float(rows[0]["difference"]) == content["results"][0]["difference"]
    assert (output / "comparison.md").read_text().startswith("* new is better than old")
    assert r"\begin{tabular}" in (output / "comparison.tex").read_text()
    assert {row["group"] for row in read_rows(output / "subgroups.csv")} == {"A", "B"}
    assert run(["compare", *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"] == ["old", "new"]


def test_the_table_for_challenger_has_explicit_missing_values(tmp_path):
    a = write_table(tmp_path / "a.csv", {"1": 0.5, "2": 0.6, "3": 0.7})
    b = write_table(tmp_path / "b.csv", {"1": 0.4, "2": "NA", "3": 0.8})
    for missing in ("worst", "exclude"):
        options = ComparisonOptions(resamples=20, missing=missing)
        compare_runs([a, b], tmp_path / missing, options)
        assert (tmp_path / missing / "challengeR.csv").read_text().splitlines() == [
            '"task","case","algorithm","value"',
            '"organ","1","a",0.5',
            '"organ","1","b",0.4',
            '"organ","2","a",0.6',
            '"organ","2","b",NA',
            '"organ","3","a",0.7',
            '"organ","3","b",0.8',
        ]


def test_predictions_are_evaluated_first(tmp_path):
    reference = np.zeros((12, 12, 12), np.uint8)
    reference[2:8, 2:8, 2:8] = 1
    for case in "abc":
        write_volume(tmp_path / "labels" / f"{case}.nii.gz", reference)
        write_volume(tmp_path / "good" / f"{case}.nii.gz", reference)
        if case != "c":
            write_volume(tmp_path / "shifted" / f"{case}.nii.gz", np.roll(reference, 1, axis=0))
    inputs = ComparisonInputs(reference=tmp_path / "labels", observer=tmp_path / "good")
    comparison = compare_runs([tmp_path / "good", tmp_path / "shifted"], options=QUICK, inputs=inputs)
    # moved by one of six voxels: Dice 5/6; the missing case is 0
    assert comparison.table.values[1, :, 0].tolist() == pytest.approx([5 / 6, 5 / 6, 0])
    assert comparison.table.missing["shifted"] == {"c": "there is no label map"}
    assert [pair.difference for pair in comparison.observer] == pytest.approx([0, -4 / 9])
    with pytest.raises(ConfigError, match="need references"):
        compare_runs([tmp_path / "good", tmp_path / "shifted"])


def test_an_observer_has_names_of_its_own_and_the_labels_of_the_methods(tmp_path):
    reference = np.zeros((16, 16), np.uint8)
    reference[4:12, 4:12] = 1
    for case in "abc":
        write_picture(tmp_path / "labels" / f"{case}_1stHO.png", reference)
        write_picture(tmp_path / "observer" / f"{case}_2ndHO.png", np.roll(reference, 2, axis=1))
        write_picture(tmp_path / "good" / f"{case}.png", reference)
        write_picture(tmp_path / "other" / f"{case}.png", np.roll(reference, 4, axis=1))
    names = {"labels": {"names": {"background": [0], "square": [1]}}}
    (tmp_path / "good" / "medseg.json").write_text(json.dumps(names))
    inputs = ComparisonInputs(tmp_path / "labels", tmp_path / "observer", "_2ndHO")
    options = ComparisonOptions(
        resamples=20, also=("cldice",), evaluation=EvaluationOptions(label_suffix="_1stHO")
    )
    comparison = compare_runs([tmp_path / "good", tmp_path / "other"], options=options, inputs=inputs)
    assert comparison.labels == ("square",)
    # moved by 2 and 4 of 8 columns: Dice 3/4 and 1/2
    assert [pair.difference for pair in comparison.observer] == pytest.approx([1 / 4, -1 / 4])
    assert comparison.secondary[0].metric.title == "clDice"


def write_objects(folder, rows):
    """A table of medseg evaluate --objects: case → reference, predicted, PQ."""
    folder.mkdir()
    lines = [f"{case},{','.join(map(str, row))}" for case, row in rows.items()]
    (folder / "objects.csv").write_text("\n".join(["case,reference,predicted,pq", *lines, ""]))
    return folder


def test_tables_of_objects(tmp_path):
    """Finding nothing where there is nothing is the best score; other references are refused."""
    right = write_objects(tmp_path / "right", {"a": (3, 3, 0.8), "b": (0, 0, ""), "c": (0, 0, "")})
    false = write_objects(tmp_path / "false", {"a": (3, 3, 0.8), "b": (0, 1, 0.0), "c": (0, 0, "")})
    other = write_objects(tmp_path / "other", {"a": (2, 3, 0.6), "b": (0, 0, ""), "c": (0, 0, "")})
    options = ComparisonOptions(metric="pq", resamples=20)
    table = compare_runs([right, false], options=options).table
    assert table.values[:, :, 0].tolist() == [[0.8, 1.0, pytest.approx(math.nan, nan_ok=True)],
                                              [0.8, 0.0, pytest.approx(math.nan, nan_ok=True)]]  # fmt: skip
    assert list(table.excluded) == ["c"] or list(table.excluded) == ["c / all"]
    with pytest.raises(DataError, match=r"different references: 1 of their .*3 for right, 2 for other"):
        compare_runs([right, other], options=options)


def test_directions_of_the_scores_of_objects():
    columns = ("pooled_50", "f1_75", "pq", "pq_things", "aji_plus", "split", "merged")
    better = [resolve_metric(column).better for column in columns]
    assert better == ["higher"] * 5 + ["lower"] * 2
    assert resolve_metric("pooled_50").title == "TP/(TP+FP+FN)@0.5"


def test_names_of_methods(tmp_path):
    assert list(name_methods(["runs/a/metrics", "runs/b/metrics"])) == ["a", "b"]
    assert list(name_methods(["x/pred_a", "y=x/pred_b"])) == ["pred_a", "y"]
    with pytest.raises(ConfigError, match="also named 'a'"):
        name_methods(["a=1", "a=2"])
    with pytest.raises(ConfigError, match=r"runs/\.\./runs/a: given twice"):
        name_methods(["runs/a", "runs/b", "runs/../runs/a"])
    for second in ("b=runs/a", "b=runs/a/cases.csv"):
        with pytest.raises(ConfigError, match=r"runs/a(/cases\.csv)?: given twice"):
            name_methods(["a=runs/a", second])


def test_a_missing_table_of_groups_is_no_broken_table(tmp_path):
    with pytest.raises(DataError, match=r"nope\.csv: does not exist"):
        read_groups(tmp_path / "nope.csv")


def test_names_of_methods_are_escaped_in_markdown(tmp_path):
    paths = [write_table(tmp_path / f"{name}.csv", {"1": 0.5, "2": 0.6, "3": 0.7}) for name in "ab"]
    compare_runs({"<b>x|y</b>": paths[0], "z": paths[1]}, tmp_path / "out", QUICK)
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "&lt;b>x\\|y&lt;/b>" in text
    assert "<b>" not in text
    assert "?." not in text  # all scores are equal: are these results of the same predictions?


def test_a_wrong_suffix_names_all_options_of_suffixes(tmp_path):
    for folder, name in (("p", "a_2ndHO"), ("r", "a_1stHO")):
        write_picture(tmp_path / folder / f"{name}.png", np.eye(4, dtype=np.uint8))
    with pytest.raises(DataError, match="without exactly one reference") as error:
        read_method("p", tmp_path / "p", tmp_path / "r", EvaluationOptions(label_suffix="_1stHO"))
    for option in ("--label-suffix", "--prediction-suffix", "--observer-suffix"):
        assert option in str(error.value.hint)


def test_tables_of_other_tools(tmp_path):
    (tmp_path / "t.csv").write_text("subject,structure,HD95\n007,liver,3.5\n008,liver,\n", encoding="utf-8")
    rows = read_method("t", tmp_path / "t.csv").rows
    assert rows[0] == {"case": "007", "name": "liver", "HD95": 3.5}
    assert math.isnan(rows[1]["HD95"])
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected one row per case"):
        read_method("t", tmp_path / "bad.csv")
    (tmp_path / "twice.csv").write_text("case,dice\n1,0.2\n1,0.3\n", encoding="utf-8")
    with pytest.raises(DataError, match="two rows"):
        read_method("t", tmp_path / "twice.csv")
    with pytest.raises(DataError, match="does not exist"):
        read_method("t", tmp_path / "none.csv")


def test_text_in_other_columns_and_dashes_are_no_errors(tmp_path):
    (tmp_path / "a.csv").write_text("case,dice,note\n1,0.9,blurred\n2,0.8,\n")
    (tmp_path / "b.csv").write_text("case,dice,note\n1,0.4,\n2,-,fine\n")
    table = compare_runs([tmp_path / "a.csv", tmp_path / "b.csv"]).table
    assert table.missing["b"] == {"2": "no score"}


def test_numbers_are_grouped_by_their_median(tmp_path):
    lines = "".join(f"{i},{20 + i},f\n" for i in range(20))
    (tmp_path / "g.csv").write_text("case,age,sex\n" + lines, encoding="utf-8")
    groups = read_groups(tmp_path / "g.csv")
    assert set(groups["age"].values()) == {"≤ 29.5", "> 29.5"}
    assert set(groups["sex"].values()) == {"f"}


def test_tables_of_an_evaluation_are_not_replaced(tables):
    folders = [tables / name / "metrics" for name in ("old", "new")]
    with pytest.raises(ConfigError, match="tables of an evaluation"):
        compare_runs(folders, folders[0], QUICK)


def test_the_same_input_gives_the_same_result(tables):
    folders = [tables / name / "metrics" for name in ("old", "new")]
    assert compare_runs(folders, options=QUICK).to_json() == compare_runs(folders, options=QUICK).to_json()


def test_files_of_others_are_not_replaced(tables):
    folders = [tables / name / "metrics" for name in ("old", "new")]
    own = tables / "own"
    own.mkdir()
    (own / "rankings.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"has rankings\.csv but no comparison\.json"):
        compare_runs(folders, own, QUICK)
    assert [path.name for path in own.iterdir()] == ["rankings.csv"]


def test_a_comparison_without_groups_removes_their_table(tables):
    folders = [tables / name / "metrics" for name in ("old", "new")]
    (tables / "g.csv").write_text("case,site\n000,A\n001,B\n", encoding="utf-8")
    compare_runs(folders, tables / "out", QUICK, inputs=ComparisonInputs(groups=tables / "g.csv"))
    assert (tables / "out" / "subgroups.csv").exists()
    compare_runs(folders, tables / "out", QUICK)
    assert not (tables / "out" / "subgroups.csv").exists()


def test_notes_of_secondary_metrics_are_in_the_text(tmp_path):
    for name, far in (("a", "inf"), ("b", "2")):
        lines = "".join(f"{i},0.{5 + i},{far if i == 3 else 1}\n" for i in range(4))
        (tmp_path / f"{name}.csv").write_text("case,dice,hd95\n" + lines, encoding="utf-8")
    options = ComparisonOptions(resamples=5, also=("hd95",))
    compare_runs([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out", options)
    assert "Note: 1 infinite HD95 value counts as" in (tmp_path / "out" / "comparison.md").read_text()


@pytest.mark.parametrize("unknown", ["NA", "nan", "None", ""])
def test_unknown_numbers_are_in_no_group(tmp_path, unknown):
    lines = "".join(f"{i},{20 + i}\n" for i in range(20))
    (tmp_path / "g.csv").write_text(f"case,age\n{lines}20,{unknown}\n", encoding="utf-8")
    groups = read_groups(tmp_path / "g.csv")["age"]
    assert set(groups.values()) == {"≤ 29.5", "> 29.5"}
    assert "20" not in groups
    (tmp_path / "g.csv").write_text("case,drug\n1,none\n2,a\n3,NA\n", encoding="utf-8")
    assert read_groups(tmp_path / "g.csv")["drug"] == {"1": "none", "2": "a"}
