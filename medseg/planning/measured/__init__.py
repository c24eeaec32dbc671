"""What is measured on the machine at hand, for a plan or on request.

Modules:
    machine: device, memory and cores.
    step_timer: the time of an update of a candidate network.
    budget: the choice of a candidate that time and memory allow.
    workers: processes that prepare patches, and threads.
    dry_run: ``dry_run``, an estimate of time and memory.
    lr_finder: ``find_learning_rate``, a learning-rate range test.
"""
