"""``medseg serve``: a server for annotation."""

from __future__ import annotations

from typing import Any

import click

from medseg.cli.options import PATH, all_options, debug_option, device_option, label_suffix_option

server_options = all_options(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
        help="Port to listen on; 0 for any free one.",
    ),
    click.option(
        "--token", envvar="MEDSEG_TOKEN",
        help="Secret that clients send; required with another --host. Also read from MEDSEG_TOKEN.",
    ),
    click.option("--certificate", type=PATH, help="PEM file with a TLS certificate, for https."),
    click.option("--key", type=PATH, help="PEM file with the certificate's key.  [default: the same file]"),
    click.option("--allow-host", "allowed_hosts", multiple=True, help="Further name of this server."),
    click.option(
        "--allow-origin", "allowed_origins", multiple=True, metavar="URL",
        help="Further web page that may use the server, such as https://viewer.example.org.",
    ),
    click.option(
        "--labels", metavar="NAME,NAME…", help="Names of the labels, if neither dataset nor models declare any."
    ),
    label_suffix_option,
    click.option("--runs", type=PATH, help="Folder of trainings.  [default: in DATA/.medseg]"),
    click.option(
        "--set", "train", multiple=True, metavar="KEY=VALUE",
        help="Setting of trainings, such as train.epochs=50.",
    ),
    click.option(
        "--propagate/--no-propagate", default=None,
        help="Propagate a prompt of a SAM to the slices of a volume around it.  [default: not on a CPU]",
    ),
    device_option,
)  # fmt: skip
"""Options of every command that starts the server."""


def make_options(data: str, models: tuple[str, ...], given: dict[str, Any]) -> Any:
    """Return the server's options from those of a command."""
    from medseg.data.layouts.discovery import LayoutOptions
    from medseg.server.options import ServerOptions

    labels = tuple(name.strip() for name in (given.pop("labels") or "").split(",") if name.strip())
    layout = LayoutOptions(given.pop("label_suffix"))
    return ServerOptions(data=data, models=models, labels=labels, layout=layout, **given)


@click.command()
@click.option("--data", required=True, metavar="FOLDER|URL", help="Dataset, or URL of a DICOMweb service.")
@click.option(
    "--model", "models", multiple=True, metavar="[NAME=]PATH",
    help="Run folder, model file or published network; repeatable. PATH,PATH averages models.",
)  # fmt: skip
@click.option("--cache", type=PATH, help="Folder of images from DICOMweb and of their labels.")
@click.option(
    "--ohif", type=PATH, metavar="FOLDER|WHEEL",
    help="Built OHIF to serve at /ohif/, for images from DICOMweb: its folder, or MONAI Label's wheel.",
)  # fmt: skip
@click.option("--send-seg", is_flag=True, help="Send saved labels to the DICOMweb service as DICOM SEG.")
@server_options
@debug_option
def serve(data: str, models: tuple[str, ...], **given: Any) -> None:
    """Serve a dataset and models for annotation in 3D Slicer, OHIF or a browser.

    Labels are saved into the dataset, and every version is kept. The server answers programs on this machine
    only, unless --host and --token are given.
    """
    from medseg.server.run import check_packages
    from medseg.server.run import serve as run_server

    check_packages()
    options = make_options(data, models, given)
    if not options.is_local and options.certificate is None:
        click.echo("warning: without --certificate, images and the token are sent unencrypted", err=True)

    def announce(url: str) -> None:
        click.echo(f"serving {options.data_name} at {url} (Ctrl+C ends it)")
        if options.ohif is not None:
            click.echo(f"OHIF: {url}ohif/")

    run_server(options, started=announce)
