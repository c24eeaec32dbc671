"""What follows a training: callbacks, tracking services and the live view of a terminal.

Modules:
    callbacks: the protocol, for your own code and for the services.
    options: the settings ``train.tracking``.
    setup: the callbacks of the services that the settings select.
    service: a service as a callback that never stops a training.
    sent_record: what a service receives.
    mlflow_service: MLflow.
    wandb_service: Weights & Biases.
    live_view: the state of a training on a terminal.
"""
