"""A `Page` as one HTML file: no script, nothing loaded from elsewhere, at home on a phone, in the dark and on paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path

from innerworld.disk import reason, write_atomic
from innerworld.errors import UserError
from innerworld.report import chart, dots, movie, picture, sheet
from innerworld.report.content import Block, Chart, Dots, Facts, Movie, Page, Picture, Section, Sheet, Table

NUMBER = re.compile(r"[−+±<>≈~-]?\s*\d")  # how a cell begins that is aligned as a number
NOTHING = ("", "–", "-", "—")
# The browser itself refuses whatever is not in the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write(page: Page, path: Path | str) -> Path:
    """Render the page into `path`, whole or not at all. Raises `UserError` when the disk is full or not writable."""
    path = Path(path)
    text = render(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder of the report {path}: {reason(error)}") from None
    write_atomic(path, [_bytes(text)])
    return path


def _bytes(text: str) -> bytes:
    """UTF-8. Names of files under a plain C locale come as bytes in disguise, which become what they were."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def render(page: Page) -> str:
    """The page as the text of an HTML file; the same page gives the same text."""
    colours = chart.palette(block for s in page.sections for block in s.blocks if isinstance(block, Chart | Dots))
    style = resources.files("innerworld.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(page.title)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n"
        f"{_header(page)}{_contents(page.sections)}<main>\n"
        + "".join(_section(section, f"s{i}", colours) for i, section in enumerate(page.sections, 1))
        + f"</main>\n{_footer(page)}</body>\n</html>\n"
    )


# ---------------------------------------------------------------------- parts of the page


def _header(page: Page) -> str:
    command = ""
    if page.command:
        pre = f'<pre tabindex="0" role="region" aria-labelledby="command"><code>{escape(page.command)}</code></pre>'
        command = f'<div class="command"><span id="command">The command that made this</span>{pre}</div>\n'
    return f'<header>\n<h1>{escape(page.title)}</h1>\n<div class="lead">{_text(page.lead)}</div>\n{command}</header>\n'


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 3:
        return ""
    rows = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections, 1))
    return f'<nav aria-label="Contents"><ol>{rows}</ol></nav>\n'


def _section(section: Section, key: str, colours: chart.Colours) -> str:
    """Blocks of one kind that follow one another share a grid."""
    parts, i = [], 0
    for kind, group in groupby(section.blocks, key=type):
        blocks = list(group)
        drawn = [_block(block, f"{key}-{i + k}", colours) for k, block in enumerate(blocks, 1)]
        i += len(blocks)
        shared = kind in (Chart, Dots, Movie, Picture)
        parts.append(f'<div class="grid {kind.__name__.lower()}s">{"".join(drawn)}</div>' if shared else "".join(drawn))
    body = "\n".join(parts)
    title = f'<h2 id="{key}-h">{escape(section.title)}</h2>'
    return f'<section id="{key}" aria-labelledby="{key}-h">\n{title}\n{_text(section.text)}{body}\n</section>\n'


def _footer(page: Page) -> str:
    return f"<footer>\n{_facts(page.footer)}</footer>\n" if page.footer.rows else ""


# ---------------------------------------------------------------------- blocks


def _block(block: Block, key: str, colours: chart.Colours) -> str:
    if isinstance(block, Chart):
        return _chart(block, key, colours)
    if isinstance(block, Dots):
        return _dots(block, key, colours)
    if isinstance(block, Table):
        return _table(block, key)
    if isinstance(block, Movie):
        return _movie(block, key)
    if isinstance(block, Picture):
        return f"<figure>{picture.draw(block, key)}<figcaption>{_text(block.caption)}</figcaption></figure>"
    if isinstance(block, Sheet):
        return _sheet(block)
    return _facts(block)


def _sheet(block: Sheet) -> str:
    drawn = f"<h3>{escape(block.title)}</h3>{_scrolled(sheet.draw(block), block.title)}"
    return f'<figure class="sheet">{drawn}<figcaption>{_text(block.note)}</figcaption></figure>'


def _movie(block: Movie, key: str) -> str:
    """Moving or as stills: a box switches in the style sheet, so no script is needed."""
    moving, exact = movie.draw(block)
    remark = "" if exact else " (exact; the movie’s colours are approximate)"
    switch = f'<label class="switch"><input type="checkbox" id="{key}-still"> Show as stills{remark}</label>'
    caption = f"<figcaption>{_text(block.caption)}{switch}</figcaption>"
    return f'<figure class="movie">{moving}{movie.stills(block)}{caption}</figure>'


def _chart(block: Chart, key: str, colours: chart.Colours) -> str:
    columns = ("curve", "first", "last", "lowest", "highest")
    numbers = _numbers(block.title, columns, chart.summary(block))
    drawn = f"<h3>{escape(block.title)}</h3>{chart.draw(block, key, colours)}"
    caption = _text(block.note) + _text(" ".join(chart.remarks(block)))
    return f"<figure>{drawn}<figcaption>{caption}{numbers}</figcaption></figure>"


def _dots(block: Dots, key: str, colours: chart.Colours) -> str:
    numbers = _numbers(block.title, ("who", "number", "interval", "of"), dots.summary(block))
    drawn = f"<h3>{escape(block.title)}</h3>{dots.draw(block, key, colours)}"
    return f"<figure>{drawn}<figcaption>{_text(block.note)}{numbers}</figcaption></figure>"


def _numbers(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """What a drawing shows, as a table that can be opened."""
    table = _scrolled(f"<table>{_rows(columns, rows, None)}</table>", f"Values of {title}")
    return f"<details><summary>In numbers</summary>{table}</details>" if rows else ""


def _table(block: Table, key: str) -> str:
    rows = _rows(block.columns, block.rows, block.emphasise)
    body = _scrolled(f'<table aria-labelledby="{key}-t">{rows}</table>', block.title)
    if not block.rows:
        body += '<p class="empty">No rows.</p>'
    note = f"<figcaption>{_text(block.note)}</figcaption>" if block.note else ""
    return f'<figure class="table"><h3 id="{key}-t">{escape(block.title)}</h3>{body}{note}</figure>'


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]], emphasise: int | None) -> str:
    kinds = [_kind([row[j] for row in rows]) for j in range(len(columns))]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    body = []
    for i, row in enumerate(rows):
        first = f'<th scope="row">{escape(row[0])}</th>' if row else ""
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        chosen = ' class="chosen"' if i == emphasise else ""
        body.append(f"<tr{chosen}>{first}{cells}</tr>")
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _kind(cells: Sequence[str]) -> str:
    """Right-aligned when every cell that says something begins with a number."""
    said = [cell for cell in cells if cell.strip() not in NOTHING]
    return ' class="number"' if said and all(NUMBER.match(cell) for cell in said) else ""


def _scrolled(table: str, name: str) -> str:
    """A table in a box that scrolls sideways on a narrow screen, also by keyboard."""
    return f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0">{table}</div>'


def _facts(facts: Facts) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{_inline(value)}</dd></div>" for name, value in facts.rows)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


# ---------------------------------------------------------------------- text


def _text(text: str) -> str:
    """Paragraphs parted by empty lines."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text)]
    return "".join(f"<p>{_inline(part)}</p>\n" for part in paragraphs if part)


def _inline(text: str) -> str:
    """Escaped, with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
