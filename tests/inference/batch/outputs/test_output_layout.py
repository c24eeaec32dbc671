"""Paths of label maps, with values by hand."""

import json
from pathlib import Path

import pytest
from conftest import write_volume

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.inference.batch.outputs.layout import check_clashes, label_path, legend_texts

OUT = Path("out")


@pytest.mark.parametrize(
    ("case", "layout", "expected"),
    [
        ("a_1", "flat", "a_1.nii.gz"),
        ("a_1", "nnunet", "a_1.nii.gz"),
        ("a_1", "bids", "sub-a1/anat/sub-a1_dseg.nii.gz"),
        ("sub-01", "bids", "sub-01/anat/sub-01_dseg.nii.gz"),
        ("sub-01_ses-2_run-1", "bids", "sub-01/ses-2/anat/sub-01_ses-2_run-1_dseg.nii.gz"),
        ("sub-01_ses-2_run-1_T1w", "bids", "sub-01/ses-2/anat/sub-01_ses-2_run-1_dseg.nii.gz"),
        ("sub-01_acq-a_ses-2_T2w", "bids", "sub-01/ses-2/anat/sub-01_acq-a_ses-2_dseg.nii.gz"),
        ("sub-01_big_x_T1w", "bids", "sub-01/anat/sub-01_desc-bigx_dseg.nii.gz"),
    ],
)
def test_paths_of_label_maps(case, layout, expected):
    assert label_path(OUT, case, ".nii.gz", layout) == OUT / expected


def test_cases_with_the_same_bids_name_are_an_error():
    check_clashes(OUT, ["a-1", "a_1"], "flat")
    with pytest.raises(ConfigError, match="a-1 and a_1"):
        check_clashes(OUT, ["a-1", "a_1", "b"], "bids")


def test_legends():
    labels = LabelSchema(names={"no": (0,), "liver": (5,)}, colors={"liver": (255, 0, 16)})
    assert legend_texts(labels, ".png", "flat") == {}
    flat = legend_texts(labels, ".nii.gz", "flat")
    assert sorted(flat) == ["labels.ctbl", "labels_itksnap.txt"]
    assert flat["labels.ctbl"].endswith("5 liver 255 0 16 255\n")
    nnunet = legend_texts(labels, ".nii.gz", "nnunet")
    assert json.loads(nnunet["dataset.json"])["labels"] == {"no": 0, "liver": 5}
    bids = legend_texts(labels, ".nii.gz", "bids")
    assert bids["dseg.tsv"] == "index\tname\tcolor\n0\tno\tn/a\n5\tliver\t#ff0010\n"
    assert json.loads(bids["dataset_description.json"])["DatasetType"] == "derivative"


def test_the_command_writes_bids(tmp_path):
    import torch

    from medseg.cli.main import run
    from medseg.data.preprocessing.pipeline import PreprocessConfig
    from medseg.inference.model.model_file import ModelHeader, save_model
    from medseg.inference.options import InferenceConfig
    from medseg.models import UNetConfig

    header = ModelHeader(
        spatial_dims=3, channels=1, labels=LabelSchema(names={"no": (0,), "a": (1,)}),
        preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(8, 8, 8)), model=UNetConfig(channels=(2, 4)),
    )  # fmt: skip
    model = tmp_path / "m.safetensors"
    save_model(model, header, dict(header.model.build(header.task).state_dict()))
    scan = write_volume(tmp_path / "scan.nii.gz", torch.randn(9, 8, 8).numpy())
    command = ["infer", str(scan), "--model", str(model), "--output", str(tmp_path / "out"), "--layout", "bids"]
    assert run(command) == 0
    assert (tmp_path / "out" / "sub-scan" / "anat" / "sub-scan_dseg.nii.gz").is_file()
