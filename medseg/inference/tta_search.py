"""Choose mirrors and scales of test-time augmentation on the validation cases of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medseg.data.cases import Case
from medseg.errors import ConfigError
from medseg.geometry import Array
from medseg.inference.batch.input_discovery import run_cases
from medseg.inference.model.ensemble.member import OwnNetwork
from medseg.inference.model.model_file import LoadedModel, ModelHeader, find_model_file, load_model, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.postprocessing_search import LEAST_GAIN, predicted_names, prediction_and_reference
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.metrics.overlap import count_overlap, dice, mean_defined
from medseg.progress import Progress, QuietProgress, stage

Item = TypeVar("Item", int, float)

Item = TypeVar("Item", int, float)

Item = TypeVar("Item", int, float)

Item = TypeVar("Item", int, float)

LEVEL = 0.05
"""Level of the test of a gain, divided by the number of variants."""

_SCALES = (0.75, 1.25)
_EXACT_CASES, _DRAWS = 12, 10_000


@dataclass(frozen=True)
class TTAVariant:
    """Mirrors and scales, as in ``inference.flips`` and ``inference.scales``.

    Attributes:
        flips: axes that are mirrored, in all combinations.
        scales: factors of the window's size, besides 1; of 2D networks.

    Example:
        >>> TTAVariant(flips=(0,), scales=(0.5,)).cost
        2.5
    """

    flips: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()

    @property
    def cost(self) -> float:
        """Time of a prediction, as a multiple of one without test-time augmentation."""
        return 2 ** len(self.flips) * (1 + sum(scale**2 for scale in self.scales))


@dataclass(frozen=True)
class VariantScore:
    """The score of a variant on the validation cases.

    Attributes:
        variant: the variant.
        dice: mean over cases of the mean Dice of their labels.
        gain: difference of ``dice`` from that without test-time augmentation.
        p_value: probability of a gain this large by chance (one-sided sign-flip test over cases).
        seconds: mean time of a prediction.
        chosen: whether it is stored in the model file.
    """

    variant: TTAVariant
    dice: float
    gain: float
    p_value: float
    seconds: float
    chosen: bool = False


def tune_tta(
    run: Path,
    *,
    most_cost: float = 4.0,
    model: OwnNetwork | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[VariantScore]:
    """Try mirrors and scales on the validation cases, and store those in the model file that raise the Dice.

    Only mirrors and scales that the training used are tried. A variant is eligible if it adds at least 0.001 to
    the mean Dice and the gain is significant (p at most 0.05 / number of variants in a paired sign-flip test).
    Of the eligible ones within 0.001 of the largest gain, the cheapest is stored; without one, no mirrors and
    scales. The first stage of a cascade gets the same mirrors, as it had them when the variant was measured.

    Args:
        run: run folder.
        most_cost: largest time of a prediction, as a multiple of one without test-time augmentation.
        model: the network, or the function that builds it, of a training with a network of your own.
        device: device of the predictions, such as ``cuda:0``.
        progress: receives the progress over variants and cases. Default: none is shown.

    Returns:
        The score of each variant; the first is that without test-time augmentation.

    Raises:
        ConfigError: the model file does not record the augmentation of its training.
        DataError: the run has no labeled validation cases.
    """
    path = find_model_file(Path(run))
    loaded = LoadedModel(*load_model(path))
    header = loaded.header
    if header.augmentation is None:
        raise ConfigError(f"{path}: was written by an earlier version, which did not record the augmentation")
    variants = tta_variants(header.augmentation, header.spatial_dims, most_cost)
    cases = run_cases(Path(run), "val")
    tables: list[list[float]] = []
    seconds: list[float] = []
    with stage(progress or QuietProgress(), len(variants) * len(cases), "comparing variants") as shown:
        for variant in variants:
            settings: dict[str, Any] = {"flips": variant.flips, "scales": variant.scales, "postprocess": {}}
            predictor = Predictor(loaded, model=model, device=device, settings=settings)
            began = time.monotonic()
            tables.append([mean_dice_of_case(predictor, case, shown) for case in cases])
            seconds.append((time.monotonic() - began) / len(cases))
    scores = select_variant(variants, tables, seconds)
    best = next(one for one in scores if one.chosen)
    record = {"gain": best.gain, "p_value": best.p_value, "cases": len(cases), "dice": best.dice}
    inference = header.inference.model_copy(update={"flips": best.variant.flips, "scales": best.variant.scales})
    changed = {
        "inference": inference,
        "first_stages": tuple(with_flips(stage, best.variant.flips) for stage in header.first_stages),
        "training": {**header.training, "tta": record},
    }
    save_model(path, header.model_copy(update=changed), loaded.tensors)
    return scores


def tta_variants(trained: TrainedAugmentation, dims: int, most_cost: float) -> list[TTAVariant]:
    """Return the variants that a training allows, up to a cost; the first one is without mirrors and scales.

    Args:
        trained: mirrors and scales of the training.
        dims: of the network; scales are for 2D networks.
        most_cost: largest :attr:`TTAVariant.cost`.
    """
    low, high = trained.scale
    scales = [scale for scale in _SCALES if dims == 2 and low <= scale <= high]
    pairs = product(_subsets(trained.mirror_axes), _subsets(scales))
    variants = [TTAVariant(flips, chosen) for flips, chosen in pairs]
    return [one for one in variants if one == TTAVariant() or one.cost <= most_cost]


def select_variant(
    variants: Sequence[TTAVariant], tables: Sequence[Sequence[float]], seconds: Sequence[float]
) -> list[VariantScore]:
    """Compare variants with the first one, and mark the one to use.

    Args:
        variants: the first is without test-time augmentation.
        tables: the Dice of each case, for each variant; nan where reference and prediction are empty. This
            counts as 1 if another variant predicts something there; otherwise the case is left out.
        seconds: mean time of a prediction, for each variant.
    """
    values = np.asarray(tables, np.float64)
    undefined = np.isnan(values)
    values = np.where(undefined, 1.0, values)[:, ~undefined.all(axis=0)]
    differences = values - values[0]
    scores = [
        VariantScore(
            variant,
            dice=float(own.mean()) if own.size else float("nan"),
            gain=float(difference.mean()) if own.size else 0.0,
            p_value=sign_flip_p(difference) if number else 1.0,
            seconds=duration,
        )
        for number, (variant, own, difference, duration) in enumerate(
            zip(variants, values, differences, seconds, strict=True)
        )
    ]
    level = LEVEL / max(1, len(scores) - 1)
    eligible = [one for one in scores if one.gain >= LEAST_GAIN and one.p_value <= level]
    most = max((one.gain for one in eligible), default=0.0)
    near = [one for one in eligible if one.gain >= most - LEAST_GAIN] or scores[:1]
    best = min(near, key=lambda one: (one.variant.cost, -one.gain))
    return [replace(one, chosen=one is best) for one in scores]


def with_flips(stage: ModelHeader, flips: tuple[int, ...]) -> ModelHeader:
    """Return the header of a first stage with other mirrors."""
    return stage.model_copy(update={"inference": stage.inference.model_copy(update={"flips": flips})})


def mean_dice_of_case(predictor: Predictor, case: Case, progress: Progress) -> float:
    """Segment a case and return the mean Dice of its labels; nan if none is in it."""
    prediction = predictor.predict(case)
    masks = prediction_and_reference(case, prediction.scan, prediction.label_map, predictor.header)
    names = predicted_names(predictor.header)
    progress.advance(case.id)
    return mean_defined(dice(count_overlap(masks[name][1], masks[name][0])) for name in names)


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Compute the one-sided p value of a mean above 0 by flipping the signs of paired differences.

    All combinations of signs are used for up to 12 differences, else 10,000 random ones.

    Example:
        >>> sign_flip_p([0.1, 0.2, 0.3])
        0.125
    """
    values = np.asarray(differences, np.float64)
    if len(values) <= _EXACT_CASES:
        numbers: Array = np.arange(1 << len(values))
        signs: Array = 1.0 - 2 * (numbers[:, None] >> np.arange(len(values)) & 1)
        sums: Array = signs @ values
        return float(np.sum(sums >= values.sum() - 1e-12) / len(sums))
    drawn: Array = np.random.default_rng(0).choice((-1.0, 1.0), size=(_DRAWS, len(values)))
    return float((np.sum(drawn @ values >= values.sum() - 1e-12) + 1) / (_DRAWS + 1))


def _subsets(items: Sequence[Item]) -> list[tuple[Item, ...]]:
    return list(chain.from_iterable(combinations(items, n) for n in range(len(items) + 1)))
