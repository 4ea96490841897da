"""A `Sheet` as SVG: rows of small pictures under the names of their columns, a remark below each picture."""

from __future__ import annotations

from html import escape

from innerworld.report.content import Image, Sheet
from innerworld.report.image import address, png

CELL = 96.0  # width of a picture, pixels
GAP, LINE = 10.0, 18.0
LETTER = 7.0  # mean width of a letter at the 13 px of the style sheet


def draw(sheet: Sheet) -> str:
    """The sheet as HTML."""
    if not sheet.rows or not sheet.columns:
        return '<p class="empty">No pictures.</p>'
    y, x = sheet.rows[0][1].shape[1:3]
    high = CELL * y / x
    left = max(len(name) for name, _ in sheet.rows) * LETTER
    left += GAP if left else 0
    top = LINE if any(sheet.columns) else 0.0
    row_high = high + (LINE if sheet.remarks else 0) + GAP
    width, height = left + len(sheet.columns) * (CELL + GAP) - GAP, top + len(sheet.rows) * row_high - GAP
    parts = [_text(name, left + i * (CELL + GAP) + CELL / 2, 12, "middle") for i, name in enumerate(sheet.columns)]
    for j, (name, pictures) in enumerate(sheet.rows):
        at = top + j * row_high
        parts.append(_text(name, 0, at + high / 2 + 4, "start"))
        for i, picture in enumerate(pictures):
            parts.append(_picture(picture, left + i * (CELL + GAP), at, high))
            if sheet.remarks:
                parts.append(_text(sheet.remarks[j][i], left + i * (CELL + GAP) + CELL / 2, at + high + 14, "middle"))
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(describe(sheet))}">{"".join(parts)}</svg>'
    )


def describe(sheet: Sheet) -> str:
    """The sheet in words, for those who do not see it."""
    words = [f"{len(sheet.rows)} rows of {len(sheet.columns)} pictures"]
    words += [f"columns: {', '.join(sheet.columns)}"] if any(sheet.columns) else []
    words += [f"rows: {', '.join(name for name, _ in sheet.rows)}"] if any(name for name, _ in sheet.rows) else []
    return "; ".join(words) + "."


def _picture(picture: Image, left: float, top: float, high: float) -> str:
    source = address(png(picture), "png")
    return f'<image x="{left:g}" y="{top:g}" width="{CELL:g}" height="{high:g}" href="{source}"/>'


def _text(text: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>' if text else ""
