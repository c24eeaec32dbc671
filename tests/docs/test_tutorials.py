"""The code blocks of the tutorials run one after another in an empty folder."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_volume
from series import write_dicom
from starlette.testclient import TestClient

from medseg.cli.commands.annotation.serve import make_options
from medseg.cli.main import cli
from medseg.data.io.readers import read_scan
from medseg.server.app import create_app
from medseg.server.page.frame import Frame
from medseg.server.page.routes import pack

API = "/annotate/api/"

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
LABELED = [5, 3, 4]
"""Scans that are labeled in each call of ``medseg annotate``."""
SHORTER = {"cases=50": "cases=12", "train.iterations=20": "train.iterations=2", "(48, 48, 24)": "(40, 40, 16)"}
"""What the test replaces in tutorials whose data or trainings are larger than needed to see that they run."""
CONFIG_FILES = {
    "your-own-network": "study.yaml",
    "rgb-pictures": "shapes.yaml",
    "count-cells": "cells.yaml",
    "clinical-study": "study.yaml",
}


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
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    namespace = {"__name__": "tutorial"}
    rounds = iter(LABELED)
    blocks = re.findall(r"^```(python|sh|yaml)\n(.*?)^```", text, flags=re.S | re.M)
    assert blocks
    for language, block in blocks:
        if language == "yaml":
            (tmp_path / CONFIG_FILES[page]).write_text(block, encoding="utf-8")
        elif language == "python":
            exec(compile(block, f"{page}.md", "exec"), namespace)
        else:
            for line in block.splitlines():
                run_command(line, rounds)


def run_command(line, rounds):
    """Run one ``medseg`` command in this process; it must succeed."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "medseg", line
    if arguments[0] == "annotate":
        annotate_as_a_user(arguments[1:], next(rounds))
        return
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    assert result.return_value in (None, 0), f"{line}: {result.output}"


def annotate_as_a_user(arguments, cases):
    """Label the next cases by the requests of the page: proposal, a click, the reference as accepted label."""
    context = cli.commands["annotate"].make_context("annotate", arguments)
    data, models = context.params.pop("data"), context.params.pop("models")
    del context.params["open_"]
    app = create_app(make_options(data, models, context.params))
    store = app.state.server.datastore
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for _ in range(cases):
            case = client.post(f"{API}next", params={"strategy": "random"}).json()["case"]
            frame = Frame.of(store.scan(case))
            label = frame.to_page(read_scan(Path("reference/labels") / f"{case}.nii.gz").array[0])
            for model in client.get(f"{API}info").json()["models"]:
                help_of_model(client, case, model, [int(one) for one in np.argwhere(label == 1)[0]])
            query = {"accepted": 1, "author": "tutorial"}
            saved = client.put(f"{API}cases/{case}/label", params=query, content=pack(label.astype(np.uint8)))
            assert saved.json()["state"] == "accepted", saved.text


def help_of_model(client, case, model, voxel):
    """Request a proposal, or the answer to a click."""
    if model["kind"] == "automatic":
        assert client.post(f"{API}cases/{case}/proposal", params={"model": model["name"]}).status_code == 200
        return
    opened = {"case": case, "model": model["name"], "axis": 2, "index": voxel[2]}
    session = client.post(f"{API}sessions", json=opened).json()["session"]
    click = {"kind": "point", "position": voxel, "positive": True}
    assert client.post(f"{API}sessions/{session}/prompts", json=click).status_code == 200
    client.delete(f"{API}sessions/{session}")
