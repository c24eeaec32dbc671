import base64
import hashlib
import re

import pytest
from markupsafe import Markup

from medseg.errors import ExistingFileError
from medseg.report.html import number, tag
from medseg.report.page import Page, page_kind
from medseg.report.table import Column, Table, plain


def policy(page):
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    return dict(part.strip().split(" ", 1) for part in Markup(found[1]).unescape().split(";"))


def test_only_the_scripts_and_styles_of_the_page_are_allowed(tmp_path):
    page = Page("a <title>", "Test", Markup("<p>good</p>"))
    page.add_script("console.log('1 < 2 </script>')")
    page.add("Part one", "1 < 2")
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    rules = policy(text)
    assert rules["default-src"] == "'none'"
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        contents = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in contents]
        assert rules[directive] == " ".join(f"'sha256-{one}'" for one in digests)
    assert len(re.findall("</script>", text)) == 2  # the end tag in the script is escaped
    assert "a &lt;title&gt;" in text
    assert '<a href="#section-part-one">Part one</a>' in text


def test_nothing_comes_from_elsewhere_or_is_inline():
    page = Page("title", "Test", "verdict")
    page.add("Table", Table("c", [Column("a")], [["x"]]).html())
    text = page.render()
    assert not re.search(
        r"https?:|//[a-z]|\sstyle=|\son[a-z]+=", re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    )


def test_empty_sections_and_repeated_scripts_are_left_out():
    page = Page("title", "Test", "verdict")
    page.add("Nothing", "")
    page.add_script("1;")
    page.add_script("1;")
    text = page.render()
    assert "Nothing" not in text
    assert text.count("<script>1;</script>") == 1


def test_more_sources_can_be_allowed():
    page = Page("title", "Test", "verdict")
    page.allow("worker-src", "blob:")
    page.allow("worker-src", "blob:", "data:")
    page.allow("script-src", "'wasm-unsafe-eval'")
    rules = policy(page.render())
    assert rules["worker-src"] == "blob: data:"
    assert rules["script-src"].endswith(" 'wasm-unsafe-eval'")


def test_tables_are_semantic():
    columns = [Column("case"), Column("site", "choice"), Column("Dice", "number", "overlap")]
    rows = [["a", "A & B", number(0.5)], ["b", "C", number(0.75)]]
    text = Table("Scores", columns, rows, (2, "ascending"), controls=True, marks=["poor", ""]).html()
    assert (
        '<th scope="col" aria-sort="ascending" class="num"><button type="button" title="overlap">Dice' in text
    )
    assert '<tr class="poor"><th scope="row">a</th><td>A &amp; B</td><td class="num"><data value="0.5">' in text
    assert "<caption>Scores</caption>" in text
    assert '<option value="A &amp; B">A &amp; B</option>' in text
    assert text.count("<option") == 3  # all, A & B, C
    assert "controls" not in Table("Scores", columns, rows).html()


def test_long_row_headings_may_be_broken():
    rows = [["left_hippocampus", "1"], ["right_hippocampus", "2"], [Markup('<a href="#a_b">x_y</a>'), "3"]]
    text = Table("Scores", [Column("label"), Column("n")], rows).html()
    assert '<th scope="row">left_hippocampus</th>' in text
    assert '<th scope="row" class="long">right_<wbr>hippocampus</th>' in text
    assert '<th scope="row"><a href="#a_b">x_y</a></th>' in text
    assert plain(rows[1][0]) == "right_hippocampus"


def test_plain_text_of_cells():
    assert plain("a") == "a"
    assert plain(tag("b", "x & y")) == "x & y"


def test_a_page_replaces_only_pages(tmp_path):
    page, path = Page("title", "Test", "verdict"), tmp_path / "report.html"
    page.write(path)
    page.write(path)
    path.write_text("<h1>my notes</h1>")
    with pytest.raises(ExistingFileError, match=r"report\.html: exists and was not written by medseg"):
        page.write(path)
    assert path.read_text() == "<h1>my notes</h1>"


def test_a_page_does_not_replace_one_of_another_kind(tmp_path):
    path = tmp_path / "report.html"
    Page("title", "Training", "verdict").write(path)
    before = path.read_text()
    assert page_kind(path) == "Training"
    with pytest.raises(
        ExistingFileError, match=r"report\.html: exists and is a report of another kind \(Train"
    ):
        Page("title", "Inference", "verdict").write(path)
    assert path.read_text() == before
