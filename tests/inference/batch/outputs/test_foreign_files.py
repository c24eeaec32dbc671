"""Files of others with the names of what medseg writes once for a folder of predictions."""

import numpy as np
import pytest
import torch
from conftest import write_picture
from tiny_model import OVERWRITE, contents

from medseg.cli.main import run
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.foreign_files import check_folders
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.instances.options import InstanceTask
from medseg.models import UNetConfig

CELL = LabelSchema(names={"background": (0,), "cell": (1,)})


def save_model_of(path, instances):
    """A model of pictures with random weights, which finds objects if it is one of objects."""
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=2, channels=1, labels=CELL, preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(16, 16)), model=UNetConfig(channels=(2, 4)), instances=instances,
    )  # fmt: skip
    save_model(path, header, header.model.build(header.task).state_dict())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model_of(tmp_path_factory.mktemp("model") / "cells.safetensors", InstanceTask())


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    return write_picture(tmp_path / "images" / "a.png", pixels)


def infer(model, picture, output):
    return run(["infer", str(picture), "--model", str(model), "--output", str(output), "--overwrite"])


@pytest.mark.parametrize("table", ["users,own\n", "case,instance\na,1\n", "\xe9\n", "folder"])
def test_a_table_of_objects_of_others_is_never_replaced(model, picture, tmp_path, capsys, table):
    path = tmp_path / "out" / "instances.csv"
    if table == "folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_bytes(table.encode("latin-1"))  # é is no UTF-8
    before = contents(tmp_path)
    assert infer(model, picture, path.parent) == 2
    assert "instances.csv: file exists, and medseg did not write it" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_the_own_table_of_objects_is_replaced(model, picture, tmp_path):
    out, predictor = tmp_path / "out", Predictor(model, device="cpu", backend="torch", amp="off")
    [first] = infer_cases(predictor, find_inputs([picture]), out)
    table = (out / "instances.csv").read_text()
    (out / "instances.csv").write_text(table + "a,99,cell,1\n")
    [second] = infer_cases(predictor, find_inputs([picture]), out, OVERWRITE)
    assert (first.status, second.status) == ("done", "done")
    assert (out / "instances.csv").read_text() == table


def test_a_model_of_classes_keeps_the_table_of_others_where_earlier_objects_would_be_listed(
    model, picture, tmp_path
):
    out = tmp_path / "out"
    infer_cases(Predictor(model, device="cpu", backend="torch", amp="off"), find_inputs([picture]), out)
    (out / "instances.csv").write_text("users,own\n")
    other = write_picture(tmp_path / "more" / "b.png", np.zeros((16, 16), np.uint8))
    classes = Predictor(save_model_of(tmp_path / "classes.safetensors", None), device="cpu", backend="torch")
    with pytest.raises(ConfigError, match=r"instances\.csv: file exists"):
        infer_cases(classes, find_inputs([other]), out)
    # alone in a folder, the table is in nobody's way
    (tmp_path / "free").mkdir()
    (tmp_path / "free" / "instances.csv").write_text("users,own\n")
    [outcome] = infer_cases(classes, find_inputs([other]), tmp_path / "free")
    assert outcome.status == "done"
    assert (tmp_path / "free" / "instances.csv").read_text() == "users,own\n"


@pytest.mark.parametrize("name", ["instances", "provenance"])
def test_a_file_with_the_name_of_a_folder_is_one_error(model, picture, tmp_path, capsys, name):
    file = tmp_path / "out" / name
    file.parent.mkdir()
    file.write_text("mine")
    before = contents(tmp_path)
    assert infer(model, picture, file.parent) == 2
    error = capsys.readouterr().err
    assert f"{file}: expected a folder, which takes outputs of each case, found a file" in error
    assert "Errno" not in error
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("probabilities", BatchOptions(probabilities=True)),
        ("overlays", BatchOptions(overlays=True)),
        ("dicom", BatchOptions(dicom=("seg",))),
    ],
)
def test_files_with_the_names_of_folders_that_are_asked_for_are_errors(tmp_path, name, options):
    segmenter = Predictor(save_model_of(tmp_path / "classes.safetensors", None), device="cpu", backend="torch")
    for other in ("probabilities", "overlays", "dicom", "instances"):
        if other != name:
            (tmp_path / other).write_text("mine")  # not written to by these options
    check_folders(segmenter, tmp_path, options)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="expected a folder"):
        check_folders(segmenter, tmp_path, options)
