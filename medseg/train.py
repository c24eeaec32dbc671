"""``python -m medseg.train`` runs ``medseg train``."""

from medseg.cli.main import main

if __name__ == "__main__":
    main(["train"])
