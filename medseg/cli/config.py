"""``medseg config``: configuration files, resolved settings and their schema."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import click

from medseg.cli.options import PATH, debug_option
from medseg.errors import ConfigError

SHARE_FOLDER = "share/medseg/configs/"
"""Folder of the configuration files below the installation prefix, as in ``pyproject.toml``."""


@click.group("config")
def config_group() -> None:
    """List configuration files and show settings."""


@config_group.command("schema")
@debug_option
def config_schema() -> None:
    """Print the JSON schema of a configuration file."""
    from medseg.config.schema import RunConfig

    schema = RunConfig.model_json_schema()
    base = {"type": "string", "description": "Configuration file whose settings this file overrides."}
    schema["properties"] = {"base": base, **schema["properties"]}
    click.echo(json.dumps(schema, indent=2))


@config_group.command("list")
@debug_option
def config_list() -> None:
    """Print the paths of the configuration files that medseg includes.

    medseg train and medseg config show accept their names without folder and suffix.
    """
    for path in included_configs():
        click.echo(path)


@config_group.command("show")
@click.argument("file", type=PATH)
@click.argument("overrides", nargs=-1)
@debug_option
def config_show(file: Path, overrides: tuple[str, ...]) -> None:
    """Print the resolved settings, defaults included.

    FILE is a configuration file, or the name of an included one (medseg config list). OVERRIDES are settings
    such as train.epochs=50.
    """
    from medseg.config.schema import load_config, to_yaml

    click.echo(to_yaml(load_config(find_config(file), overrides)), nl=False)


def included_configs() -> list[Path]:
    """Return the configuration files of the checkout, or those that the installation recorded, sorted.

    The record is found for every kind of installation: in an environment, in the system or with ``--user``.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "configs").is_dir():
        return sorted((checkout / "configs").rglob("*.yaml"))
    try:
        recorded = metadata.files("medseg") or []
    except metadata.PackageNotFoundError:
        return []
    paths = (Path(str(one.locate())) for one in recorded if SHARE_FOLDER in one.as_posix())
    return sorted(path.resolve() for path in paths if path.suffix == ".yaml" and path.is_file())


def find_config(source: Path) -> Path:
    """Return the configuration file that the user named.

    Args:
        source: a path, or the name of an included file with or without ``.yaml``. An existing path has
            priority.

    Raises:
        ConfigError: if there is no such file. The hint gives the path of an included file with the same name.
    """
    if source.exists():
        return source
    matches = [path for path in included_configs() if path.stem == source.name.removesuffix(".yaml")]
    if matches and len(source.parts) == 1:
        click.echo(f"using {matches[0]}", err=True)
        return matches[0]
    hint = "medseg config list prints the included files."
    if matches:
        hint = f"medseg includes {matches[0]}; medseg accepts its name, {matches[0].stem}, too."
    raise ConfigError(f"{source}: no such configuration file, and no folder of cases", hint=hint, path=source)
