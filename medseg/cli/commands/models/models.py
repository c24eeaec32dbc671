"""``medseg models`` and ``medseg weights``: architectures and published weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from medseg.cli.options import OUTPUT, PATH, POSITIVE, debug_option, device_option, json_option, weights_option


@click.group()
def models() -> None:
    """Inspect architectures and trained networks."""


@models.command("list")
@click.option(
    "--size", default=128, show_default=True, type=POSITIVE,
    help="Edge length of the image for which operations are counted.",
)  # fmt: skip
@json_option
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
@debug_option
def models_list(size: int, as_json: bool, markdown: bool) -> None:
    """List the architectures with parameters, operations and receptive field (2D, 3 channels, 21 classes).

    field: receptive field of an output voxel along one axis, minimum and maximum over its position on the
    coarser grids. stride: stride of the coarsest feature map.
    """
    from medseg.models.inspection.catalog import build_catalog, markdown_table

    rows = build_catalog(size)
    if markdown:
        click.echo(markdown_table(rows))
        return
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
        return
    head = ("name", "dims", "parameters", "GFLOPs", "field", "stride")
    click.echo(_row(head) + "  source")
    for row in rows:
        flops = "–" if row.flops is None else f"{row.flops / 1e9:.2f}"
        count = "–" if row.parameters is None else f"{row.parameters:,}"
        dims = "/".join(map(str, row.dims))
        click.echo(
            _row((row.name, dims, count, flops, row.field, row.output_stride or "–")) + f"  {row.source}"
        )


def _row(cells: Sequence[object]) -> str:
    name, dims, *numbers = map(str, cells)
    widths = (12, 7, 9, 6)
    return f"{name:14} {dims:5}" + "".join(f" {n:>{w}}" for n, w in zip(numbers, widths, strict=True))


@models.command("show")
@click.argument("name")
@click.argument("options", nargs=-1)
@click.option("--size", default="128x128", show_default=True, help="Image size: HxW, or XxYxZ in 3D.")
@click.option("--channels", default=1, show_default=True, type=POSITIVE, help="Channels of the image.")
@click.option("--classes", default=2, show_default=True, type=POSITIVE, help="Channels of the logits.")
@click.option("--depth", default=2, show_default=True, type=POSITIVE, help="Levels of nested modules to show.")
@debug_option
def models_show(
    name: str, options: tuple[str, ...], size: str, channels: int, classes: int, depth: int
) -> None:
    """Show the output shape of each module of a network.

    NAME is an architecture (medseg models list), OPTIONS are its settings, such as output_stride=8.
    """
    from medseg.config.schema import load_config
    from medseg.errors import ConfigError
    from medseg.models.inspection.catalog import describe_receptive_field, layer_shapes

    config = load_config({"model": {"name": name}}, [f"model.{option}" for option in options]).model
    try:
        shape = tuple(int(n) for n in size.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ConfigError(f"--size {size!r}: expected HxW or XxYxZ", hint="For example --size 128x128.")
    try:
        rows = layer_shapes(config, shape, channels=channels, classes=classes, depth=depth)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} on an image of {size}: {error}") from error
    for row in rows:
        dims = "×".join(map(str, row.shape))
        click.echo(f"{row.name:32} {row.kind:22} {dims:24} {row.parameters:>12,}")
    click.echo(describe_receptive_field(config, shape, channels=channels))


@models.command("features")
@click.argument("image", type=PATH)
@click.option(
    "--model", required=True, type=PATH,
    help="Run folder, model file, or name of a published network (medseg weights list).",
)  # fmt: skip
@weights_option
@click.option("--output", required=True, type=OUTPUT, help="Folder for the pictures.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Name of a module (medseg models show); can be repeated.  [default: the stages of the network]",
)
@click.option(
    "--channels", default=16, show_default=True, type=POSITIVE, help="Number of channels to show of each layer."
)  # fmt: skip
@click.option(
    "--slice", "index", type=int, help="Slice of a volume after preprocessing.  [default: the middle slice]"
)
@click.option("--window", is_flag=True, help="Use only the middle window, for large scans.")
@device_option
@debug_option
def models_features(
    image: Path,
    model: Path,
    weights: Path | None,
    output: Path,
    layers: tuple[str, ...],
    channels: int,
    index: int | None,
    window: bool,
    device: str,
) -> None:
    """Write pictures of the feature maps of a trained network for IMAGE, layer by layer."""
    from medseg.errors import ConfigError, DataError
    from medseg.inference.batch.input_discovery import find_inputs
    from medseg.inference.feature_maps import View, write_features
    from medseg.inference.model.predictor import Predictor
    from medseg.inference.model.published_models import model_source

    predictor = Predictor(model_source(model, weights), device=device)
    cases = find_inputs([image])
    if len(cases) != 1:
        raise DataError(
            f"{image}: contains {len(cases)} scans, expected one", hint="Give the path of one scan."
        )
    view = View(index, window)
    try:
        paths = write_features(predictor, cases[0], output, layers=layers, channels=channels, view=view)
    except ValueError as error:
        raise ConfigError(f"{image}: {error}", hint="Try --window, which uses a part of the scan.") from error
    for path in paths:
        click.echo(path)


@click.group("weights")
def weights_group() -> None:
    """List and download published weights."""


@weights_group.command("list")
@debug_option
def weights_list() -> None:
    """List the published weights, and whether they are downloaded."""
    from medseg.sam.published import PUBLISHED_SAM
    from medseg.system.weight_files import WEIGHT_FILES

    for name, entry in WEIGHT_FILES.items():
        state = "downloaded" if entry.path().is_file() else "remote"
        click.echo(f"{name:28} {entry.kind:9} {state:12} {entry.about}: {entry.url}")
    for name, sam in PUBLISHED_SAM.items():
        state = "downloaded" if sam.path().is_file() else "remote"
        click.echo(f"{name:28} {'sam':9} {state:12} {sam.about}: {sam.url}")


@weights_group.command("get")
@click.argument("name")
@click.option("--cache", type=PATH, help="Folder for the file.")
@click.option("--url", help="Other URL of the same file, for example a mirror.")
@debug_option
def weights_get(name: str, cache: Path | None, url: str | None) -> None:
    """Download the published weights NAME and verify their hash."""
    from medseg.errors import ConfigError
    from medseg.sam.published import PUBLISHED_SAM
    from medseg.system.download import download_file
    from medseg.system.weight_files import WEIGHT_FILES

    published = WEIGHT_FILES | PUBLISHED_SAM
    if name not in published:
        raise ConfigError(
            f"there are no published weights named {name!r}; available: {', '.join(published)}",
            hint="medseg weights list describes them.",
        )
    entry = published[name]
    path = download_file(url or entry.url, entry.path(cache), progress=_print_progress)
    click.echo(path)


def _print_progress(done: int, total: int | None) -> None:
    of = f" of {total / 2**20:.0f}" if total else ""
    click.echo(f"\r{done / 2**20:.0f}{of} MB", err=True, nl=total is not None and done >= total)
