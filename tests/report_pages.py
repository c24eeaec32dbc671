"""Report pages of generated scores, for tests in a browser."""

import math

import numpy as np

from medseg.metrics import summarize
from medseg.metrics.instances import PanopticCounts, panoptic_scores
from medseg.metrics.instances.summary import SCORE_TITLES
from medseg.report.pages.comparison.page import write_comparison_page
from medseg.report.pages.evaluation import write_evaluation_page
from medseg.report.pages.objects import write_objects_page
from medseg.report.pages.panoptic import write_panoptic_page
from medseg.report.pages.training import TrainingRecord, write_training_page

LABELS = ("liver", "spleen", "left kidney")


def score_rows(cases, labels=LABELS):
    """Return rows as of ``cases.csv``; in some cases a structure is missed."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(cases):
        for value, name in enumerate(labels, start=1):
            dice, volume = (
                float(np.clip(rng.normal(0.92 - 0.03 * value, 0.05), 0, 1)),
                float(rng.lognormal(9, 0.5)),
            )
            missed = rng.random() < 0.01
            dice, distance = (0.0, math.inf) if missed else (dice, float(rng.gamma(2, 1.2)))
            predicted = 0.0 if missed else volume * float(rng.normal(1.02, 0.06))
            scores = {"dice": dice, "iou": dice / (2 - dice), "precision": dice, "recall": dice}
            distances = {"hd": distance, "hd95": distance, "assd": distance / 4, "masd": distance / 4}
            sizes = {"reference_volume_mm3": volume, "predicted_volume_mm3": predicted}
            counts = {"tp": int(volume * dice), "fp": 10, "fn": 10, "tn": 10**6}
            identity = {"case": f"case_{index:03d}", "label": str(value), "name": name, "status": "scored"}
            rows.append(identity | scores | distances | {"nsd": dice} | sizes | counts)
    return rows


def write_objects(path, cases=60):
    """Write the page of a comparison of objects, without pictures."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(cases):
        f1 = float(rng.uniform(0.4, 0.95))
        scores = dict.fromkeys(("f1_50", "f1_75", "f1_90", "pooled_50", "pooled_mean", "pq", "sq", "rq"), f1)
        counts = {"reference": 40, "predicted": 38, "found": int(39 * f1), "split": 1.0, "merged": 0.0}
        rows.append({"case": f"case_{index:03d}", **counts, **scores, "aji_plus": f1})
    scores = dict.fromkeys(SCORE_TITLES, 0.7)
    summary = {
        "scores": scores,
        "ceiling": scores,
        "classes": {name: {"reference": 20.0, **scores} for name in ("tumor", "immune")},
        "missing": {"case_000": "there is no label map"},
        "missing_policy": "worst",
        "extra": ["case_900"],
        "notes": ["no average precision and no CPM: 1 of 9 cases have objects without a score"],
        "failed": {"case_900": "label map of another size"},
        "sources": {"predictions": "found", "references": "labels"},
        "definitions": {"match": "one to one"},
    }
    write_objects_page(path, rows, summary)
    return path


def write_panoptic(path, cases=60):
    """Write the page of a comparison of panoptic segmentations of two things and stuff."""
    rng = np.random.default_rng(0)
    kinds = {"tumor_epithelial_cell": "thing", "lymphocyte": "thing", "connective tissue": "stuff"}
    names, things = list(kinds), [name for name, kind in kinds.items() if kind == "thing"]
    pooled = {name: PanopticCounts() for name in names}
    rows = []
    for index in range(cases):
        missing = index == 3
        tp = [0 if missing else int(rng.integers(8)), 0 if missing else 1, 0 if missing else 1]
        own = {n: PanopticCounts(k, int(not missing), 2, 0.8 * k) for n, k in zip(names, tp, strict=True)}
        for name, counts in own.items():
            pooled[name].add(counts)
        scores = panoptic_scores(own, things)
        parts = {f"pq_{name}": scores[name]["pq"] for name in ("things", "stuff")}
        case = f"slide-{index:04d}-01Z_patch_{index:03d}"
        rows.append({"case": case, **_sums(own), **scores["all"], **parts})
    classes = {n: {"kind": kinds[n], **_sums({n: one}), **one.scores()} for n, one in pooled.items()}
    summary = {
        "scores": panoptic_scores(pooled, things),
        "classes": classes,
        "missing": [rows[3]["case"]],
        "missing_policy": "worst",
        "extra": ["case_901"],
        "notes": [],
        "sources": {"predictions": "panoptic.json", "references": "panoptic_val.json"},
        "definitions": {"match": "IoU above 0.5"},
    }
    write_panoptic_page(path, rows, summary)
    return path


def _sums(counts):
    tp, fn, fp = (sum(getattr(one, key) for one in counts.values()) for key in ("tp", "fn", "fp"))
    return {"reference": tp + fn, "found": tp, "missed": fn, "false": fp}


def write_evaluation(path, cases=60, sections=None):
    rows = score_rows(cases)
    write_evaluation_page(path, rows, summarize(rows), sections)
    return path


def write_training(path, epochs=20):
    log = []
    for epoch in range(1, epochs + 1):
        share = 1 - math.exp(-epoch / 5)
        scores = {f"val_dice:{name}": 0.9 * share - 0.02 * i for i, name in enumerate(LABELS)}
        drawn = {f"drawn_{kind}:{name}": 0.3 for kind in ("patches", "voxels") for name in LABELS}
        entry = {"epoch": epoch, "step": 100 * epoch, "loss": 1 / epoch, "lr": 0.01 * (1 - epoch / epochs)}
        log.append(entry | {"seconds": 30.0, "val_dice": 0.88 * share} | scores | drawn)
    parts = ("train", "train", "val", "test")
    cases = [{"id": f"case_{i:03d}", "part": parts[i % 4]} for i in range(80)]
    validation = [{k: row[k] for k in ("case", "name", "dice")} for row in score_rows(20)]
    data = {"labels": "background, " + ", ".join(LABELS), "spacing (mm)": "1 × 1 × 2"}
    settings = {"network": "unet, 3D", "loss": "dice_ce"}
    record = TrainingRecord("abdomen", log, cases, validation, data=data, settings=settings)
    write_training_page(path, record)
    return path


def write_comparison(path, methods=("nnU-Net", "medseg"), cases=60, labels=LABELS):
    rng = np.random.default_rng(0)
    base = np.clip(rng.normal(0.85, 0.07, (cases, len(labels))), 0, 1)
    scores = np.stack(
        [np.clip(base + rng.normal(0.012 * m, 0.03, base.shape), 0, 1) for m in range(len(methods))]
    )
    results = [
        _result(methods, scores, (a, b), label, labels)
        for b in range(1, len(methods))
        for a in range(b)
        for label in ("overall", *labels)
    ]
    order = sorted(methods, key=lambda name: -scores[methods.index(name)].mean())
    shares = np.eye(len(methods)) * 0.6 + 0.4 / len(methods)
    ranks = {
        name: {"rank": i + 1.0, "score": 0.8, "low": 1.0, "high": 2.0, "shares": shares[i].tolist()}
        for i, name in enumerate(order)
    }
    schemes = ("aggregate-then-rank", "rank-then-aggregate", "test-then-rank")
    rankings = [{"scheme": s, "label": "overall", "methods": ranks, "kendall_tau": 0.8} for s in schemes]
    content = {
        "methods": list(methods),
        "labels": list(labels),
        "cases": [f"case_{i:03d}" for i in range(cases)],
        "metric": {"name": "dice", "title": "Dice", "better": "higher"},
        "scores": scores.tolist(),
        "results": results,
        "rankings": rankings,
        "missing": {methods[0]: {"case_007": "no label map"}},
        "notes": ["Both masks empty: Dice 1."],
        "options": {"alpha": 0.05, "missing": "worst", "resamples": 1000, "seed": 0},
    }
    write_comparison_page(path, content)
    return path


def _result(methods, scores, pair, label, labels):
    theirs, ours = (
        (s.mean(1) if label == "overall" else s[:, labels.index(label)]) for s in scores[list(pair)]
    )
    difference = ours - theirs
    error = difference.std(ddof=1) / len(difference) ** 0.5
    low, high = difference.mean() - 2 * error, difference.mean() + 2 * error
    found = {
        "n": len(difference), "mean_method": ours.mean(), "mean_baseline": theirs.mean(),
        "difference": difference.mean(), "ci_low": low, "ci_high": high, "wins": int((difference > 0).sum()),
        "losses": int((difference < 0).sum()), "ties": 0, "p_permutation_holm": 0.0004, "p_wilcoxon_holm": 0.01,
        "rank_biserial": 0.4, "cohen_dz": difference.mean() / difference.std(), "improvement": 0.66,
        "improvement_low": 0.53, "improvement_high": 0.77, "decision": "better" if low > 0 else "undecided",
    }  # fmt: skip
    return {"method": methods[pair[1]], "baseline": methods[pair[0]], "label": label} | found
