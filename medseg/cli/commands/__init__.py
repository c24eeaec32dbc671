"""The subcommands of ``medseg``: a module for each command or group of commands, in packages by topic."""
