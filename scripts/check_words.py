"""Refuse words that make the project's English hard to read: British spellings and archaic turns.

    python scripts/check_words.py            # the word list is tool.medseg.words in pyproject.toml

Prints each line with a refused word and exits with 1 if there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Search the tracked files of the listed folders."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["medseg"]["words"]
    refused = re.compile("|".join(rf"\b(?:{word})" for word in settings["refused"]), flags=re.IGNORECASE)
    allowed = re.compile("|".join(settings["allowed"])) if settings["allowed"] else None
    listed = subprocess.run(["git", "ls-files", *settings["paths"]], cwd=ROOT, capture_output=True, text=True)
    count = 0
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in (".py", ".md", ".yaml", ".html", ".toml", ""):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            rest = allowed.sub("", line) if allowed else line
            for found in refused.finditer(rest):
                print(f"{name}:{number}: {found.group(0)!r}: {line.strip()[:90]}")
                count += 1
    if count:
        print(f"{count} refused words; see tool.medseg.words in pyproject.toml")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
