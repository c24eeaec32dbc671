"""The example of the how-to on prompts runs as it stands."""

import re
from pathlib import Path

from medseg.prompts.users import USERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "evaluate-prompts.md").read_text("utf-8")


def test_example_in_python(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "evaluate-prompts.md", "exec"), {})
    assert float(capsys.readouterr().out) > 0.9


def test_every_user_is_described():
    table = PAGE[PAGE.index("| `--user` |") : PAGE.index("The largest error is")]
    described = set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    assert described - {"--user"} == {*USERS, "human"}
