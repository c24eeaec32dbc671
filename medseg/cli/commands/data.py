"""``medseg data``: check, summarize, repair and convert datasets."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import (
    OUTPUT,
    PATH,
    Command,
    all_options,
    debug_option,
    json_option,
    label_suffix_option,
)

if TYPE_CHECKING:
    from medseg.data.curation.check import DatasetReport
    from medseg.data.curation.repair import SameShape
    from medseg.data.labels.schema import LabelSchema
    from medseg.data.options import DataConfig
    from medseg.errors import Finding

_SOURCE = click.argument("source", type=PATH)
_MOST_LISTED = 20
_OVERRIDES = click.argument("overrides", nargs=-1)


def _options(command: Command) -> Command:
    """Add the options that all commands of this group share."""
    labels = click.option(
        "--labels", help="Names of the labels: NAME=VALUE[,…], or a medseg.json. Other values are reported."
    )
    return all_options(labels, label_suffix_option, json_option, debug_option)(command)


@click.group()
def data() -> None:
    """Check, summarize, repair and convert datasets.

    SOURCE is a folder in a supported layout, a manifest (CSV or JSON) or a configuration file. OVERRIDES are
    settings of the data, such as data.labels.others=background.
    """


@data.command("check")
@_SOURCE
@_OVERRIDES
@_options
@click.option("--fix", type=OUTPUT, help="Write repaired copies to this new folder.")
@click.option("--map", "mapping", help="Label values to replace with --fix: OLD=NEW[,…].")
@click.option(
    "--same-shape",
    type=click.Choice(["leave-out", "resample", "image-grid"]),
    default="leave-out",
    show_default=True,
    help="What --fix does with a label map that has its image's shape but another affine: leave the case out, "
    "resample the label map, or give it the image's grid.",
)
@click.option("--all", "every", is_flag=True, help="List all cases, not only those with findings.")
def data_check(
    source: Path,
    overrides: tuple[str, ...],
    labels: str | None,
    label_suffix: str | None,
    as_json: bool,
    fix: Path | None,
    mapping: str | None,
    same_shape: SameShape,
    every: bool,
) -> int:
    """Check every case of a dataset; no file is changed.

    Exits with 3 if there are problems that prevent training; with --fix, if the repaired copies still have such
    problems.
    """
    from medseg.data.curation.repair import RepairOptions, check_repaired, repair
    from medseg.errors import DataError

    if mapping and not fix:
        raise click.UsageError("--map needs --fix DIR")
    dataset = _dataset(source, overrides, labels, label_suffix)
    report = dataset.check()
    options = RepairOptions(_mapping(mapping), same_shape)
    repairs = (
        repair(report if dataset.as_stored else dataset.with_values().check(), fix, options) if fix else None
    )
    left = report.problems
    if repairs and fix and repairs.done:
        left = check_repaired(report, fix, patient=dataset.config.patient)
    if as_json:
        content: dict[str, Any] = {
            "layout": report.listing.layout,
            "cases": [_case_row(f, report) for f in report.statistics],
            "findings": [f.as_dict() for f in report.findings],
        }
        if repairs:
            content |= {"repairs": vars(repairs), "problems_left": [f.as_dict() for f in left]}
        click.echo(json.dumps(content, indent=2))
    else:
        _print_report(report, every)
        if repairs and fix:
            _print_repairs(repairs, fix)
            _print_findings(left)
            click.echo(f"{_plural(len(left), 'problem')} left in {fix}" if repairs.done else "nothing to write")
    return DataError.exit_code if left else 0


@data.command("summary")
@_SOURCE
@_OVERRIDES
@_options
@click.option("--output", type=OUTPUT, help="Folder for summary.json and summary.html.")
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Number of cases shown on the page.",
)
@click.option("--compare", type=PATH, help="Another dataset; the page shows what differs. Needs --output.")
def data_summary(
    source: Path,
    overrides: tuple[str, ...],
    labels: str | None,
    label_suffix: str | None,
    as_json: bool,
    output: Path | None,
    pictures: int,
    compare: Path | None,
) -> None:
    """Summarize sizes, spacings, intensities and labels of a dataset."""
    from medseg.data.curation.summary import check_summary_target, summarize_dataset
    from medseg.files import write_json

    if compare is not None and output is None:
        raise click.UsageError("--compare needs --output DIR")
    if output is not None:
        check_summary_target(output / "summary.json")
    report = _dataset(source, overrides, labels, label_suffix).check()
    summary = summarize_dataset(report)
    if output is not None:
        from medseg.report.pages.dataset import Dataset, write_dataset_page

        other = None
        if compare is not None:
            checked = _dataset(compare, overrides, labels, label_suffix).check()
            other = Dataset(compare.resolve().name, checked, summarize_dataset(checked))
        write_json(output / "summary.json", summary)
        dataset = Dataset(source.resolve().name, report, summary)
        write_dataset_page(output / "summary.html", dataset, other, most=pictures)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    _print_summary(summary)
    if output is not None:
        click.echo(f"page: {output / 'summary.html'}")


@data.command("convert")
@_SOURCE
@click.argument("output", type=OUTPUT)
@_OVERRIDES
@_options
@click.option(
    "--to",
    type=click.Choice(["folders", "nnunet", "msd", "bids", "manifest"]),
    required=True,
    help="Layout to write.",
)
def data_convert(
    source: Path,
    overrides: tuple[str, ...],
    labels: str | None,
    label_suffix: str | None,
    as_json: bool,
    output: Path,
    to: str,
) -> None:
    """Write a dataset to the new folder OUTPUT in another layout; grids are kept."""
    from medseg.data.curation.convert import convert_dataset

    dataset = _dataset(source, overrides, labels, label_suffix)
    ids = convert_dataset(dataset.path, output, to, dataset.config, schema=dataset.schema)
    if as_json:
        click.echo(json.dumps({"output": str(output), "layout": to, "cases": ids}))
    else:
        click.echo(f"{_plural(len(ids), 'case')}: {output}")


@dataclass(frozen=True)
class _Dataset:
    """A dataset and the settings that describe it."""

    path: Path
    config: DataConfig
    schema: LabelSchema | None

    @property
    def as_stored(self) -> bool:
        """Whether label files are read without telling objects apart."""
        return self.config.instances is None

    def with_values(self) -> _Dataset:
        """Return the dataset whose label files are read as they are, without telling objects apart."""
        return replace(self, config=self.config.model_copy(update={"instances": None}))

    def check(self) -> DatasetReport:
        from medseg.data.curation.check import check_dataset

        return check_dataset(self.path, self.config, schema=self.schema)


def _dataset(source: Path, overrides: tuple[str, ...], labels: str | None, suffix: str | None) -> _Dataset:
    from medseg.config.schema import load_config
    from medseg.errors import ConfigError
    from medseg.evaluation import parse_labels

    settings: Any = source if source.suffix.lower() in (".yaml", ".yml") else {"data": {"path": str(source)}}
    config = load_config(settings, overrides).data
    if config.path is None:
        raise ConfigError(f"{source}: data.path is not set")
    if suffix is not None:
        config = config.model_copy(update={"label_suffix": suffix})
    assert config.path is not None
    return _Dataset(config.path, config, parse_labels(labels) if labels else None)


def _mapping(text: str | None) -> dict[int, int]:
    from medseg.errors import ConfigError

    try:
        pairs = [pair.split("=") for pair in (text or "").split(",") if pair]
        mapping = {int(old): int(new) for old, new in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--map {text!r}: expected OLD=NEW[,OLD=NEW…]", hint="For example --map 9=1,7=0."
        ) from error
    if len(mapping) < len(pairs):
        raise ConfigError(f"--map {text!r}: a value is replaced twice", hint="Give each OLD value once.")
    return mapping


def _case_row(fact: Any, report: DatasetReport) -> dict[str, Any]:
    parts = {case.id: case for case in report.listing.cases}
    return {
        "case": fact.id,
        "part": parts[fact.id].part,
        "patient": parts[fact.id].patient,
        "kind": fact.kind,
        "shape": fact.shape,
        "spacing": fact.spacing,
        "channels": fact.channels,
        "dtype": fact.dtype,
        "label_dtype": fact.label_dtype,
        "intensities": fact.intensities,
        "label_counts": fact.label_counts,
    }


def _print_report(report: DatasetReport, every: bool) -> None:
    """Print the findings, then the first affected cases, or all cases if ``every``."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    click.echo(report.listing.describe())
    _print_findings(report.findings)
    concerned = report.affected
    shown = [fact for fact in report.statistics if every or fact.id in concerned]
    shown = shown if every else shown[:_MOST_LISTED]
    table = Table("case", "size", "spacing", "channels", "type", "range", "label values", box=None)
    for fact in shown:
        values = [str(v) for v in fact.label_counts]
        listed = " ".join(values[:12]) + (f" … ({len(values)})" if len(values) > 12 else "")
        low, high = fact.intensities
        table.add_row(
            escape(fact.id), "×".join(map(str, fact.shape)), "×".join(f"{s:.3g}" for s in fact.spacing),
            str(fact.channels), fact.dtype, f"{low:.4g} … {high:.4g}", listed or "–",
        )  # fmt: skip
    if shown:
        Console(highlight=False, width=max(120, Console().width)).print(table)
    rest = len(report.statistics) - len(shown)
    if rest:
        click.echo(f"{_plural(rest, 'case')} not listed (--all lists all cases)")
    counts = [_plural(len(report.statistics), "readable case"), _plural(len(report.problems), "problem")]
    counts += [_plural(len(report.warnings), "warning")] if report.warnings else []
    click.echo(", ".join(counts))


def _print_findings(findings: list[Finding]) -> None:
    for f in findings:
        click.echo(f"{f.status:8} {f.subjects}: {f.message}\n         → {f.hint}")


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _print_repairs(repairs: Any, output: Path) -> None:
    for case, actions in repairs.done.items():
        for action in actions:
            click.echo(f"repaired {case}: {action}")
    for case, reason in repairs.left_out.items():
        click.echo(f"left out {case}: {reason}")
    click.echo(f"{_plural(len(repairs.done), 'case')} written, {len(repairs.left_out)} left out: {output}")


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=max(120, Console().width))
    counts = ", ".join(_plural(n, kind) for kind, n in summary["kinds"].items())
    click.echo(
        f"{_plural(summary['cases'], 'case')} ({counts}), layout {summary['layout']}, "
        f"{_plural(summary['problems'], 'problem')}"
    )
    grid = Table("axis", "size min", "median", "max", "spacing min", "median", "max", box=None)
    for axis, (size, spacing) in enumerate(zip(summary["size"], summary["spacing"], strict=False)):
        cells = [f"{one[key]:.4g}" for one in (size, spacing) for key in ("min", "median", "max")]
        grid.add_row(str(axis), *cells)
    console.print(grid)
    if summary["intensities"]:
        table = Table("channel", "mean", "sd", "p0.5", "median", "p99.5", box=None)
        for channel, row in enumerate(summary["intensities"]):
            table.add_row(str(channel), *(f"{v:.4g}" for v in row.values()))
        console.print(table)
    if summary["labels"]:
        table = Table(
            "label", "values", "cases", "voxels", "share", "imbalance", "components per case",
            f"size ({summary['size_unit']}) min", "median", "max", box=None,
        )  # fmt: skip
        for row in summary["labels"]:
            size = row["component_size"]
            table.add_row(
                row["label"], " ".join(map(str, row["values"][:6])), str(row["cases"]), f"{row['voxels']:,}",
                f"{row['share']:.3%}", f"{row['imbalance']:.4g}" if row["imbalance"] else "–",
                f"{row['components']:g}" if row["components"] else "–",
                *(f"{size[key]:.4g}" if size else "–" for key in ("min", "median", "max")),
            )  # fmt: skip
        console.print(table)
