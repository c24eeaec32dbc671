"""``python -m medseg.infer`` runs ``medseg infer``."""

from medseg.cli.main import main

if __name__ == "__main__":
    main(["infer"])
