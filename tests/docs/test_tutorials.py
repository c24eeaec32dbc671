"""The code blocks of the tutorials run one after another in an empty folder."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_volume
from series import write_dicom

from medseg.cli.main import cli

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
CONFIG_FILES = {"your-own-network": "study.yaml", "rgb-pictures": "shapes.yaml", "clinical-study": "study.yaml"}


def write_study(folder):
    """Five annotated CT series and two others, each with a bright cuboid."""
    for i in range(1, 8):
        rng = np.random.default_rng(i)
        label = np.zeros((10, 24, 24), np.uint8)
        z, y, x = rng.integers(1, 5), *rng.integers(2, 12, 2)
        label[z : z + 5, y : y + 9, x : x + 9] = 1
        voxels = rng.normal(-50, 10, label.shape) + 150 * label
        annotated = i <= 5
        name = f"p{i:02d}" if annotated else f"p{i + 5}"
        write_dicom(folder / ("study/images" if annotated else "new") / name, voxels, spacing=(1.0, 1.0))
        if annotated:  # (slices, rows, columns) in LPS → (X, Y, Z) in RAS
            affine = np.array([[-1.0, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
            write_volume(folder / "study" / "labels" / f"{name}.nii.gz", label.transpose(2, 1, 0), affine)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(path.stem for path in TUTORIALS.glob("*.md") if path.stem != "index"))
def test_tutorial_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page == "clinical-study":
        write_study(tmp_path)
    text = (TUTORIALS / f"{page}.md").read_text(encoding="utf-8")
    namespace = {"__name__": "tutorial"}
    blocks = re.findall(r"^```(python|sh|yaml)\n(.*?)^```", text, flags=re.S | re.M)
    assert blocks
    for language, block in blocks:
        if language == "yaml":
            (tmp_path / CONFIG_FILES[page]).write_text(block, encoding="utf-8")
        elif language == "python":
            exec(compile(block, f"{page}.md", "exec"), namespace)
        else:
            for line in block.splitlines():
                run_command(line)


def run_command(line):
    """Run one ``medseg`` command in this process; it must succeed."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "medseg", line
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    assert result.return_value in (None, 0), f"{line}: {result.output}"
