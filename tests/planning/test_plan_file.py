"""Plans as commented configuration files."""

from pathlib import Path

import pytest

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.errors import ConfigError
from medseg.planning.draft import Draft
from medseg.planning.plan_file import check_plan_target, format_plan, write_plan


def test_the_file_holds_all_settings(tmp_path: Path):
    kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
    config = load_config({"data": {"path": str(tmp_path)}, "model": {"kernel": kernels}, "augment": "none"})
    reasons = {"model.kernel": "thick slices " * 20, "train": "the loop", "data.path": "here"}
    text = format_plan(config, reasons, ["Data: 3 volumes. " * 10, "Machine: CPU."])
    write_plan(tmp_path / "new" / "plan.yaml", text)
    assert load_config(tmp_path / "new" / "plan.yaml") == config
    lines = text.splitlines()
    assert lines[0].startswith("# Data: 3 volumes.")
    assert max(map(len, lines)) <= 112
    train = lines.index("train:")
    assert lines[train - 1] == "# the loop"
    kernel = next(i for i, line in enumerate(lines) if line.startswith("  kernel: [[1, 3, 3]"))
    assert lines[kernel - 1].startswith("  # ")


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08\xff label map",
        b'{"labels": {"background": 0}}',
        b"id,image\na,a.png\n",
        b"a: [",
        b"- 1\n",
    ],
)
def test_a_plan_does_not_replace_a_file_of_the_dataset(tmp_path, content, capsys):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert run(["plan", str(tmp_path), "-o", str(path)]) == 2
    assert "exists and is no configuration file" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_a_plan_replaces_an_earlier_one_or_an_empty_file(tmp_path):
    path = tmp_path / "plan.yaml"
    check_plan_target(path)
    for text in ("", format_plan(load_config(), {}), "base: other.yaml\ntrain: {epochs: 2}\n"):
        path.write_text(text)
        check_plan_target(path)
    path.write_text(format_plan(load_config(), {}) + " " * (1 << 20))
    with pytest.raises(ConfigError):
        check_plan_target(path)


def test_short_blocks_are_on_one_line():
    text = format_plan(load_config(), {})
    assert "  flip: {probability: 0.0, axes: []}" in text


def test_a_draft_keeps_settings_and_reasons():
    draft = Draft()
    draft.set("train.ema", 0.99, "short")
    draft.explain("train", "the loop")
    assert draft.settings == {"train": {"ema": 0.99}}
    assert draft.reasons == {"train.ema": "short", "train": "the loop"}
