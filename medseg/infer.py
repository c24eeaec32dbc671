"""``python -m medseg.infer``: the same as ``medseg infer``."""

from medseg.cli.main import main

if __name__ == "__main__":
    main(["infer"])
