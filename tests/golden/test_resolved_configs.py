"""Every file in ``configs/``, with defaults filled in, equals its entry in ``resolved_configs.json``.

Update the file with ``python -m pytest tests/golden -m "" --update-golden``.
"""

import os
from pathlib import Path

from medseg import load_config

ROOT = Path(__file__).resolve().parents[2]


def relative(value):
    """Replace absolute paths in nested settings by paths relative to the project."""
    if isinstance(value, dict):
        return {key: relative(item) for key, item in value.items()}
    if isinstance(value, list):
        return [relative(item) for item in value]
    return os.path.relpath(value, ROOT) if isinstance(value, str) and Path(value).is_absolute() else value


def test_resolved_configs_are_unchanged(golden):
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    found = {str(path.relative_to(ROOT)): load_config(path).model_dump(mode="json") for path in files}
    golden.check("resolved_configs.json", relative(found))
