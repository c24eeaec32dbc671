"""Training with several processes, on one machine or many, which ``torchrun`` starts.

Modules:
    options: the settings ``train.distributed``.
    launch: ``join_ranks``, which connects the processes.
    ranks: ``Ranks``, what the training asks the other processes; a single process is the ordinary case.
    reduction: sums over a batch that the processes share.
    watch: detects a process that died, and names it.
    replicas: the network of each process; DDP.
    sharding: FSDP2: weights that are divided among the processes, and their ordinary form in checkpoints.
    shared_pace: a time budget, decided by rank 0.
"""
