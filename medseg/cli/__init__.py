"""The ``medseg`` command.

Modules:
    main: the entry point, exit codes and error messages.
    commands: one module for each command or group of commands.
    evaluated_kind: what medseg evaluate compares, and which options that uses.
    options: options that several commands share.
"""
