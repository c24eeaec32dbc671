"""The page of a report: one offline HTML file with a strict content security policy."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from datetime import date
from gzip import compress
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from medseg.errors import ExistingFileError
from medseg.files import write_text
from medseg.report.html import Content, anchor, breakable, join, tag
from medseg.system.version import medseg_version

_POLICY = {
    "default-src": ("'none'",),
    "base-uri": ("'none'",),
    "form-action": ("'none'",),
    "img-src": ("data:",),
}


@dataclass
class Page:
    """Collects the parts of a report and writes them as one file.

    The file needs no network, and its content security policy allows none: only the scripts and styles that
    the page itself contains run, by their SHA-256, and pictures are data URIs. Content must therefore not have
    ``style`` attributes or event handlers; classes and SVG attributes are fine.

    Attributes:
        title: what the report is about; the heading of the page.
        kind: kind of the report, such as ``Evaluation``.
        verdict: the answer in words, at the top.

    Example:
        >>> page = Page("Liver", "Evaluation", Markup("<p>Mean Dice is 0.9.</p>"))
        >>> page.add("Cases", Markup("<p>There are none.</p>"))
        >>> "Content-Security-Policy" in page.render()
        True
    """

    title: str
    kind: str
    verdict: Content
    _sections: list[tuple[str, str, Markup]] = field(default_factory=list[tuple[str, str, Markup]])
    _scripts: list[str] = field(default_factory=list[str])
    _styles: list[str] = field(default_factory=list[str])
    _deferred: dict[str, str] = field(default_factory=dict[str, str])
    _allowed: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def __post_init__(self) -> None:
        self.add_style(_asset("report.css"))
        self.add_script(_asset("report.js"))

    def add(self, heading: str, *content: Content) -> None:
        """Add a section; sections without content are left out."""
        joined = join(content)
        if joined:
            self._sections.append((anchor("section", heading.lower().replace(" ", "-")), heading, joined))

    def add_script(self, code: str) -> None:
        """Add a script, which runs after the content; the same one is added once."""
        if code not in self._scripts:
            self._scripts.append(code)

    def add_deferred_script(self, name: str, code: str) -> None:
        """Add a large script that another script starts when it is needed.

        It is stored compressed, as text of an element of the class ``deferred-script``: gzip in base64. The
        content security policy allows it, unpacked, as the text of a script element.
        """
        self._deferred[name] = code

    def add_style(self, code: str) -> None:
        """Add a style sheet; the same one is added once."""
        if code not in self._styles:
            self._styles.append(code)

    def allow(self, directive: str, *sources: str) -> None:
        """Allow more sources in the content security policy, such as ``blob:`` for ``worker-src``."""
        earlier = self._allowed.get(directive, ())
        self._allowed[directive] = (*earlier, *(one for one in sources if one not in earlier))

    def render(self) -> str:
        """Return the page as HTML."""
        head = join(
            [
                Markup('<meta charset="utf-8">'),
                Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(self._policy()),
                Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
                Markup('<meta name="color-scheme" content="light dark">'),
                Markup('<meta name="generator" content="medseg {}">').format(medseg_version()),
                tag("title", f"{self.kind}: {self.title}"),
                *(Markup("<style>{}</style>").format(Markup(one)) for one in self._styles),
            ],
            "\n",
        )
        deferred = (_deferred(name, code) for name, code in self._deferred.items())
        inline = (Markup("<script>{}</script>").format(Markup(_inline(one))) for one in self._scripts)
        scripts = join([*deferred, *inline])
        page = Markup(
            '<!doctype html>\n<html lang="en">\n<head>\n{}\n</head>\n<body>\n{}\n{}\n</body>\n</html>\n'
        )
        return str(page.format(head, self._body(), scripts))

    def write(self, path: Path) -> None:
        """Write the page to a file atomically.

        Raises:
            ExistingFileError: if the file exists and is not such a page: of medseg, and of the same kind.
        """
        path = Path(path)
        check_page(path, self.kind)
        write_text(path, self.render())

    def _body(self) -> Markup:
        links = join(tag("a", heading, href=f"#{place}") for place, heading, _ in self._sections)
        made = f"medseg {medseg_version()}, {date.today().isoformat()}"
        sections = (
            tag("section", tag("h2", heading, id=place), content, aria_labelledby=place)
            for place, heading, content in self._sections
        )
        return join(
            [
                tag("a", "Skip to the results", class_="skip", href="#results"),
                tag("header", tag("span", self.kind, class_="kind"), tag("span", made, class_="made")),
                tag("nav", links, aria_label="Sections"),
                tag(
                    "main",
                    tag("h1", breakable(self.title)),
                    tag("section", self.verdict, class_="verdict", aria_label="Verdict"),
                    join(sections, "\n"),
                    id="results",
                ),
            ],
            "\n",
        )

    def _policy(self) -> str:
        policy: dict[str, tuple[str, ...]] = {
            **_POLICY,
            "style-src": tuple(_digest(one) for one in self._styles),
            "script-src": tuple(map(_digest, [*map(_inline, self._scripts), *self._deferred.values()])),
        }
        for directive, sources in self._allowed.items():
            policy[directive] = (*policy.get(directive, ()), *sources)
        return "; ".join(f"{directive} {' '.join(sources)}" for directive, sources in policy.items())


def page_kind(path: Path) -> str | None:
    """Return the kind of the page of medseg in a file; None if there is none, or it is something else."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(1 << 13)
    title = re.search(r"<title>([^:<]+): ", head)
    return title[1] if title and '<meta name="generator" content="medseg' in head else None


def check_page(path: Path, kind: str, *, hint: str = "Move the file, or choose another --output.") -> None:
    """Check that a page can be written: that a file in its place is a page of the same kind.

    Args:
        path: file of the page.
        kind: kind of the page.
        hint: what to do otherwise.

    Raises:
        ExistingFileError: if the file exists, and is a page of another kind or not a page of medseg.
    """
    found = page_kind(path)
    if found != kind and (found is not None or path.exists()):
        other = "was not written by medseg" if found is None else f"is a report of another kind ({found})"
        raise ExistingFileError(f"{path}: exists and {other}", hint=hint, path=path)


def _asset(name: str) -> str:
    return files("medseg.report").joinpath("assets", name).read_text(encoding="utf-8")


def _inline(code: str) -> str:
    """Return a script that contains no end tag, which would end its element."""
    return code.replace("</script", "<\\/script")


def _deferred(name: str, code: str) -> Markup:
    packed = base64.b64encode(compress(code.encode(), mtime=0)).decode()
    return tag("script", packed, type="application/gzip", class_="deferred-script", data_name=name)


def _digest(code: str) -> str:
    """Return the source expression of the policy for an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
