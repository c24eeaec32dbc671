"""Planning: settings for a dataset, from its measurements, the device and the time.

Modules:
    plan: ``plan_config``, the settings.
    dry_run: ``dry_run``, an estimate of time and memory.
"""
