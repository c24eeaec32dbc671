"""Train every architecture of ``configs/architectures`` on the same pictures; tables of size, cost and Dice.

    .venv/bin/python benchmarks/architectures.py NUCLEI            # all, 2 to 5 minutes each
    .venv/bin/python benchmarks/architectures.py NUCLEI --only unet pspnet
    .venv/bin/python benchmarks/architectures.py --page     # write the tables into the documentation

Each row is written to ``benchmarks/architectures.csv`` when it is measured, so that a run that was cut off is
gone on with by naming the rest.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from pathlib import Path
from typing import Any

import torch

from medseg import Predictor, evaluate_cases, fit, infer_cases, load_config
from medseg.inference.batch.input_discovery import run_cases
from medseg.metrics import write_csv
from medseg.models.inspection.catalog import build_catalog, count_cost, markdown_table
from medseg.system.allocator import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "architectures.csv"
PAGE = ROOT / "docs" / "reference" / "architectures.md"


def configurations() -> dict[str, Path]:
    """The configurations by their names: ``<dataset>_<architecture>``."""
    return {p.stem: p for p in sorted((ROOT / "configs" / "architectures").glob("*_*.yaml"))}


def measure(path: Path, data: Path, output: Path) -> dict[str, Any]:
    """Train, predict the test cases, evaluate; one row of the table."""
    config = load_config(path, [f"data.path={data}"])
    began = time.perf_counter()
    run = fit(config, output / path.stem).run
    minutes = (time.perf_counter() - began) / 60
    predictor = Predictor(run)
    infer_cases(predictor, run_cases(run, "test"), output / f"{path.stem}_predictions")
    scores = evaluate_cases(output / f"{path.stem}_predictions", data / "labels")
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = [entry["seconds"] for entry in epochs if "seconds" in entry]
    parameters, flops = count_cost(config.model, predictor.header.task, config.roi_size)
    return {
        "configuration": path.stem,
        "model": config.model.name,
        "parameters": parameters,
        "gflops": round(flops / 1e9, 2),
        "window": "×".join(map(str, config.roi_size)),
        "seconds_per_epoch": round(sum(seconds) / len(seconds), 1),
        "minutes": round(minutes, 1),
        "dice": round(scores.summary["overall"]["mean_dice"]["mean"], 3),
        "threads": torch.get_num_threads(),
    }


def read_results() -> dict[str, dict[str, Any]]:
    """The rows measured so far, by configuration."""
    if not RESULTS.is_file():
        return {}
    with RESULTS.open(encoding="utf-8", newline="") as stream:
        return {row["configuration"]: row for row in csv.DictReader(stream)}


def results_table(rows: dict[str, dict[str, Any]]) -> str:
    """The measured rows as Markdown."""
    lines = [
        "| `configs/architectures/` | `model.name` | parameters | GFLOPs | s / epoch | minutes | Dice |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name in configurations():
        if name in rows:
            row = rows[name]
            figures = (
                f"{int(row['parameters']):,}",
                f"{float(row['gflops']):.2f}",
                f"{float(row['seconds_per_epoch']):.0f}",
                f"{float(row['minutes']):.1f}",
                f"{float(row['dice']):.3f}",
            )
            lines.append(f"| `{name}.yaml` | `{row['model']}` | {' | '.join(figures)} |")
    return "\n".join(lines)


def fill(page: str, tables: dict[str, str]) -> str:
    """A page with its tables, each between ``<!-- NAME -->`` and ``<!-- /NAME -->``, replaced."""
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", page, flags=re.S)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the dataset the configurations are for")
    parser.add_argument("--only", nargs="+", default=[], help="architectures, as their files are called")
    parser.add_argument("--dataset", default="nuclei", help="first word of the files' names")
    parser.add_argument("--output", type=Path, default=Path("runs/architectures"))
    parser.add_argument("--page", action="store_true", help="write the tables into the page on architectures")
    given = parser.parse_args()
    if given.page:
        tables = {"catalog": markdown_table(build_catalog()), "measured": results_table(read_results())}
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
        return
    if given.data is None:
        parser.error("name the folder of the dataset")
    keep_freed_memory()  # as every command of medseg does
    for name, path in configurations().items():
        dataset, _, architecture = name.partition("_")
        if dataset == given.dataset and (not given.only or architecture in given.only):
            row = measure(path, given.data, given.output)
            print(row, flush=True)
            write_csv(RESULTS, list({**read_results(), name: row}.values()))


if __name__ == "__main__":
    main()
