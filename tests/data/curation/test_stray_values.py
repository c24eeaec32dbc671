"""Label values that are probably mistakes."""

from types import SimpleNamespace

from conftest import write_balls, write_volume

from medseg.cli.main import run
from medseg.data.curation.label_findings import find_stray_values
from medseg.data.io.readers import read_scan
from medseg.data.labels.label_plan import ResolvedSchema
from medseg.data.labels.schema import guess_schema
from medseg.data.options import DataConfig
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.training.dataset.preparation import NetworkNeeds, prepare_dataset


def balls_with_a_stray_value(folder):
    root = write_balls(folder, cases=4)
    path = root / "labels" / "ball_2.nii.gz"
    label = read_scan(path).array[0].copy()
    label[0, 0, :3] = 7
    write_volume(path, label)
    return root


def stray(*counts):
    """Values that are stray in cases of (background, value 1, value 2) voxels."""
    cases = [SimpleNamespace(id=str(i), label_counts=dict(enumerate(c))) for i, c in enumerate(counts)]
    cases = [
        SimpleNamespace(id=c.id, label_counts={v: n for v, n in c.label_counts.items() if n}) for c in cases
    ]
    return find_stray_values(cases, ResolvedSchema(guess_schema({0, 1, 2}), guessed=True))


def test_few_voxels_in_few_cases_are_stray():
    # 3 of 4003 labeled voxels: 0.07%, in 1 of 4 cases
    assert stray((9, 1000, 0), (9, 1000, 3), (9, 1000, 0), (9, 1000, 0)) == {2: {"1": 3}}


def test_a_rare_label_and_a_small_label_are_not():
    assert stray((9, 1000, 0), (9, 1000, 50), (9, 1000, 0), (9, 1000, 0)) == {}  # 1.2% of the voxels
    assert stray((9, 1000, 1), (9, 1000, 1), (9, 1000, 0), (9, 1000, 0)) == {}  # half of the cases


def test_declared_values_are_not_stray():
    counts = {"a": {0: 9, 1: 9000}, "b": {0: 9, 1: 9000}, "c": {2: 1}}
    cases = [SimpleNamespace(id=name, label_counts=values) for name, values in counts.items()]
    schema = guess_schema({0, 1, 2})
    assert find_stray_values(cases, ResolvedSchema(schema, guessed=True)) == {2: {"c": 1}}
    assert find_stray_values(cases, ResolvedSchema(schema)) == {}


def test_check_warns_and_the_hint_works(tmp_path, capsys):
    root = balls_with_a_stray_value(tmp_path / "data")
    assert run(["data", "check", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "warning  ball_2: label value 7 occurs in 1 of 4 cases (3 voxels; ball_2): a mistake?" in printed
    assert printed.splitlines()[-1] == "4 readable cases, 0 problems, 1 warning"
    settings = ["data.labels.names={background: 0, label_1: 1, label_2: 2}", "data.labels.others=background"]
    quoted = settings[0].replace("={", "='{") + "'"
    assert f"{quoted} {settings[1]}" in printed
    assert run(["data", "check", str(root), *settings]) == 0
    assert "warning" not in capsys.readouterr().out


def test_training_warns(tmp_path):
    config = DataConfig(path=balls_with_a_stray_value(tmp_path / "data"))
    prepared = prepare_dataset(config, PreprocessConfig(), NetworkNeeds(3, (8, 8, 8)), tmp_path / "facts")
    assert len(prepared.warnings) == 1
    assert "label value 7 occurs in 1 of 4 cases" in prepared.warnings[0]
    assert "data.labels.others=background" in prepared.warnings[0]
