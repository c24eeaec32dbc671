"""The subcommands of ``medseg``: one module for each command or group of commands."""
