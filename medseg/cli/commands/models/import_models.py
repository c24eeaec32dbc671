"""``medseg import``: convert models of other projects."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.options import OUTPUT, PATH, debug_option


@click.group("import")
def import_group() -> None:
    """Convert models of other projects into one safe file each."""


@import_group.command("nnunet")
@click.argument("folder", type=PATH)
@click.option("-o", "--output", required=True, type=OUTPUT, help="File to write (.safetensors).")
@click.option(
    "--fold", "folds", multiple=True, help="Fold to import: 0, 1, … or all.  [default: all numbered folds]"
)
@click.option(
    "--checkpoint", default="checkpoint_final.pth", show_default=True, help="Checkpoint file in each fold."
)
@click.option(
    "--trainer", help="Name of a custom trainer that uses the network and preprocessing of the plans."
)
@debug_option
def import_nnunet(
    folder: Path, output: Path, folds: tuple[str, ...], checkpoint: str, trainer: str | None
) -> None:
    """Convert a trained nnU-Net v2 FOLDER (…/nnUNetTrainer__nnUNetPlans__3d_fullres) into one safe file.

    The file contains the weights of the folds and the plans, for a cascade those of both stages. No code from
    the checkpoints is run. medseg infer accepts the file, or the folder itself.
    """
    from medseg.errors import ConfigError
    from medseg.interop.nnunet.file import write_nnunet_file
    from medseg.interop.nnunet.folder import read_folder
    from medseg.interop.nnunet.predict import NnunetPredictor

    if output.exists():  # it may be a file of the nnU-Net folder
        raise ConfigError(f"{output}: already exists", hint="Choose another name.", path=output)
    model = read_folder(folder, folds=folds, checkpoint=checkpoint, trainer=trainer)
    NnunetPredictor(model, device="cpu")  # raises if the weights do not fit the network
    write_nnunet_file(output, model)
    for stage in model.header.stages:
        mirrored = f"mirrored along {len(stage.mirror_axes)} axes" if stage.mirror_axes else "not mirrored"
        click.echo(f"{stage.configuration}: folds {', '.join(stage.folds)}; {mirrored}")
    click.echo(f"classes: {', '.join(model.header.labels.class_names)}")
    click.echo(f"model: {output}")
