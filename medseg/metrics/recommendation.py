"""Which metrics suit a question: the main rules of Metrics Reloaded.

Source: Maier-Hein, Reinke et al. 2024, "Metrics reloaded: recommendations for image analysis validation",
doi:10.1038/s41592-023-02151-z, and the pitfalls in Reinke et al. 2024, doi:10.1038/s41592-023-02150-0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Task = Literal["semantic", "instance"]
Focus = Literal["overlap", "boundary", "volume", "centerline"]
Worse = Literal["missed", "false", "equal"]

SMALL_RADIUS = 3.0
"""Radius in voxels up to which a structure counts as small: one voxel changes its Dice by percents."""
TUBE_BALLS = 12.0
"""Volume of a tube or tree, in balls of its radius, from which it is much longer than thick."""
TUBE_FILLED = {2: 0.25, 3: 0.1}
"""Share of its box that a tube or tree fills at most, in pictures and volumes: vessels of the retina fill 0.11,
membranes between cells 0.23, but parts of a hippocampus 0.22 and 0.49."""
VARYING_RADIUS = 2.0
"""Ratio of large to small radii from which sizes vary: volumes by 8 times."""
MANY_COMPONENTS = 2.0
"""Median number of components from which a case has several objects."""
IMBALANCE = 10.0
"""Ratio of voxels from which classes are imbalanced."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to the questions; None is unknown and treated as the cautious answer.

    Attributes:
        task: ``semantic``: which voxels belong to a class. ``instance``: which objects there are.
        focus: what matters most.
        small: structures of few voxels.
        varying: sizes differ much between cases or objects.
        tubular: thin, branching structures such as vessels.
        imbalanced: classes, or foreground and background, differ much in size.
        several: several separate objects in a case.
        touching: objects touch or overlap.
        absent: cases without the structure.
        imprecise: the reference is imprecise at the boundary, or experts differ.
        worse: which error is worse.
        probabilities: probabilities are used, not only label maps.
    """

    task: Task | None = None
    focus: Focus | None = None
    small: bool | None = None
    varying: bool | None = None
    tubular: bool | None = None
    imbalanced: bool | None = None
    several: bool | None = None
    touching: bool | None = None
    absent: bool | None = None
    imprecise: bool | None = None
    worse: Worse | None = None
    probabilities: bool | None = None


QUESTIONS: dict[str, str] = {
    "task": "Is the question which voxels belong to a class (semantic), or which objects there are (instance)?",
    "focus": "What matters most: overlap, boundary, volume or centerline?",
    "small": "Are the structures small, a few voxels across?",
    "varying": "Do their sizes differ much?",
    "tubular": "Are they thin and branching, such as vessels?",
    "imbalanced": "Do the classes differ much in size?",
    "several": "Can a case have several separate objects, such as lesions?",
    "touching": "Do objects touch or overlap?",
    "absent": "Are there cases without the structure?",
    "imprecise": "Is the reference imprecise at the boundary, or do experts differ?",
    "worse": "Which error is worse: missed structures, false ones, or equal?",
    "probabilities": "Are the probabilities used, not only the label maps?",
}


@dataclass(frozen=True, slots=True)
class StructureFacts:
    """What a dataset says about one class.

    Attributes:
        name: of the class.
        voxel_share: share of the labeled voxels.
        case_share: share of the cases that contain it.
        components: median number of components in a case; None if not measured.
        radius: median radius of the largest balls inside it, in voxels; None if not measured.
        radius_ratio: ratio of large to small radii over the cases.
        extent: share of the longest axis that it spans.
        component_voxels: median size of a component.
    """

    name: str
    voxel_share: float
    case_share: float
    components: float | None = None
    radius: float | None = None
    radius_ratio: float | None = None
    extent: tuple[float, ...] = ()
    component_voxels: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A metric and why it suits.

    Attributes:
        columns: of ``measure_case``, or the name of a function of ``medseg.metrics``.
        why: reason, a sentence.
    """

    columns: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Result of ``recommend_metrics``.

    Attributes:
        metrics: recommended, the most important first.
        warnings: metrics to avoid or to interpret with care, and other pitfalls.
        answers: that the advice follows from, unknown ones replaced.
    """

    metrics: tuple[Recommendation, ...]
    warnings: tuple[str, ...]
    answers: Answers


def answers_from_data(structures: Sequence[StructureFacts]) -> tuple[Answers, dict[str, str]]:
    """Answer the questions that a dataset can answer.

    Args:
        structures: the classes, without the background.

    Returns:
        The answers, and question → the numbers that it was answered from.

    Example:
        >>> facts = StructureFacts("lesion", 0.001, 0.8, components=5, radius=2.0, radius_ratio=3.0)
        >>> answers, _ = answers_from_data([facts])
        >>> answers.small, answers.several, answers.absent
        (True, True, True)
    """
    answers, reasons = Answers(), dict[str, str]()
    shares = [one.voxel_share for one in structures if one.voxel_share > 0]
    if len(shares) > 1:
        ratio = max(shares) / min(shares)
        answers = replace(answers, imbalanced=ratio >= IMBALANCE)
        reasons["imbalanced"] = f"the largest class has {ratio:.0f} times as many voxels as the smallest"
    if structures:
        rarest = min(structures, key=lambda one: one.case_share)
        answers = replace(answers, absent=rarest.case_share < 1)
        reasons["absent"] = f"{rarest.name} is in {rarest.case_share:.0%} of the cases"
    thin = [(one.radius, one.name) for one in structures if one.radius is not None]
    if thin:
        radius, name = min(thin)
        answers = replace(answers, small=radius <= SMALL_RADIUS, tubular=any(map(_is_tubular, structures)))
        reasons["small"] = f"{name} has a radius of {radius:.1f} voxels"
        reasons["tubular"] = "length and thickness of the classes, and how much of their boxes they fill"
    ratios = [(one.radius_ratio, one.name) for one in structures if one.radius_ratio is not None]
    if ratios:
        ratio, name = max(ratios)
        answers = replace(answers, varying=ratio >= VARYING_RADIUS)
        reasons["varying"] = f"large {name} has {ratio:.1f} times the radius of small {name}"
    counts = [(one.components, one.name) for one in structures if one.components is not None]
    if counts:
        count, name = max(counts)
        answers = replace(answers, several=count >= MANY_COMPONENTS)
        reasons["several"] = f"{name} has a median of {count:.0f} components in a case"
    return answers, reasons


def recommend_metrics(answers: Answers) -> Advice:
    """Recommend metrics, with reasons and pitfalls.

    Args:
        answers: to the questions.

    Example:
        >>> advice = recommend_metrics(Answers(task="semantic", focus="boundary", small=False))
        >>> advice.metrics[0].columns
        ('nsd',)
    """
    settled = _settled(answers)
    metrics = [*_detection(settled), *_overlap(settled), *_boundary(settled), *_others(settled)]
    if settled.focus == "boundary" and settled.task == "semantic":
        metrics.sort(key=lambda one: "nsd" not in one.columns)
    return Advice(tuple(metrics), tuple(_warnings(settled)), settled)


def _settled(answers: Answers) -> Answers:
    """Replace unknown answers: the usual question, and caution elsewhere."""
    several = bool(answers.several)
    return Answers(
        task=answers.task or ("instance" if answers.touching else "semantic"),
        focus=answers.focus or ("centerline" if answers.tubular else "overlap"),
        small=bool(answers.small),
        varying=bool(answers.varying),
        tubular=bool(answers.tubular),
        imbalanced=bool(answers.imbalanced),
        several=several,
        touching=bool(answers.touching),
        absent=answers.absent is not False,
        imprecise=answers.imprecise is not False,
        worse=answers.worse or "equal",
        probabilities=bool(answers.probabilities),
    )


def _is_tubular(facts: StructureFacts) -> bool:
    """Whether a class is much longer than thick and fills little of its box: about a tube or a tree."""
    if not facts.radius or not facts.component_voxels or not facts.extent:
        return False
    ball = 4 / 3 * math.pi * facts.radius**3 if len(facts.extent) == 3 else math.pi * facts.radius**2
    filled = facts.voxel_share / math.prod(facts.extent)
    return facts.component_voxels > TUBE_BALLS * ball and filled < TUBE_FILLED.get(len(facts.extent), 0.0)


def _detection(answers: Answers) -> Iterator[Recommendation]:
    if answers.task == "instance":
        yield Recommendation(
            ("panoptic_quality",),
            "it combines detection and segmentation of objects in one number; report sq and rq beside it",
        )
    if answers.task == "instance" or (answers.several and not answers.tubular):
        by_overlap = answers.small or not answers.touching
        columns = ("lesion_sensitivity_any", "lesion_fp_any") if by_overlap else ("lesion_f1",)
        yield Recommendation(
            ("lesion_f1", *(column for column in columns if column != "lesion_f1")),
            "a score over all voxels hides small objects that were missed beside a large one; "
            + (
                "small objects count as found by any overlap"
                if by_overlap
                else "objects are matched one-to-one"
            ),
        )
        if answers.varying:
            yield Recommendation(
                ("lesion_dice", "lesion_sensitivity_<=…"),
                "sizes differ much: give every object the same weight, and show sensitivity by size "
                "(LesionOptions.size_edges)",
            )


def _overlap(answers: Answers) -> Iterator[Recommendation]:
    if answers.worse != "equal":
        which = "missed voxels (β = 2)" if answers.worse == "missed" else "false voxels (β = 0.5)"
        yield Recommendation(("f_beta", "precision", "recall"), f"it weighs {which} higher than Dice does")
    if answers.focus == "centerline" or answers.tubular:
        yield Recommendation(
            ("cldice",), "it compares the courses of thin structures, whose thickness dominates Dice"
        )
        yield Recommendation(
            ("betti0_error", "betti1_error"), "breaks and false connections of a network change few voxels"
        )
    if not (answers.small and answers.focus == "boundary"):
        yield Recommendation(("dice",), "the common overlap metric, comparable with published results")


def _boundary(answers: Answers) -> Iterator[Recommendation]:
    reason = "the tolerance is the distance between experts, so their differences do not count as errors"
    if not answers.imprecise:
        reason = "the share of the boundary that is right, with a tolerance of about a voxel"
    yield Recommendation(("nsd",), f"boundary errors, which overlap hides in large structures: {reason}")
    if answers.focus == "boundary":
        yield Recommendation(
            ("hd95",), "the size of the worst errors in mm; unlike hd it does not depend on a single voxel"
        )
        yield Recommendation(("masd",), "the mean error in mm, both directions with the same weight")
    if answers.focus == "boundary" and not answers.small:
        yield Recommendation(("boundary_iou",), "overlap of the rims, sensitive in large structures")


def _others(answers: Answers) -> Iterator[Recommendation]:
    if answers.focus == "volume":
        yield Recommendation(
            ("relative_volume_difference", "volume_similarity"),
            "the quantity that is used; report bias and limits of agreement (Bland–Altman) over cases",
        )
    if answers.probabilities:
        yield Recommendation(("ece", "brier", "nll"), "whether probabilities can be taken at face value")
        if answers.imbalanced or answers.absent:
            yield Recommendation(
                ("average_precision",), "quality over all thresholds; unlike AUROC it ignores true negatives"
            )


def _warnings(answers: Answers) -> Iterator[str]:
    if answers.small:
        yield (
            "Structures are small: Dice and IoU change by percents with one voxel, and boundary distances are "
            "about a voxel. Do not compare them between datasets of different voxel sizes."
        )
    if answers.imbalanced:
        yield (
            "Classes differ much in size: accuracy and specificity are near 1 for every method; pixel accuracy "
            "and frequency-weighted IoU describe the large classes. Report each class and their mean."
        )
    if answers.absent:
        yield (
            "Some cases lack the structure: Dice is undefined (nan) where both are empty and 0 for one false "
            "voxel. Report n and n_nan, and false positives (lesion_fp_any, fp_volume) in these cases."
        )
    if answers.imprecise:
        yield "Measure the differences between experts, and take the tolerance of nsd from them, per class."
    if answers.focus == "volume":
        yield "volume_similarity is 1 for equal volumes in different places: never report it without overlap."
    if answers.touching and answers.task == "semantic":
        yield "Objects touch: connected components join them; use instance maps and panoptic_quality."
    if answers.tubular:
        yield "A skeleton depends on noise at the surface: inspect it before you rely on clDice."
    yield "Choose metrics before you see results; report one overlap and one boundary metric with intervals."
