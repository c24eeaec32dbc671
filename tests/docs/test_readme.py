"""The README's study runs unchanged, and its commands exist."""

import re
import shutil
from pathlib import Path

import click
from conftest import ball_settings

from medseg.cli.main import cli
from medseg.config.schema import load_config
from medseg.models.inspection.catalog import architecture_configs

README = Path(__file__).resolve().parents[2] / "README.md"


DOCS = README.parent / "docs"


def blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def test_the_example_in_python_runs(balls, tmp_path, monkeypatch):
    settings = ball_settings(tmp_path / "DATA")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(balls, "DATA")
    shutil.copy(sorted(Path("DATA/images").iterdir())[0], "scan.nii.gz")
    code = blocks("python")[0].replace('{"data": {"path": "DATA"}}', "settings")
    namespace = {"__name__": "example", "settings": settings}
    exec(compile(code, "README.md", "exec"), namespace)
    assert namespace["label_map"].shape == (20, 20, 20)


def test_the_example_configuration_is_valid(tmp_path):
    path = tmp_path / "liver.yaml"
    path.write_text(blocks("yaml", DOCS / "reference" / "config.md")[0])
    assert load_config(path).train.epochs == 100


def test_the_commands_and_options_exist():
    pages = [README, *sorted((README.parent / "docs").rglob("*.md"))]
    for line in "\n".join(block for page in pages for block in blocks("sh", page)).splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["medseg"]:
            command = cli.commands[words[1]]
            command = command.commands[words[2]] if isinstance(command, click.Group) else command
            known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
            assert {word for word in words if word.startswith("--")} <= known, line


def test_every_configuration_is_valid_and_states_its_score():
    files = sorted((README.parent / "configs").glob("*.yaml"))
    assert len(files) >= 2
    for path in files:
        load_config(path)
        header = path.read_text(encoding="utf-8").split("\n\n")[0]
        assert re.search(r"medseg train configs/" + path.name, header), path
        assert re.search(r"minutes on (2 cores|one core|a shared core)", header), path
        assert re.search(r"(Dice|AP50|IoU of 0\.5:?|mean over IoUs of 0\.5 to 0\.95:) 0\.\d+", header), path


def test_the_page_of_models_names_every_architecture():
    page = (README.parent / "docs" / "reference" / "architectures.md").read_text(encoding="utf-8")
    names = [str(config.model_fields["name"].default) for config in architecture_configs()]
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.M) == names
