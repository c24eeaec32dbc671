"""``medseg infer`` and ``medseg tune``: apply models to scans."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import (
    OUTPUT,
    PATH,
    POSITIVE,
    FiniteRange,
    amp_option,
    debug_option,
    device_option,
    geometry_option,
    json_option,
    network_option,
    weights_option,
)
from medseg.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_OUT_OF_MEMORY, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.inference.batch.outputs.files import CaseOutcome
    from medseg.inference.tta_search import VariantScore
    from medseg.interop.model_loading import SegmenterSpec
    from medseg.progress import ConsoleProgress
    from medseg.system.device import Precision


@dataclass(frozen=True)
class InferArguments:
    """Arguments of ``medseg infer``, named as its parameters."""

    inputs: tuple[Path, ...]
    model: tuple[Path, ...]
    weights: Path | None
    output: Path
    part: str | None
    changes: tuple[str, ...]
    foreground: Path | None
    probabilities: bool
    overlays: bool
    objects: tuple[Any, ...]
    uneven: Any
    layout: Any
    overwrite: bool
    everything: bool
    device: str
    backend: str
    amp: Precision
    rescale: str | None
    force: bool
    compiled: bool
    scheduler: str | None
    workers: int | None
    network: str | None
    report: bool
    as_json: bool

    def __post_init__(self) -> None:
        if self.scheduler and self.workers:
            raise click.UsageError("give either --scheduler or --workers")
        if bool(self.inputs) == bool(self.part):
            raise click.UsageError("give either INPUTS or --cases")


@click.command()
@click.argument("inputs", nargs=-1, type=PATH)
@click.option(
    "--model", required=True, multiple=True, type=PATH,
    help="Run folder, model file, trained nnU-Net folder, or name of a published network (medseg weights "
    "list). Repeat it to average several models.",
)  # fmt: skip
@weights_option
@click.option("--output", required=True, type=OUTPUT, help="Folder for the label maps.")
@click.option(
    "--cases", "part", type=click.Choice(["train", "val", "test"]),
    help="Segment this part of the run's cases instead of INPUTS.",
)  # fmt: skip
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE",
    help="Change an inference setting of the model, for example overlap=0.25 or flips=[0].",
)  # fmt: skip
@click.option(
    "--foreground", type=PATH,
    help="Folder of masks named after the cases. Windows outside the mask are skipped and labeled background.",
)  # fmt: skip
@click.option("--probabilities", is_flag=True, help="Write probabilities to probabilities/.")
@click.option("--overlays", is_flag=True, help="Write pictures of image and prediction to overlays/.")
@click.option(
    "--dicom", "objects", multiple=True, type=click.Choice(["seg", "rtstruct"]),
    help="Write DICOM objects to dicom/; the inputs must be DICOM series.",
)  # fmt: skip
@geometry_option
@click.option(
    "--layout", type=click.Choice(["flat", "nnunet", "bids"]), default="flat", show_default=True,
    help="Output layout. flat: CASE.nii.gz; nnunet: the same with dataset.json; bids: "
    "sub-CASE/anat/…_dseg.nii.gz.",
)  # fmt: skip
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing results of medseg; if a case fails, its result of other settings is removed.",
)
@click.option(
    "--all", "everything", is_flag=True,
    help="Segment all images of a folder, also those that look like label maps.",
)  # fmt: skip
@device_option
@click.option(
    "--backend", type=click.Choice(["auto", "torch", "openvino"]), default="auto", show_default=True,
    help="Runtime. auto: OpenVINO on CPUs if it is installed and its logits agree with torch, else torch.",
)  # fmt: skip
@amp_option
@click.option(
    "--rescale", metavar="auto|FACTOR",
    help="Resize pictures without spacing by FACTOR before they are segmented; auto estimates it from the "
    "sizes of the objects. The results have the size of the input.",
)  # fmt: skip
@click.option(
    "--force", is_flag=True,
    help="Allow flips and scales that were not used in training, and scans of another modality.",
)  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile (CUDA).")
@click.option(
    "--scheduler", help="Address of a Dask scheduler whose workers process the cases: tcp://HOST:8786."
)
@click.option("--workers", type=POSITIVE, help="Processes on this machine that share cases, cores and GPUs.")
@network_option("Network of models that were trained with --network.")
@click.option("--report/--no-report", default=True, help="Write report.html to --output.  [default: --report]")
@json_option
@debug_option
def infer(**arguments: Any) -> int:
    """Segment scans.

    INPUTS are files, or folders of files; --cases segments cases of the run instead. Exits with 4 if a case
    failed or its result of other settings was kept, with 5 if memory was the only reason.
    """
    given = InferArguments(**arguments)
    outcomes = _infer(given)
    statuses = ("done", "skipped", "kept", "failed")
    counts = {status: sum(o.status == status for o in outcomes) for status in statuses}
    if given.as_json:
        click.echo(json.dumps({"output": str(given.output), **counts, "cases": [vars(o) for o in outcomes]}))
    else:
        listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count or status != "kept")
        click.echo(f"{listed}: {given.output}")
        for reason, count in Counter(o.error for o in outcomes if o.status == "kept").items():
            click.echo(f"{count} kept ({reason}); --overwrite replaces them", err=True)
        if warned := sum(bool(o.warnings) for o in outcomes):
            table = given.output / "warnings.csv"
            click.echo(f"{warned} of {len(outcomes)} cases differ from the training: {table}", err=True)
    return _exit_code(outcomes)


@click.command()
@click.argument("run_folder", metavar="RUN", type=PATH)
@click.option("--tta", is_flag=True, help="First choose mirrors and scales of test-time augmentation.")
@click.option(
    "--tta-cost", type=FiniteRange(min=1), default=4.0, show_default=True,
    help="With --tta: largest time of a prediction, as a multiple of one without test-time augmentation.",
)  # fmt: skip
@network_option("Network of a model that was trained with --network.")
@device_option
@debug_option
def tune(run_folder: Path, tta: bool, tta_cost: float, network: str | None, device: str) -> None:
    """Choose postprocessing steps, and mirrors and scales, on the validation cases.

    RUN is a run folder. For each label, the step that improves the mean Dice most is stored in the model file.
    With --tta, mirrors and scales that the training used are stored if they improve it significantly.
    """
    from medseg.cli.user_code import load_network
    from medseg.inference.postprocessing_search import tune_postprocessing
    from medseg.inference.tta_search import tune_tta
    from medseg.progress import ConsoleProgress

    model = None if network is None else load_network(network)
    with ConsoleProgress() as progress:
        if tta:
            for line in _tta_lines(
                tune_tta(run_folder, most_cost=tta_cost, model=model, device=device, progress=progress)
            ):
                click.echo(line)
        _, rows = tune_postprocessing(run_folder, model=model, device=device, progress=progress)
    for row in rows:
        click.echo(f"{row.label:24} {row.step:20} Dice {row.before:.4f} -> {row.after:.4f}")
    chosen = [row.label for row in rows if row.step != "none"]
    click.echo(
        f"stored in the model file: steps for {', '.join(chosen)}"
        if chosen
        else "no step improves the mean Dice"
    )


def _tta_lines(scores: Sequence[VariantScore]) -> Iterator[str]:
    """Yield a line for each variant of test-time augmentation, and one for the choice."""
    for one in scores:
        name = f"flips={list(one.variant.flips)} scales={list(one.variant.scales)}"
        yield f"{name:40} Dice {one.dice:.4f}  gain {one.gain:+.4f}  p {one.p_value:.3f}  {one.seconds:.2f} s"
    best = next(one for one in scores if one.chosen)
    if best is scores[0]:
        yield "no mirrors and scales stored: no gain of 0.001 or more that these cases can prove"
    else:
        yield f"stored in the model file: flips={list(best.variant.flips)} scales={list(best.variant.scales)}"


def _infer(given: InferArguments) -> list[CaseOutcome]:
    """Segment the cases in this process, or distribute them."""
    from medseg.inference.batch.batch_inference import infer_cases
    from medseg.inference.batch.distributed import connected, infer_distributed, local_workers
    from medseg.inference.batch.input_discovery import run_cases, with_foregrounds
    from medseg.inference.batch.options import BatchOptions
    from medseg.inference.report import write_inference_report

    spec = _segmenter_spec(given)
    distributed = given.scheduler or given.workers
    predictor = None if distributed else spec.build()
    cases = run_cases(given.model[0], given.part) if given.part else _find_cases(given)
    if given.foreground is not None:
        cases = with_foregrounds(cases, given.foreground)
    options = BatchOptions(
        given.probabilities, given.overlays, tuple(dict.fromkeys(given.objects)), given.layout, given.overwrite,
        dicom_geometry=given.uneven,
    )  # fmt: skip
    if predictor is not None:
        with _progress(given) as progress:
            outcomes = infer_cases(predictor, cases, given.output, options, progress=progress)
    else:
        local = given.workers or 1
        context = connected(given.scheduler) if given.scheduler else local_workers(local, given.device)
        with context as client, _progress(given) as progress:
            outcomes = infer_distributed(spec, cases, given.output, client, options, progress=progress)
    if given.report:
        write_inference_report(given.output, cases, outcomes)
    return outcomes


@contextmanager
def _progress(given: InferArguments) -> Generator[ConsoleProgress]:
    """Show the progress; if the user interrupts the command, print how many cases are done."""
    from medseg.progress import ConsoleProgress

    with ConsoleProgress() as progress:
        try:
            yield progress
        except KeyboardInterrupt as error:
            done = progress.describe_ended()
            if done is None:
                raise
            advice = "" if given.overwrite else "; repeat the command to continue"
            progress.print(f"stopped after {done}{advice}")
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from error


def _segmenter_spec(given: InferArguments) -> SegmenterSpec:
    from medseg.cli.user_code import NamedNetwork, load_network
    from medseg.interop.model_loading import SegmenterSpec

    network = None
    if given.network is not None:
        load_network(given.network)  # raises before any model is read
        network = NamedNetwork(given.network)
    return SegmenterSpec(
        tuple(map(str, given.model)), str(given.weights) if given.weights else None, given.device,
        _inference_settings(given), amp=given.amp, backend=given.backend, compiled=given.compiled,
        force=given.force, network=network,
    )  # fmt: skip


def _find_cases(given: InferArguments) -> list[Case]:
    """Find the scans among files and folders; print which files were left out."""
    from medseg.inference.batch.input_discovery import search_inputs

    inputs = search_inputs(list(given.inputs), output=given.output, everything=given.everything)
    left_out = inputs.describe_left_out()
    if left_out is not None:
        click.echo(left_out, err=True)
    return inputs.cases


def _inference_settings(given: InferArguments) -> dict[str, Any]:
    from medseg.config.loading import apply_override

    settings: dict[str, Any] = {}
    for change in given.changes:
        apply_override(settings, change.removeprefix("inference."))
    if given.rescale is not None:
        apply_override(settings, f"rescale={given.rescale}")
    return settings


def _exit_code(outcomes: list[CaseOutcome]) -> int:
    """5 if all failures are for lack of memory, 4 if a case failed for another reason or was kept."""
    failed = [outcome for outcome in outcomes if outcome.status in ("kept", "failed")]
    if not failed:
        return EXIT_OK
    return EXIT_OUT_OF_MEMORY if all(outcome.out_of_memory for outcome in failed) else EXIT_SOME_FAILED
