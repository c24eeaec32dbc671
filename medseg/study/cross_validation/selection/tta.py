"""Test-time augmentation chosen on out-of-fold predictions."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.errors import ConfigError
from medseg.files import write_json
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.tta_search import (
    TTAVariant,
    VariantScore,
    mean_dice_of_case,
    select_variant,
    tta_variants,
)
from medseg.progress import Progress, stage
from medseg.study.cross_validation.folder import FoldFolder
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.predictions import load_fold
from medseg.study.cross_validation.settings import Study

MOST_COST = 4.0
"""Largest time of a prediction, as a multiple of one without test-time augmentation."""


def choose_tta(study: Study, folds: Folds, progress: Progress) -> list[VariantScore]:
    """Compare mirrors and scales on the held-out cases of every fold, and choose as ``medseg tune --tta`` does.

    The scores of a fold are kept in its folder.

    Args:
        study: the study; all of its folds are trained.
        folds: the cases.
        progress: receives every fold.

    Returns:
        The score of each variant; the first is that without test-time augmentation.
    """
    numbers = range(study.request.folds)
    with stage(progress, len(numbers), "comparing mirrors and scales", unit="folds") as shown:
        records: list[dict[str, Any]] = []
        for number in numbers:
            fold = study.folder.fold(number)
            records.append(_fold_scores(study, fold, folds.held_out(number), progress))
            shown.advance(fold.name)
    variants = [TTAVariant(tuple(one["flips"]), tuple(one["scales"])) for one in records[0]["variants"]]
    dice = np.concatenate([np.array(one["dice"], np.float64) for one in records], axis=1)
    seconds = np.mean([one["seconds"] for one in records], axis=0)
    return select_variant(variants, dice.tolist(), seconds.tolist())


def tta_settings(scores: Sequence[VariantScore]) -> dict[str, Any]:
    """Return the settings of ``inference`` of the chosen variant; none without test-time augmentation."""
    best = next(one for one in scores if one.chosen)
    if best is scores[0]:
        return {}
    return {"flips": best.variant.flips, "scales": best.variant.scales}


def are_scored(study: Study) -> bool:
    """Return whether the variants of every fold were scored."""
    return all(_file(study.folder.fold(number)).is_file() for number in range(study.request.folds))


def _file(fold: FoldFolder) -> Path:
    return fold.root / "tta.json"


def _fold_scores(study: Study, fold: FoldFolder, cases: Sequence[Case], progress: Progress) -> dict[str, Any]:
    """Return the variants with their Dice (one list per variant) and seconds; kept scores are read."""
    file, plain = _file(fold), load_fold(study, fold)
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept.get("model", plain.digest) == plain.digest:  # else the fold was trained again
            return kept
    variants = _variants(plain.header, fold)
    dice: list[list[float]] = []
    seconds: list[float] = []
    with stage(progress, len(variants) * len(cases), "comparing variants") as shown:
        for variant in variants:
            settings: dict[str, Any] = {"flips": variant.flips, "scales": variant.scales, "postprocess": {}}
            predictor, began = load_fold(study, fold, **settings), time.monotonic()
            dice.append([mean_dice_of_case(predictor, case, shown) for case in cases])
            seconds.append((time.monotonic() - began) / len(cases))
    shown_variants = [{"flips": one.flips, "scales": one.scales} for one in variants]
    write_json(file, {"model": plain.digest, "variants": shown_variants, "dice": dice, "seconds": seconds})
    return json.loads(file.read_text(encoding="utf-8"))


def _variants(header: ModelHeader, fold: FoldFolder) -> list[TTAVariant]:
    if header.augmentation is None:
        raise ConfigError(f"{fold.run.model}: does not record the augmentation of its training")
    return tta_variants(header.augmentation, header.spatial_dims, MOST_COST)
