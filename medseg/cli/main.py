"""The ``medseg`` command: its subcommands, exit codes and error messages."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from medseg.cli.commands.annotation.annotate import annotate
from medseg.cli.commands.annotation.serve import serve
from medseg.cli.commands.config import config_group
from medseg.cli.commands.data import data
from medseg.cli.commands.demo import demo
from medseg.cli.commands.dicom import dicom
from medseg.cli.commands.doctor import doctor
from medseg.cli.commands.evaluation.compare import compare
from medseg.cli.commands.evaluation.evaluate import evaluate
from medseg.cli.commands.evaluation.metrics import metrics_group
from medseg.cli.commands.evaluation.view import view
from medseg.cli.commands.inference.infer import infer, tune
from medseg.cli.commands.inference.panoptic import panoptic
from medseg.cli.commands.models.export import export
from medseg.cli.commands.models.import_models import import_group
from medseg.cli.commands.models.models import models, weights_group
from medseg.cli.commands.models.sam import sam_group
from medseg.cli.commands.study import study
from medseg.cli.commands.training.plan import plan
from medseg.cli.commands.training.reproduce import reproduce
from medseg.cli.commands.training.train import train
from medseg.cli.options import debug_option
from medseg.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_OUT_OF_MEMORY,
    ConfigError,
    MedsegError,
    TrainingStopped,
)
from medseg.files import describe_full_disk, is_disk_full
from medseg.system.allocator import is_out_of_memory, keep_freed_memory, limit_spinning, shorten_time_slices

EXIT_FAILURE = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="medseg")
@debug_option
def cli() -> None:
    """Train, run and evaluate segmentation networks on medical images, in 2D and 3D."""


for _command in (
    *(plan, train, infer, evaluate, compare, view, metrics_group, tune, study, reproduce, data),
    *(annotate, serve, export, import_group, panoptic, dicom),
    *(models, weights_group, sam_group, config_group, demo, doctor),
):
    cli.add_command(_command)


def main(arguments: Sequence[str] = ()) -> None:
    """Run the command line and exit.

    Exit codes: 0 success, 1 unexpected error, 2 usage or settings, 3 data, 4 some cases failed, 5 out of
    memory, 130 and 143 after SIGINT and SIGTERM.

    Args:
        arguments: inserted before the arguments of the process.
    """
    limit_spinning()
    shorten_time_slices()
    sys.exit(run([*arguments, *sys.argv[1:]]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors are printed to standard error."""
    signal.signal(signal.SIGTERM, _terminate)
    keep_freed_memory()
    try:
        result = cli.main(arguments, prog_name="medseg", standalone_mode=False)
        return result if isinstance(result, int) else EXIT_OK
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted (Ctrl+C)", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # the border of the program: no traceback reaches the user without --debug
        if "--debug" in arguments:
            raise
        return _report(error)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _report(error: Exception) -> int:
    """Print an error and return its exit code."""
    if isinstance(error, MedsegError) and not error.shown:
        return error.exit_code
    if isinstance(error, TrainingStopped):
        click.echo(f"{error.message}\nhint: {error.hint}", err=True)
        return error.exit_code
    if isinstance(error, MedsegError):
        return _print_error(error.message, error.hint, error.exit_code)
    if is_out_of_memory(error):
        return _print_error(f"out of memory: {error or type(error).__name__}", None, EXIT_OUT_OF_MEMORY)
    if isinstance(error, OSError) and error.errno is not None:
        return _report_system_error(error)
    return _print_error(
        f"unexpected error: {type(error).__name__}: {error}",
        "Run the command again with --debug and report the traceback.",
        EXIT_FAILURE,
    )


def _report_system_error(error: OSError) -> int:
    """Print an error of the file system, such as a full disk or a missing permission."""
    prefix = f"{error.filename}: " if error.filename else ""
    if is_disk_full(error):
        message = describe_full_disk(Path(error.filename)) if error.filename else "no space left on the disk"
        hint = "No incomplete file was left. Free some space, or choose another disk; run the command again."
        return _print_error(message, hint, EXIT_FAILURE)
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        expected = "file" if isinstance(error, IsADirectoryError) else "folder"
        hint = f"A {expected} is expected there; choose another name."
        return _print_error(f"{prefix}{error.strerror}", hint, ConfigError.exit_code)
    hint = "No incomplete file was left. Fix the problem and run the command again."
    return _print_error(f"{prefix}{error.strerror}", hint, EXIT_FAILURE)


def _print_error(message: str, hint: str | None, exit_code: int) -> int:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return exit_code
