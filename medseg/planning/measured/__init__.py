"""What a plan measures on the machine at hand.

Modules:
    machine: device, memory and cores.
    step_timer: the time of an update of a candidate network.
    budget: the choice of a candidate that time and memory allow.
    workers: processes that prepare patches, and threads.
"""
