import re

from medseg.report.pages.training import TrainingRecord, write_training_page


def entry(epoch, dice=None):
    scores = {} if dice is None else {"val_dice": dice, "val_dice:a": dice + 0.1, "val_dice:b": dice - 0.1}
    drawn = {"drawn_patches:a": 0.5, "drawn_voxels:a": 0.25, "drawn_patches:b": 1.0, "drawn_voxels:b": 0.01}
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "loss": 1 / epoch,
        "lr": 0.01,
        "seconds": 60.0,
        **scores,
        **drawn,
    }


CASES = [{"id": f"c{i}", "part": part} for i, part in enumerate(("train", "train", "val", "test"))]
VALIDATION = [
    {"case": "c2", "name": "a", "dice": 0.9},
    {"case": "c2", "name": "b", "dice": 0.31},
    {"case": "c3", "name": "b", "dice": None},
]


def text_of(tmp_path, record):
    write_training_page(tmp_path / "report.html", record)
    page = (tmp_path / "report.html").read_text()
    return page, re.sub("<[^>]*>", "", page.partition("<main")[2])


def test_a_training_says_how_good_it_is_and_where_it_is_worst(tmp_path):
    log = [entry(1, 0.5), entry(2, 0.75), entry(3), entry(4, 0.7)]
    record = TrainingRecord("liver", log, CASES, VALIDATION, total=40, warnings=["few cores"])
    page, text = text_of(tmp_path, record)
    assert "The training has ended after 40 updates; best validation Dice is 0.750, at update 20" in text
    assert "It is the best of 3 validations of 2 cases: expect lower scores on new cases" in text
    assert "Dice by label, lowest first: b 0.650, a 0.850" in text
    assert "There was no improvement in the 1 validation since" in text
    assert "Where the latest validation is worst: c2, b (0.310); c2, a (0.900)" in text
    assert "2 training, 1 validation, 1 test" in text
    assert "4 min of updates" in text
    assert "few cores" in text
    assert "validation Dice over the steps. mean of the labels: 0.5 at step 10, 0.7 at step 40" in page
    drawn = page.partition("<caption>What the patches of an epoch contained")[2].partition("</table>")[0]
    row = re.search('<th scope="row">a</th>.*?</tr>', drawn)[0]
    assert re.findall('value="([^"]*)"', row) == ["50", "25", "50", "25"]


def test_a_running_training_says_so(tmp_path):
    _, text = text_of(tmp_path, TrainingRecord("liver", [entry(1, 0.5)], total=40, running=True))
    assert "The training is running after 10 of 40 updates" in text


def test_without_validation_and_without_epochs(tmp_path):
    assert "without validation" in text_of(tmp_path, TrainingRecord("liver", [entry(1)]))[1]
    assert "No epoch is complete yet" in text_of(tmp_path, TrainingRecord("liver", []))[1]
