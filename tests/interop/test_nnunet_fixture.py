"""The same label maps as nnU-Net 2.8.1 made of seven images (beside the project: fixtures/nnunet)."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

from medseg.data.io.readers import read_scan
from medseg.geometry import grids_agree
from medseg.interop.nnunet.predict import NnunetPredictor

CASES = ["finer", "hippocampus_001", "hippocampus_003", "hippocampus_004", "padded", "thick", "tiled"]
MIRRORED = ("hippocampus_001", "padded", "thick")
"""Cases that are also compared with mirrors, which take eight times as long; the others are exhaustive."""


@pytest.fixture(scope="module")
def fixture() -> Path:
    folder = SHARED / "fixtures" / "nnunet"
    if not folder.is_dir():
        pytest.skip("nnU-Net's own predictions are not here")
    return folder


@pytest.fixture(scope="module")
def plain(fixture: Path) -> NnunetPredictor:
    return NnunetPredictor(fixture / "model", device="cpu", settings={"flips": []})


@pytest.fixture(scope="module")
def mirrored(fixture: Path) -> NnunetPredictor:
    return NnunetPredictor(fixture / "model", device="cpu")


def agreement(predictor: NnunetPredictor, fixture: Path, case: str, folder: str) -> float:
    prediction = predictor.predict(fixture / "images" / f"{case}_0000.nii.gz")
    reference = read_scan(fixture / folder / f"{case}.nii.gz")
    assert prediction.label_map.dtype == np.uint8
    assert grids_agree(prediction.scan.grid, reference.grid)
    return float((prediction.label_map == reference.array[0]).mean())


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("case", CASES)
def test_as_nnunet_without_mirrors(fixture, plain, case):
    assert agreement(plain, fixture, case, "plain") >= 0.9999


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    "case", [c if c in MIRRORED else pytest.param(c, marks=pytest.mark.exhaustive) for c in CASES]
)
def test_as_nnunet_with_mirrors(fixture, mirrored, case):
    assert agreement(mirrored, fixture, case, "mirrored") >= 0.9999
