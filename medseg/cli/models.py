"""``medseg models`` and ``medseg weights``: architectures, and published weights for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
_COUNT = click.IntRange(min=1)


@click.group()
def models() -> None:
    """Look at the architectures, and into trained networks."""


@models.command("list")
@click.option(
    "--size", default=128, show_default=True, type=_COUNT,
    help="Edge of the image that the operations are counted on.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--markdown", is_flag=True, help="Print as the table of docs/models.md.")
@_DEBUG
def models_list(size: int, as_json: bool, markdown: bool) -> None:
    """List every architecture: what its defaults cost and see, in 2D (3 channels, 21 classes).

    field: voxels along one axis that an output voxel sees (the least and the most, by its place on the coarser
    grids); stride: of the coarsest feature map.
    """
    from medseg.models.inspection.catalog import as_table, catalog

    rows = catalog(size)
    if markdown:
        click.echo(as_table(rows))
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
@click.option(
    "--size", default="128x128", show_default=True, help="Of the image: HxW, or XxYxZ for the 3D form."
)
@click.option("--channels", default=1, show_default=True, type=_COUNT, help="Of the image.")
@click.option("--classes", default=2, show_default=True, type=_COUNT, help="Channels of the logits.")
@click.option("--depth", default=2, show_default=True, type=_COUNT, help="How deep to look into nested parts.")
@_DEBUG
def models_show(
    name: str, options: tuple[str, ...], size: str, channels: int, classes: int, depth: int
) -> None:
    """Show the shapes within a network, part by part. OPTIONS are its settings, such as output_stride=8."""
    from medseg.config.schema import load_config
    from medseg.errors import ConfigError
    from medseg.models.inspection.catalog import describe_reach, levels

    config = load_config({"model": {"name": name}}, [f"model.{option}" for option in options]).model
    try:
        shape = tuple(int(n) for n in size.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ConfigError(f"--size {size!r}: expected HxW or XxYxZ, for example 128x128")
    try:
        rows = levels(config, shape, channels=channels, classes=classes, depth=depth)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} on an image of {size}: {error}") from error
    for row in rows:
        dims = "×".join(map(str, row.shape))
        click.echo(f"{row.name:32} {row.kind:22} {dims:24} {row.parameters:>12,}")
    click.echo(describe_reach(config, shape, channels=channels))


@models.command("features")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, type=click.Path(path_type=Path),
    help="Run folder, model file, or the name of a published network (medseg weights list).",
)  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), help="File of a published network's weights.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the pictures.")
@click.option(
    "--layer", "layers", multiple=True, help="A part's name (medseg models show); none: the network's stages."
)
@click.option(
    "--channels",
    default=16,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many are shown of a layer.",
)
@click.option("--slice", "index", type=int, help="Of a volume, after preprocessing; none: the middle one.")
@click.option("--window", is_flag=True, help="Only the middle window of the inference's size, for large scans.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@_DEBUG
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
    """Write pictures of what a trained network makes of IMAGE on its way, layer by layer."""
    from medseg.errors import ConfigError, DataError
    from medseg.inference.batch.input_discovery import find_inputs
    from medseg.inference.feature_maps import View, write_features
    from medseg.inference.model.predictor import Predictor
    from medseg.inference.model.published_models import model_source

    predictor = Predictor(model_source(model, weights), device=device)
    cases = find_inputs([image])
    if len(cases) != 1:
        raise DataError(f"{image}: holds {len(cases)} scans; name one of them")
    view = View(index, window)
    try:
        paths = write_features(predictor, cases[0], output, layers=layers, channels=channels, view=view)
    except ValueError as error:
        raise ConfigError(f"{image}: {error}. A part of the scan may do: --window") from error
    for path in paths:
        click.echo(path)


@click.group("weights")
def weights_group() -> None:
    """Published weights: list them, fetch them when asked."""


@weights_group.command("list")
@_DEBUG
def weights_list() -> None:
    """List the weights that are known by name, and whether they are at hand."""
    from medseg.models.pretrained.weight_registry import KNOWN

    for name, entry in KNOWN.items():
        kind = "network" if entry.network is not None else "backbone"
        here = "at hand" if entry.path().is_file() else "not fetched"
        click.echo(f"{name:28} {kind:9} {here:12} {entry.about}: {entry.url}")


@weights_group.command("get")
@click.argument("name")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder to keep them in.")
@click.option("--url", help="Another address of the same file, such as a mirror.")
@_DEBUG
def weights_get(name: str, cache: Path | None, url: str | None) -> None:
    """Fetch published weights from their public address; verified by the hash in their name."""
    from medseg.models.pretrained.weight_registry import known
    from medseg.system.download import download_file

    entry = known(name)
    path = download_file(url or entry.url, entry.path(cache), progress=_say)
    click.echo(path)


def _say(done: int, total: int | None) -> None:
    of = f" of {total / 2**20:.0f}" if total else ""
    click.echo(f"\r{done / 2**20:.0f}{of} MB", err=True, nl=total is not None and done >= total)
