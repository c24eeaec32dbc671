"""The ``medseg`` command: ``main`` is the entry point, other modules are commands or groups of commands."""
