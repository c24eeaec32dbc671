"""``medseg infer`` and ``medseg tune``: models on scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.errors import EXIT_OK, EXIT_OUT_OF_MEMORY, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.inference.batch.output_files import CaseOutcome
    from medseg.system.device import Precision

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")


@click.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, multiple=True, type=click.Path(path_type=Path),
    help="Run folder, model file, nnU-Net's trained folder, or a published network's name (medseg weights "
    "list). Several: their mean.",
)  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), help="File of a published network's weights.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the label maps.")
@click.option(
    "--cases", "part", type=click.Choice(["train", "val", "test"]), help="Cases of the run, for INPUTS."
)
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE",
    help="Another setting of the inference than the model's, such as overlap=0.25 or flips=[0].",
)  # fmt: skip
@click.option(
    "--foreground", type=click.Path(path_type=Path),
    help="Folder of masks named after the cases; windows that hold none of it are background, unseen.",
)  # fmt: skip
@click.option("--probabilities", is_flag=True, help="Write probabilities/ too.")
@click.option("--overlays", is_flag=True, help="Write pictures of image and prediction to overlays/ too.")
@click.option(
    "--dicom", "objects", multiple=True, type=click.Choice(["seg", "rtstruct"]),
    help="Write DICOM objects of series to dicom/ too.",
)  # fmt: skip
@click.option(
    "--dicom-geometry", "uneven", type=click.Choice(["refuse", "resample"]), default="refuse",
    show_default=True, help="Of series with uneven or missing slices; resample: onto an even grid.",
)  # fmt: skip
@click.option(
    "--layout", type=click.Choice(["flat", "nnunet", "bids"]), default="flat", show_default=True,
    help="Of the output: CASE.nii.gz; the same with nnU-Net's dataset.json; sub-CASE/anat/…_dseg.nii.gz.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace results of medseg that are there.")
@click.option(
    "--all", "everything", is_flag=True, help="Of folders, take what looks like label maps as scans, too."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--backend", type=click.Choice(["auto", "torch", "openvino"]), default="auto", show_default=True,
    help="What computes; auto: OpenVINO on CPUs, if it is installed and agrees with torch, else torch.",
)  # fmt: skip
@click.option(
    "--amp", type=click.Choice(["auto", "bf16", "fp16", "off"]), default="auto", show_default=True,
    help="Precision; auto: bf16 where the device has it, else float32 (off).",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Allow flips and scales that the training did not use.")
@click.option("--compile", "compiled", is_flag=True, help="Through torch.compile, on CUDA.")
@click.option("--scheduler", help="Address of a Dask scheduler whose workers do the cases: tcp://HOST:8786.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes on this machine that share cases, cores and GPUs."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on standard output.")
@_DEBUG
def infer(
    inputs: tuple[Path, ...],
    model: tuple[Path, ...],
    weights: Path | None,
    output: Path,
    part: str | None,
    changes: tuple[str, ...],
    foreground: Path | None,
    probabilities: bool,
    overlays: bool,
    objects: tuple[Any, ...],
    uneven: Any,
    layout: Any,
    overwrite: bool,
    everything: bool,
    device: str,
    backend: str,
    amp: Precision,
    force: bool,
    compiled: bool,
    scheduler: str | None,
    workers: int | None,
    as_json: bool,
) -> int:
    """Segment scans: files, folders of files, or a run's own held-out cases."""
    from medseg.inference.batch.batch_inference import infer_cases
    from medseg.inference.batch.distributed import connected, infer_distributed, local_workers
    from medseg.inference.batch.input_discovery import run_cases, with_foregrounds
    from medseg.inference.batch.options import BatchOptions
    from medseg.interop.model_loading import SegmenterSpec

    if scheduler and workers:
        raise click.UsageError("give either --scheduler or --workers")
    if bool(inputs) == bool(part):
        raise click.UsageError("give either INPUTS or --cases")

    def say(line: str) -> None:
        click.echo(f"backend: {line}", err=True)

    spec = SegmenterSpec(
        tuple(map(str, model)), str(weights) if weights else None, device, _inference_settings(changes),
        amp=amp, backend=backend, compiled=compiled, force=force,
    )  # fmt: skip
    predictor = None if scheduler or workers else spec.build(say)
    cases = run_cases(model[0], part) if part else _search(inputs, output, everything)
    if foreground is not None:
        cases = with_foregrounds(cases, foreground)
    options = BatchOptions(
        probabilities, overlays, tuple(dict.fromkeys(objects)), layout, overwrite, dicom_geometry=uneven
    )

    def report(outcome: CaseOutcome) -> None:
        click.echo(_outcome_line(outcome), err=True)

    if predictor is not None:
        outcomes = infer_cases(predictor, cases, output, options, report=report)
    else:
        with connected(scheduler) if scheduler else local_workers(workers or 1, device) as client:
            outcomes = infer_distributed(spec, cases, output, client, options, report=report)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("done", "skipped", "failed")}
    if as_json:
        click.echo(json.dumps({"output": str(output), **counts, "cases": [vars(o) for o in outcomes]}))
    else:
        click.echo(f"{counts['done']} done, {counts['skipped']} skipped, {counts['failed']} failed: {output}")
    return _exit_code(outcomes)


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@_DEBUG
def tune(run_folder: Path, device: str) -> None:
    """Choose what is done to the components of each label by the run's validation cases; kept in its model."""
    from medseg.inference.postprocessing_search import tune as choose

    _, rows = choose(run_folder, device=device, report=lambda case: click.echo(case, err=True))
    for row in rows:
        click.echo(f"{row.label:24} {row.step:20} Dice {row.before:.4f} -> {row.after:.4f}")
    kept = [row.label for row in rows if row.step != "none"]
    line = f"kept in the model file: steps for {', '.join(kept)}" if kept else "no step helps: none is kept"
    click.echo(line)


def _search(inputs: tuple[Path, ...], output: Path, everything: bool) -> list[Case]:
    """The scans among files and folders; what folders hold beside them is printed."""
    from medseg.inference.batch.input_discovery import search_inputs

    found = search_inputs(list(inputs), output=output, everything=everything)
    left_out = found.describe_left_out()
    if left_out is not None:
        click.echo(left_out, err=True)
    return found.cases


def _inference_settings(changes: tuple[str, ...]) -> dict[str, Any]:
    from medseg.config.loading import apply_override

    settings: dict[str, Any] = {}
    for change in changes:
        apply_override(settings, change.removeprefix("inference."))
    return settings


def _exit_code(outcomes: list[CaseOutcome]) -> int:
    """5 if memory is all that cases failed for, 4 if any failed for another reason."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not failed:
        return EXIT_OK
    return EXIT_OUT_OF_MEMORY if all(outcome.out_of_memory for outcome in failed) else EXIT_SOME_FAILED


def _outcome_line(outcome: CaseOutcome) -> str:
    if outcome.status == "failed":
        return f"{outcome.case}: failed: {outcome.error}"
    seconds = f", {outcome.seconds:.1f} s" if outcome.seconds else ""
    return f"{outcome.case}: {outcome.status}{seconds}" + "".join(f" ({note})" for note in outcome.notes)
