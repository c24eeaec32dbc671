"""``python -m medseg.evaluate`` runs ``medseg evaluate``."""

from medseg.cli.main import main

if __name__ == "__main__":
    main(["evaluate"])
