"""``medseg annotate``: the annotation page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from medseg.cli.commands.annotation.serve import make_options, server_options
from medseg.cli.options import PATH, debug_option


@click.command()
@click.argument("data", metavar="DATA")
@click.option(
    "--model", "models", multiple=True, metavar="[NAME=]PATH",
    help="Run folder, model file or published network that proposes labels or answers prompts; repeatable.",
)  # fmt: skip
@click.option("--open/--no-open", "open_", default=True, show_default=True, help="Open the page in a browser.")
@click.option("--cache", type=PATH, help="Folder of images from DICOMweb and of their labels.")
@server_options
@debug_option
def annotate(data: str, models: tuple[str, ...], open_: bool, cache: Path | None, **given: Any) -> None:
    """Label the images of a dataset in the browser.

    DATA is a dataset folder or manifest, or the URL of a DICOMweb service. Accepted labels are saved into the
    dataset's own layout, so that medseg train DATA uses them; drafts and earlier versions are kept in
    DATA/.medseg. The page needs no network and answers programs on this machine only, unless --host and --token
    are given.
    """
    from medseg.server.run import check_packages, serve

    check_packages()
    options = make_options(data, models, {**given, "cache": cache})

    def started(url: str) -> None:
        click.echo(f"annotate {data} at {url} (Ctrl+C ends it)")
        if open_:
            click.launch(f"{url}?{urlencode({'token': options.token})}" if options.token else url)

    serve(options, started=started)
