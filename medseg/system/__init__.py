"""Services of the operating system and the hardware: memory, devices, processes, locks, downloads, version."""
