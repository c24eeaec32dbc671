import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medseg.errors import ConfigError, DataError, ExistingFileError, GeometryError
from medseg.evaluation.interactive import (
    InteractiveCase,
    InteractiveOptions,
    TargetObject,
    evaluate_interactive,
    find_interactive_cases,
)
from medseg.evaluation.interactive.output import INTERACTIVE_OUTPUT, markdown_table, write_interactive
from medseg.evaluation.interactive.scribbles import RecordedScribbles
from medseg.evaluation.interactive.simulation import Replayed, Trace, dice, prompt_object
from medseg.evaluation.interactive.snapshots import take_snapshot
from medseg.geometry import Grid
from medseg.prompts import Box, Point, Scribble
from medseg.report.media.figures.prompts import PromptPicture


class Row:
    """A model whose mask is one more row with each prompt; fails on request."""

    spatial_dims = (2,)

    def __init__(self, fails=False, name="rows"):
        self.fails, self.name = fails, name

    def open(self, scan, spacing=None):
        if self.fails:
            raise RuntimeError("no memory for this")
        return RowSession(np.asarray(scan).shape[-2:])


class RowSession:
    def __init__(self, shape):
        self.shape = shape
        self.restart()

    def restart(self, mask=None):
        self.prompts = ()

    @property
    def mask(self):
        mask = np.zeros(self.shape, bool)
        mask[: len(self.prompts)] = True
        return mask

    def add(self, prompt):
        self.prompts += (prompt,)
        return self.mask


def top_rows(count, shape=(6, 5)):
    mask = np.zeros(shape, bool)
    mask[:count] = True
    return mask


def case_of(name, *counts, group="", recorded=None):
    objects = [TargetObject(f"rows {n}", "rows", top_rows(n), recorded or {}) for n in counts]
    return InteractiveCase(name, np.zeros((6, 5), np.float32), objects, group=group)


GRID = Grid((6, 5), np.eye(3))
OPTIONS = InteractiveOptions(users=("clicks",), counts=(1, 2, 5), targets=(0.8, 0.99))


def test_scores_by_hand():
    # object of 3 rows: Dice 2/4, 4/5, 1 and the user stops
    result = evaluate_interactive(Row(), [case_of("a", 3)], OPTIONS)
    row = result.rows[0]
    assert row["interactions"] == 3
    assert [row[f"dice_{n}"] for n in (1, 2, 5)] == pytest.approx([0.5, 0.8, 1.0])
    assert (row["to_0.80"], row["to_0.99"]) == (2, 3)
    assert [step["dice"] for step in result.steps] == pytest.approx([0.5, 0.8, 1.0])
    assert result.curve("rows", "clicks")[1] == pytest.approx([0.5, 0.8, 1.0, 1.0, 1.0])


def test_object_that_is_not_reached_is_a_failure_and_censored():
    options = InteractiveOptions(users=("clicks",), counts=(1, 2), targets=(0.8, 0.99))
    result = evaluate_interactive(Row(), [case_of("a", 3), case_of("b", 2)], options)
    assert result.rows[0]["to_0.99"] == math.inf
    scores = result.summary["scores"][0]["interactions"]["0.99"]
    assert scores["mean"] == 2.0  # 2 (censored) and 2
    assert scores["failures"] == 1
    assert scores["failure_share"] == 0.5


def test_cases_weigh_the_same():
    # case a: objects of 1 and 2 rows, Dice@1 of 1 and 2/3; case b: one of 3 rows, 1/2
    result = evaluate_interactive(Row(), [case_of("a", 1, 2), case_of("b", 3)], OPTIONS)
    assert result.summary["scores"][0]["dice"]["1"]["mean"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert result.summary["scores"][0]["objects"] == 3


def test_model_that_fails_has_dice_zero():
    result = evaluate_interactive(Row(fails=True), [case_of("a", 3)], OPTIONS, baselines=[Row(name="other")])
    bad, good = result.rows
    assert (bad["dice_1"], bad["dice_last"], bad["to_0.80"]) == (0.0, 0.0, math.inf)
    assert "no memory for this" in bad["error"]
    assert good["error"] == ""
    assert result.summary["model_errors"] == 1
    difference = result.summary["differences"][0]
    assert difference["dice"]["last"]["mean"] == pytest.approx(-1.0)


def test_recorded_scribbles_are_replayed_in_order():
    recorded = {
        "ann": [Scribble(np.array([[0, 0]])), Scribble(np.array([[5, 0]]), positive=False)],
        "bob": [Scribble(np.array([[1, 1]]))],
    }
    options = InteractiveOptions(counts=(1, 2, 3))
    result = evaluate_interactive(Row(), [case_of("a", 4, recorded=recorded)], options)
    assert [(row["user"], row["who"]) for row in result.rows] == [
        ("human", "ann"), ("human", "bob"), ("clicks", "")
    ]  # fmt: skip
    ann, bob, _ = result.rows
    assert ann["dice_2"] == pytest.approx(4 / 6)
    assert math.isnan(ann["dice_3"])  # nothing more was drawn, though the mask is not right
    assert math.isnan(bob["dice_2"])
    human = result.summary["scores"][0]
    assert human["dice"]["last"]["mean"] == pytest.approx((4 / 6 + 2 / 5) / 2)
    assert human["interactions"]["0.85"]["mean"] == 2.0


def test_mask_on_another_grid_is_the_models_failure():
    trace = prompt_object(RowSession((3, 3)), top_rows(2), Replayed([Point((0, 0))]), 1)
    assert "mask (3, 3) for a scan (6, 5)" in trace.error


def test_failure_of_the_user_is_not_the_models(monkeypatch):
    def fail(self, reference, rng):
        raise ValueError("no hand")

    monkeypatch.setattr("medseg.prompts.users.ClickUser.first", fail)
    options = InteractiveOptions(users=("clicks",), counts=(1,))
    recorded = {"ann": [Point((0, 0))]}
    with pytest.raises(DataError, match="no hand"):
        evaluate_interactive(Row(), [case_of("a", 3, recorded=recorded)], options)


def test_users_draw_the_same_for_every_order_of_cases():
    cases = [case_of("a", 3), case_of("b", 4)]
    options = InteractiveOptions(users=("random-clicks",), counts=(2,))
    one = evaluate_interactive(Row(), cases, options)
    other = evaluate_interactive(Row(), cases[::-1], options)
    positions = [[p.position for p in r.trace.prompts] for r in (one.results[0], other.results[1])]
    assert positions[0] == positions[1]


def test_dice_of_empty_masks():
    assert dice(top_rows(0), top_rows(0)) == 1.0
    assert Trace(error="x").final == 0.0


def test_groups_and_tables(tmp_path, monkeypatch):
    cases = [case_of("a", 3, group="one"), case_of("b", 2, group="two")]
    result = evaluate_interactive(Row(), cases, OPTIONS, baselines=[Row(name="other")])
    write_interactive(tmp_path / "out", result)
    text = (tmp_path / "out" / "interactive.md").read_text()
    assert text == markdown_table(result.summary)
    assert [line.split("|")[3].strip() for line in text.splitlines()[2:5]] == ["all", "one", "two"]
    rows = list(csv.DictReader((tmp_path / "out" / "interactive_objects.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["a", "a", "b", "b"]
    assert len((tmp_path / "out" / "interactions.csv").read_text().splitlines()) == 1 + 2 * (3 + 2)
    summary = json.loads((tmp_path / "out" / "interactive.json").read_text())
    assert [one["group"] for one in summary["differences"]] == ["", "one", "two"]
    assert summary["scores"][0]["group"] == ""
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Worst objects" in page
    assert "interactions" in page
    INTERACTIVE_OUTPUT.check(tmp_path / "out")
    monkeypatch.setitem(vars(result), "steps", [])
    write_interactive(tmp_path / "out", result, report=False)
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {"interactive_objects.csv", "interactive.md", "interactive.json"}  # no earlier steps or page
    (tmp_path / "out" / "interactive.json").write_text("[]")
    with pytest.raises(ExistingFileError, match="was not written by"):
        INTERACTIVE_OUTPUT.check(tmp_path / "out")


def write_pictures(folder, labels, *, scribbles=None):
    for name, values in labels.items():
        for part, array in (("images", values * 40), ("labels", values)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(folder / part / f"{name}.png")


def two_objects():
    values = np.zeros((20, 30), np.uint8)
    values[2:8, 2:8] = 1
    values[12:18, 4:20] = 2
    values[2:8, 20:26] = 2
    return values


@pytest.mark.parametrize(
    ("objects", "names"),
    [
        ("classes", ["label_1", "label_2"]),
        ("components", ["label_1 1", "label_2 1", "label_2 2"]),
        ("instances", ["object 1", "object 2"]),
    ],
)
def test_objects_of_a_dataset(tmp_path, objects, names):
    write_pictures(tmp_path / "data", {"a": two_objects(), "b": two_objects()})
    options = InteractiveOptions(objects=objects)
    cases = [one.read(options) for one in find_interactive_cases(tmp_path / "data", options)]
    assert [one.id for one in cases] == ["a", "b"]
    assert [target.name for target in cases[0].objects] == names
    assert cases[0].objects[0].mask.sum() == 36


def test_small_and_surplus_objects_are_left_out(tmp_path):
    values = two_objects()
    values[0, 0] = 3
    write_pictures(tmp_path / "data", {"a": values, "b": values})
    options = InteractiveOptions(objects="components", most_objects=2)
    case = find_interactive_cases(tmp_path / "data", options)[0].read(options)
    assert (len(case.objects), case.skipped) == (2, 2)
    again = find_interactive_cases(tmp_path / "data", options)[0].read(options)
    assert [o.name for o in again.objects] == [o.name for o in case.objects]


def test_recorded_scribbles_of_people(tmp_path):
    painted = np.zeros((6, 5), np.uint8)
    painted[0, 1:3], painted[5, 0] = 1, 2
    for who in ("ann", "bob"):
        (tmp_path / who).mkdir()
    Image.fromarray(painted).save(tmp_path / "ann" / "a.png")
    Image.fromarray(painted).save(tmp_path / "bob" / "a_liver.png")
    recorded = RecordedScribbles(tmp_path)
    found = recorded.of("a", ["liver"], GRID)["liver"]
    assert list(found) == ["ann", "bob"]
    inside, outside = found["ann"]
    assert inside.voxels.tolist() == [[0, 1], [0, 2]]
    assert not outside.positive
    assert list(recorded.of("a", ["liver", "spleen"], GRID)) == ["liver"]  # a.png names none of several objects
    assert list(recorded.of("a", ["liver", "spleen"], GRID)["liver"]) == ["bob"]
    Image.fromarray(painted * 100).save(tmp_path / "ann" / "a.png")
    with pytest.raises(DataError, match=r"values \[100, 200\]"):
        recorded.of("a", ["liver"], GRID)


def test_scribbles_of_no_case(tmp_path, caplog):
    Image.fromarray(np.ones((6, 5), np.uint8)).save(tmp_path / "b.png")
    recorded = RecordedScribbles(tmp_path)
    with pytest.raises(DataError, match="no image of scribbles has the name of a case"):
        recorded.check(["a"])
    Image.fromarray(np.ones((6, 5), np.uint8)).save(tmp_path / "a_liver.png")
    recorded.check(["a"])
    assert "scribbles of no case: b" in caplog.text


def test_human_without_scribbles(tmp_path):
    write_pictures(tmp_path / "data", {"a": two_objects(), "b": two_objects()})
    with pytest.raises(DataError, match="no recorded scribbles"):
        find_interactive_cases(tmp_path / "data", InteractiveOptions(users=("human",)))


def test_scribbles_on_another_grid(tmp_path):
    Image.fromarray(np.ones((5, 6), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(GeometryError, match=r"a\.png: scribbles on another grid"):
        RecordedScribbles(tmp_path).of("a", ["liver"], GRID)


def test_archives_are_checked(tmp_path):
    label = np.ones((8, 9), np.uint8)
    np.savez(tmp_path / "a.npz", image=np.zeros((8, 9, 3)), label=label)
    np.savez(tmp_path / "b.npz", image=np.zeros((9, 8)), label=label)
    np.savez(tmp_path / "c.npz", image=label, label=label, scribbles=np.zeros((3, 2, 9, 8)))
    good, *bad = find_interactive_cases(tmp_path, OPTIONS)
    assert good.read(OPTIONS).scan.shape == (3, 8, 9)
    for case, message in zip(bad, ("image has the shape", "scribbles have the shape"), strict=True):
        with pytest.raises(DataError, match=message):
            case.read(OPTIONS)


def test_archives_with_scribbles(tmp_path):
    label = np.zeros((8, 8), np.uint8)
    label[2:6, 2:6] = 1
    scribbles = np.zeros((3, 2, 8, 8), np.uint8)
    scribbles[:, 0, 3, 3], scribbles[:, 1, 0, 0] = 1, 1
    np.savez(tmp_path / "source_1.npz", image=label * 50, label=label, scribbles=scribbles)
    options = InteractiveOptions()
    case = find_interactive_cases(tmp_path, options)[0].read(options)
    assert (case.id, case.group) == ("source_1", "source")
    assert list(case.objects[0].recorded) == ["person 1", "person 2", "person 3"]
    assert case.channels().shape == (1, 8, 8)


@pytest.mark.parametrize(
    "values",
    [{"counts": (3, 1)}, {"counts": ()}, {"targets": (1.5,)}, {"most_objects": 0}, {"users": ("clicker",)}],
)
def test_options_are_checked(values):
    with pytest.raises(ConfigError):
        InteractiveOptions(**values)


def test_methods_have_different_names():
    with pytest.raises(ConfigError, match="different names"):
        evaluate_interactive(Row(), [case_of("a", 3)], OPTIONS, baselines=[Row()])


def test_without_any_object():
    with pytest.raises(DataError, match="no object"):
        evaluate_interactive(Row(), [case_of("a")], OPTIONS)


def test_picture_shows_masks_and_prompts():
    reference = top_rows(20, (40, 40))
    mask = top_rows(10, (40, 40))
    points = np.array([[5.0, 5.0]]), np.zeros((0, 2))
    drawn = np.array(PromptPicture(np.zeros((40, 40, 1), np.uint8), reference, mask, *points).draw()).astype(
        int
    )
    scale = drawn.shape[1] / 40
    assert tuple(drawn[round(20 * scale), -20]) == (255, 255, 255)  # border of the reference
    assert tuple(drawn[round(10 * scale), -20]) == (255, 176, 0)
    assert tuple(drawn[round(5.5 * scale), round(5.5 * scale)]) == (60, 200, 90)


def test_gallery_keeps_the_worst_and_draws_no_more():
    cases = [case_of(name, count) for name, count in (("a", 1), ("b", 3), ("c", 6), ("d", 4))]
    options = InteractiveOptions(users=("clicks",), counts=(1,), pictures=2)
    result = evaluate_interactive(Row(), cases, options, baselines=[Row(name="other")])
    assert [one.case for one, _ in result.worst] == ["c", "d"]  # Dice 2/7 and 2/5
    assert {one.method for one, _ in result.worst} == {"rows"}
    assert not evaluate_interactive(Row(), cases, replace(options, pictures=0)).worst


def test_picture_of_a_volume_is_the_slice_with_most_error():
    reference = np.zeros((8, 9, 6), bool)
    reference[2:5, 2:6, 1:5] = True
    mask = reference.copy()
    mask[2:4, 2:5, 3] = False
    case = InteractiveCase("a", np.zeros((8, 9, 6)), [TargetObject("x", "x", reference)])
    prompts = [Point((3, 3, 3)), Point((3, 3, 1)), Box((1, 1, 0), (6, 7, 6))]
    picture = take_snapshot(case, case.objects[0], Trace([0.9], [0.1], prompts, mask))
    assert (picture.mask == mask[..., 3]).all()
    assert picture.positive.tolist() == [[3, 3]]  # the click in this slice
    assert picture.lines[0].tolist() == [[1, 1], [1, 6], [5, 6], [5, 1], [1, 1]]
