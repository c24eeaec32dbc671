"""Processes: their cores, threads and signals, and how they start and end.

Modules:
    launch: how this process was started.
    cores: the cores of this machine, and processes that run on some of them.
    core_usage: detection of other processes on the same cores.
    lifetime: how processes end with their parent.
    child: the program that starts others on some cores.
    threads: number of CPU threads.
    signals: signals to stop.
    batch_reduction: sums over the processes that share a batch.
"""
