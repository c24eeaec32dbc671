"""``medseg import``: other people's models, as one safe file each."""

from __future__ import annotations

from pathlib import Path

import click

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")


@click.group("import")
def import_group() -> None:
    """Turn other people's models into files of medseg's."""


@import_group.command("nnunet")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write, .safetensors."
)
@click.option("--fold", "folds", multiple=True, help="Fold to take: 0, 1, … or all. [default: every numbered]")
@click.option(
    "--checkpoint", default="checkpoint_final.pth", show_default=True, help="File to take from each fold."
)
@click.option("--trainer", help="Name of a trainer of your own that kept to the plans' network and images.")
@_DEBUG
def import_nnunet(
    folder: Path, output: Path, folds: tuple[str, ...], checkpoint: str, trainer: str | None
) -> None:
    """Write a trained nnU-Net v2 FOLDER (…/nnUNetTrainer__nnUNetPlans__3d_fullres) to one safe file.

    It holds the folds' weights and all that the plans say, of a cascade both stages'. Nothing of what is in the
    checkpoints is run. medseg infer takes the file, or the folder itself.
    """
    from medseg.errors import ConfigError
    from medseg.interop.nnunet.file import save
    from medseg.interop.nnunet.folder import read_folder
    from medseg.interop.nnunet.predict import NnunetPredictor

    if output.exists():  # it may be one of the folder's own files
        raise ConfigError(f"{output}: is there already; choose another name")
    model = read_folder(folder, folds=folds, checkpoint=checkpoint, trainer=trainer)
    NnunetPredictor(model, device="cpu")  # the weights fit
    save(output, model)
    for stage in model.header.stages:
        mirrored = f"mirrored along {len(stage.mirror_axes)} axes" if stage.mirror_axes else "not mirrored"
        click.echo(f"{stage.configuration}: folds {', '.join(stage.folds)}; {mirrored}")
    click.echo(f"finds: {', '.join(model.header.labels.class_names)}")
    click.echo(f"model: {output}")
