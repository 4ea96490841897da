"""The page: self-contained, escaped, whole on the disk or not there, the same each time, small enough to send."""

from __future__ import annotations

import errno
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from innerworld.errors import UserError
from innerworld.report import Chart, Curve, Facts, Movie, Page, Picture, Section, Table, render, write

NASTY = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "link", "img", "input"}


def test_everything_is_in_the_file() -> None:
    reader = read(render(full()))
    assert "script" not in reader.names
    for name, value in reader.attributes:
        assert name not in ("srcset", "data", "action", "poster") and not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:", "#"))
    assert not re.search(r"https?://|url\(|@import|//cdn", render(full()))
    assert "default-src 'none'" in render(full())


def test_elements_are_closed_and_ids_unique() -> None:
    reader = read(render(full()))
    assert reader.open == []
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 10
    for name, value in reader.attributes:
        if name in ("aria-labelledby", "for"):
            assert set(value.split()) <= set(ids)
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids


def test_all_text_is_escaped() -> None:
    text = render(full(NASTY))
    assert "<script" not in text and "alert(&#x27;x&#x27;)" in text
    assert NASTY in read(text).text


def test_every_image_has_words_and_every_table_heads() -> None:
    text = render(full())
    assert all('alt="' in tag for tag in re.findall(r"<img [^>]*", text))
    assert all("aria-" in tag for tag in re.findall(r'<svg class="(?:chart|picture|stills)[^>]*', text))
    assert text.count('<th scope="col"') == 4 + 5 and text.count('<th scope="row"') == 3


def test_paragraphs_and_code() -> None:
    text = render(Page("t", "one `a<b` two\n\nthree", "", []))
    assert "<p>one <code>a&lt;b</code> two</p>\n<p>three</p>" in text


def test_numbers_are_aligned_and_a_row_emphasised() -> None:
    table = Table("t", ["model", "score", "what"], [["a", "0.5 ± 0.1", "x"], ["b", "–", "1"]], emphasise=1)
    text = render(Page("t", "", "", [Section("s", "", [table])]))
    assert '<td class="number">0.5 ± 0.1</td><td>x</td>' in text
    assert '<tr class="chosen"><th scope="row">b</th>' in text


def test_blocks_of_one_kind_share_a_grid() -> None:
    chart = Chart("c", "x", "y", [Curve("a", [0, 1], [0, 1])])
    text = render(Page("t", "", "", [Section("s", "", [chart, chart, Facts([("a", "b")]), chart])]))
    assert text.count('<div class="grid charts">') == 2


@pytest.mark.parametrize(
    "page",
    [
        Page("t", "", "", []),
        Page("t", "", "", [Section("s")] * 4),
        Page("t", "", "", [Section("s", "", [Table("e", [], []), Table("e", ["a"], []), Facts([])])]),
        Page("t", "", "", [Section("s", "", [Chart("c", "x", "y", [])])]),
    ],
)
def test_empty_pages_and_sections(page: Page) -> None:
    assert read(render(page)).open == []


def test_the_same_page_gives_the_same_text(tmp_path: Path) -> None:
    assert render(full()) == render(full())
    assert write(full(), tmp_path / "a.html").read_bytes() == write(full(), tmp_path / "b.html").read_bytes()


def test_write_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = write(full(), tmp_path / "runs" / "one" / "report.html")
    assert path.read_text(encoding="utf-8") == render(full())
    assert os.listdir(path.parent) == ["report.html"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full_disk)
    with pytest.raises(UserError, match=r"no space left: make room while writing") as caught:
        write(full(), path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder of the report"):
        write(full(), tmp_path / "file" / "report.html")


def test_an_interrupt_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(full(), tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


def test_a_table_with_a_short_row_is_refused() -> None:
    with pytest.raises(UserError, match="row 1 has 1 cells, there are 2"):
        Table("t", ["a", "b"], [["1", "2"], ["3"]])
    with pytest.raises(UserError, match="no row 2 to emphasise"):
        Table("t", ["a"], [["1"], ["2"]], emphasise=2)


def test_a_page_with_eight_movies_and_six_pictures_stays_below_3_mb() -> None:
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 64)[None, :, None, None] * np.ones((20, 64, 64, 3))
    noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    movie = Movie("m", [("real", smooth.astype(np.uint8)), ("imagined", noisy)])
    picture = Picture("p", noisy[0], [("walked", rng.uniform(0, 64, (60, 2)))])
    one_of_each = render(Page("t", "", "", [Section("s", "", [movie, picture])]))
    assert 8 * len(one_of_each.encode()) < 3e6


def full(word: str = "word") -> Page:
    """A page with one of each, `word` wherever there is text."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    curves = [Curve(word, [0, 1], [0, 1], [0, 0.5], [0.5, 2]), Curve("other", [0, 1], [1, 2])]
    blocks = [
        Facts([(word, word)]),
        Chart(word, word, word, curves, note=word, line=1, line_name=word),
        Table(word, [word, "a", "b", "c"], [[word, "1", "2", word]], note=word, emphasise=0),
        Movie(word, [(word, frames), (word, frames)]),
        Movie(word, [(word, frames)]),
        Picture(word, frames[0], [(word, np.array([[1.0, 1.0], [5.0, 5.0]]))], [(word, (2.0, 2.0))]),
    ]
    sections = [Section(word, word, blocks), Section("second", "text"), Section("third")]
    return Page(word, word, word, sections, Facts([("version", word)]))


class Reader(HTMLParser):
    """What is in a page: names of elements, attributes, the text, and what was left open."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def test_names_that_are_no_text_are_written_all_the_same(tmp_path: Path) -> None:
    """As Python has them under a plain C locale: é in UTF-8, and a byte that is no character at all."""
    disguised = b"\xc3\xa9 \xff".decode("ascii", "surrogateescape")
    path = write(Page(disguised, "", "innerworld", []), tmp_path / "report.html")
    assert "é \N{REPLACEMENT CHARACTER}" in path.read_text(encoding="utf-8")
