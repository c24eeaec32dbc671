"""The ``medseg`` command.

Modules:
    main: the entry point, exit codes and error messages.
    commands: one module for each command or group of commands.
    options: options that several commands share.
"""
