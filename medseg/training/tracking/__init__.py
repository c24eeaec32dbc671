"""What follows a training: callbacks, tracking services and the live view of a terminal.

Modules:
    callbacks: the protocol, for your own code and for the services.
"""
