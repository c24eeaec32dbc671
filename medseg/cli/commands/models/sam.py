"""``medseg sam``: Segment Anything models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg.cli.options import (
    OUTPUT,
    PATH,
    POSITIVE,
    SEED,
    FiniteRange,
    debug_option,
    device_option,
    weights_option,
)

_GIGABYTES = FiniteRange(min=0, min_open=True)


@click.group("sam")
def sam_group() -> None:
    """Train SAM, MedSAM and SAM 2.1 on your own labels."""


@sam_group.command("finetune")
@click.argument("model")
@click.argument("data", type=PATH)
@click.option("--output", type=OUTPUT, required=True, help="Folder of the trained model.")
@weights_option
@click.option("--epochs", type=POSITIVE, default=20, show_default=True, help="Passes over the labels.")
@click.option(
    "--lr", type=FiniteRange(min=0, min_open=True), default=1e-4, show_default=True, help="Learning rate."
)
@click.option("--batch", type=POSITIVE, default=4, show_default=True, help="Objects in an update.")
@click.option(
    "--prompts",
    type=click.Choice(["box", "point", "mixed"]),
    default="mixed",
    show_default=True,
    help="Prompts that are trained.",
)
@click.option(
    "--objects",
    type=click.Choice(["components", "values"]),
    default="components",
    show_default=True,
    help="An object is a connected region of a label in a slice, or all of the label.",
)
@click.option("--slices", type=POSITIVE, default=32, show_default=True, help="Labeled slices of a volume.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of split, order and prompts.")
@click.option("--cache", type=PATH, help="Folder of embeddings.  [default: ~/.cache/medseg/embeddings]")
@click.option("--cache-gb", type=_GIGABYTES, default=8, show_default=True, help="Largest size of that folder.")
@device_option
@debug_option
def finetune(
    model: str,
    data: Path,
    output: Path,
    weights: Path | None,
    cache: Path | None,
    cache_gb: float,
    device: str,
    **options: Any,
) -> None:
    """Train the mask decoder of MODEL on the labels of DATA.

    MODEL is a name of medseg weights list, a file in an official layout, or a folder in Hugging Face's layout.
    DATA is a dataset folder. The image encoder is not changed: the embedding of each labeled slice is computed
    once. An interrupted training continues when the command is repeated.
    """  # fmt: skip
    from medseg.progress import ConsoleProgress
    from medseg.sam.embeddings import EmbeddingStore
    from medseg.sam.finetuning.options import FinetuneOptions
    from medseg.sam.finetuning.training import finetune as train
    from medseg.sam.loading import EMBEDDINGS, load_sam

    store = EmbeddingStore((cache or EMBEDDINGS).expanduser(), disk_bytes=int(cache_gb * 1e9))
    sam = load_sam(model, weights=weights, store=store, device=device)
    with ConsoleProgress() as progress:
        result = train(sam, data, output, FinetuneOptions(**options), progress=progress)
    before = result.epochs[0]
    click.echo(f"validation Dice with a box    {before.box:.4f} before, {result.best.box:.4f} after")
    click.echo(f"validation Dice with a point  {before.point:.4f} before, {result.best.point:.4f} after")
    click.echo(f"model of epoch {result.best.epoch}: {result.folder}")
