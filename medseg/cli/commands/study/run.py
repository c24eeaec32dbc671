"""``medseg study run``: run a study that a file describes."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.commands.evaluation.compare import print_comparison
from medseg.cli.options import PATH, debug_option, jobs_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED


@click.command()
@click.argument("study_file", metavar="STUDY", type=PATH)
@click.option("--output", type=PATH, help="Folder of the study.  [default: studies/NAME]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Change a key of STUDY, such as seeds=[0,1] or budget=10min.",
)  # fmt: skip
@jobs_option
@click.option(
    "--dry-run", is_flag=True,
    help="Check all settings, and that the datasets exist; list the runs, train nothing.",
)  # fmt: skip
@debug_option
def run(
    study_file: Path, output: Path | None, overrides: tuple[str, ...], jobs: int | None, dry_run: bool
) -> int:
    """Run a study: train every configuration on every dataset with every seed and fold, and compare them.

    STUDY is a YAML file with configs, datasets, seeds, folds, comparisons and an executor (this machine, SLURM
    or Dask). Each run is trained, its test cases (with folds: the held-out cases) are predicted and evaluated.

    Started again, the command skips complete runs and continues interrupted ones; if a dataset changed since a
    complete run began, it exits with 3. A failed run is listed with its log, the others continue, and the
    command exits with 4. medseg study status shows what runs.
    """
    from medseg.files import check_writable
    from medseg.study.cells import check_datasets
    from medseg.study.executors import LocalExecutor
    from medseg.study.study_file import load_study, plan_runs, run_study_file
    from medseg.study.study_file.comparisons import REPORT_FILE

    study, root = load_study(study_file, overrides), output or Path("studies") / study_file.stem
    if dry_run:
        _, runs = plan_runs(study, root)
        check_datasets(one.config for one in runs)
        for one in runs:
            click.echo(one.name)
        click.echo(f"{len(runs)} runs")
        return EXIT_OK
    check_writable(root)
    result = run_study_file(study, root, executor=None if jobs is None else LocalExecutor(jobs))
    click.echo(result.markdown, nl=False)
    for folder, comparison in result.comparisons.items():
        click.echo(f"\n{folder.relative_to(root)}:")
        print_comparison(comparison)
        click.echo(f"report: {folder / REPORT_FILE}")
    click.echo(f"\ntables: {root}")
    for outcome in result.failed:
        click.echo(f"failed: {outcome.describe()}", err=True)
    return EXIT_SOME_FAILED if result.failed else EXIT_OK
