"""The ``--help`` text of every command equals the stored one in ``help/``.

Update the files with ``python -m pytest tests/golden -m "" --update-golden``.
"""

import click
import pytest
from click.testing import CliRunner

from medseg.cli.main import cli


def commands(command, words=()):
    """Yield the path, as a tuple of words, of a command and of all its subcommands."""
    yield words
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from commands(below, (*words, name))


def help_file(words):
    return f"help/{'_'.join(('medseg', *words))}.txt"


@pytest.mark.parametrize("words", list(commands(cli)), ids=lambda words: " ".join(("medseg", *words)))
def test_help_text_is_unchanged(words, golden):
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="medseg", terminal_width=100)
    assert result.exit_code == 0, result.output
    golden.check_text(help_file(words), result.output)


def test_help_files_match_the_commands(golden):
    golden.check_names("help/*.txt", {help_file(words) for words in commands(cli)})
