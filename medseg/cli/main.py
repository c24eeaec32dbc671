"""The command line: each command parses, calls one function of the API, and prints."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medseg.cli.data import data
from medseg.cli.dicom import dicom
from medseg.cli.evaluate import evaluate, print_evaluation
from medseg.cli.export import export
from medseg.cli.import_models import import_group
from medseg.cli.infer import infer, tune
from medseg.cli.models import models, weights_group
from medseg.errors import MedsegError
from medseg.system.allocator import is_out_of_memory, keep_freed_memory, wait_without_spinning

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig

Command = TypeVar("Command", bound=Callable[..., Any])


def main(arguments: Sequence[str] = ()) -> None:
    """Run the command line and exit: 0 ok, 2 usage or settings, 3 data, 4 some cases failed, 5 out of
    memory, 130 and 143 on signals. ``arguments`` stand before those of the process.
    """
    sys.exit(run([*arguments, *sys.argv[1:]]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code. Errors are one message on standard error."""
    signal.signal(signal.SIGTERM, _terminate)
    keep_freed_memory()
    debug = "--debug" in arguments
    try:
        result = cli.main(arguments, prog_name="medseg", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        return 130
    except MedsegError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        return _unforeseen(error)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _unforeseen(error: Exception) -> int:
    """The exit code of an error that is none of medseg's own."""
    from medseg.errors import EXIT_OUT_OF_MEMORY, ConfigError

    number = getattr(error, "signal_number", None)
    if number is not None:  # the training loop's, after saving
        click.echo("stopped; the training is saved, continue it with --resume auto", err=True)
        return 128 + int(number)
    if is_out_of_memory(error):
        click.echo(f"error: out of memory: {error or type(error).__name__}", err=True)
        return EXIT_OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, a folder one may not write to
        place = f"{error.filename}: " if error.filename else ""
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            click.echo(f"error: {place}{error.strerror}: a folder is wanted there, or another name", err=True)
            return ConfigError.exit_code
        click.echo(f"error: {place}{error.strerror}. Nothing is half-written; mend it and run again.", err=True)
        return 1
    click.echo(
        f"error: {type(error).__name__}: {error}\nThis is not a case medseg foresaw. Run the command again "
        "with --debug for the traceback and report it.",
        err=True,
    )
    return 1


def _debug(command: Command) -> Command:
    option = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    return option(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="medseg")
@_debug
def cli() -> None:
    """Train, run and evaluate segmentation networks on medical images, in 2D and 3D."""


@cli.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--run", "run_folder", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--resume",
    type=click.Choice(["never", "auto"]),
    default="never",
    show_default=True,
    help="auto: continue the run in --run exactly where it stopped, or start it.",
)
@click.option(
    "--accept-new-cases", is_flag=True,
    help="With --resume auto: go on although cases were added, changed or removed since. Every case keeps its "
    "part; new ones train.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="One batch of everything; estimates memory and time.")
@_debug
def train(
    source: Path,
    overrides: tuple[str, ...],
    run_folder: Path | None,
    resume: str,
    accept_new_cases: bool,
    dry_run: bool,
) -> None:
    """Train a network.

    SOURCE is a YAML file of settings, or a folder with images/ and labels/, for which sane settings are
    picked and printed. OVERRIDES are settings such as train.epochs=50.
    """
    wait_without_spinning()
    import medseg.training.fit as fitting
    from medseg.training.progress import ConsoleProgress

    config = _training_config(source, overrides)
    folder = run_folder or Path("runs") / (source.resolve().name if source.is_dir() else source.stem)
    if dry_run:
        _print_estimate(fitting.dry_run(config, folder))
        return
    with ConsoleProgress() as progress:
        result = fitting.fit(
            config,
            folder,
            resume="auto" if resume == "auto" else "never",
            accept_new_cases=accept_new_cases,
            progress=progress,
        )
    score = f", best {config.train.monitor} {result.best:.4f}" if result.best is not None else ""
    click.echo(f"{result.epochs} epochs{score}")
    click.echo(f"model: {result.model}")


cli.add_command(evaluate)
cli.add_command(infer)
cli.add_command(tune)
cli.add_command(data)
cli.add_command(export)
cli.add_command(import_group)
cli.add_command(dicom)
cli.add_command(models)
cli.add_command(weights_group)


@cli.group()
def config() -> None:
    """Look at settings."""


@config.command("schema")
@_debug
def config_schema() -> None:
    """Print the JSON schema of a configuration file."""
    from medseg.config.schema import RunConfig

    schema = RunConfig.model_json_schema()
    base = {"type": "string", "description": "A file whose settings these go over."}
    schema["properties"] = {"base": base, **schema["properties"]}
    click.echo(json.dumps(schema, indent=2))


@config.command("list")
@_debug
def config_list() -> None:
    """Print the paths of the configuration files that come with medseg."""
    source = Path(__file__).resolve().parents[2] / "configs"  # a checkout
    folder = source if source.is_dir() else Path(sys.prefix) / "share" / "medseg" / "configs"
    for path in sorted(folder.rglob("*.yaml")):
        click.echo(path)


@config.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@_debug
def config_show(file: Path, overrides: tuple[str, ...]) -> None:
    """Print the resolved settings: FILE, then OVERRIDES, with every default spelled out."""
    from medseg.config.schema import load_config, to_yaml

    click.echo(to_yaml(load_config(file, overrides)), nl=False)


@cli.command()
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("medseg-demo"), show_default=True,
    help="Folder of the demonstration; made anew each time.",
)  # fmt: skip
@_debug
def demo(output: Path) -> None:
    """Train, predict and evaluate on phantoms and shapes made here, in a few minutes."""
    from medseg.demo.run import run_demo

    run_demo(output, say=click.echo, show=print_evaluation)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@_debug
def doctor(as_json: bool) -> int:
    """Look at this machine: devices, memory, versions, optional parts, writable places."""
    from medseg.cli.diagnostics import diagnose

    findings = diagnose()
    if as_json:
        click.echo(json.dumps([vars(f) for f in findings], indent=2))
    else:
        for f in findings:
            click.echo(f"{f.status:8} {f.topic:10} {f.name}: {f.detail}")
    return 1 if any(f.status == "problem" for f in findings) else 0


def _training_config(source: Path, overrides: tuple[str, ...]) -> RunConfig:
    from medseg.config.schema import load_config, to_yaml
    from medseg.training.planning import plan_config

    if not source.is_dir():
        return load_config(source, overrides)
    config = plan_config(source, overrides)
    click.echo(f"# settings picked for {source}\n{to_yaml(config)}", err=True)
    return config


def _print_estimate(estimate: Any) -> None:
    click.echo(f"parameters             {estimate.parameters:,}")
    click.echo(f"loss of first update   {estimate.loss:.4f}")
    click.echo(f"seconds an update      {estimate.seconds_per_update:.3f}")
    click.echo(f"seconds a validation   {estimate.seconds_per_validation:.1f}")
    click.echo(f"peak memory            {estimate.peak_memory_gb:.2f} GB")
    click.echo(f"whole training         about {60 * estimate.hours:.1f} minutes")
    click.echo("assumed:")
    for line in estimate.assumed:
        click.echo(f"  {line}")
