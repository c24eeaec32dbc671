"""``medseg config``: configuration files, resolved settings and their schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from medseg.cli.options import PATH, debug_option
from medseg.config.included import included_configs
from medseg.errors import ConfigError
from medseg.files import check_exists

INCLUDED_HINT = "medseg config list prints the included configurations."


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
    source = find_config(file)  # refused before the settings' schema, which takes seconds, is imported
    from medseg.config.schema import load_config, to_yaml

    click.echo(to_yaml(load_config(source, overrides)), nl=False)


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
    hint = INCLUDED_HINT if len(source.parts) == 1 else None
    if matches:
        hint = f"medseg includes {matches[0]}; medseg accepts its name, {matches[0].stem}, too."
    raise ConfigError(f"{source}: no such configuration file", hint=hint, path=source)


def find_config_file(source: Path) -> Path:
    """Return the configuration file that the user named, not a folder of cases.

    Raises:
        ConfigError: as :func:`find_config`, or if it is a folder.
    """
    found = find_config(source)
    if found.is_dir():
        raise ConfigError(
            f"{found}: is a folder, expected a configuration file",
            hint=f"Write one for these cases: medseg plan {found} -o config.yaml.",
            path=found,
        )
    return found


def with_data_and_budget(overrides: Sequence[str], data: Path | None, budget: float | None) -> list[str]:
    """Return the overrides with those of the options ``--data`` and ``--budget``."""
    own = [f"data.path={data}"] if data else []
    return [*overrides, *own, *([f"train.budget={budget}"] if budget is not None else [])]


def find_source(source: Path) -> Path:
    """Return the configuration file or the dataset that the user named.

    Raises:
        ConfigError: if there is no such configuration file.
        DataError: if there is nothing of that name, which does not end in ``.yaml``.
    """
    bare = len(source.parts) == 1
    if source.suffix not in (".yaml", ".yml") and not (bare and source.name in _included_names()):
        check_exists(source, INCLUDED_HINT if bare else None)
    return find_config(source)


def _included_names() -> set[str]:
    return {path.stem for path in included_configs()}
