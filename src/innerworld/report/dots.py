"""`Dots` as inline SVG: one row for each name, its number as a dot on a common axis, its interval as a bar."""

from __future__ import annotations

import math
from html import escape

from innerworld.report.chart import COLOURS, LETTER, Colours
from innerworld.report.content import Dot, Dots
from innerworld.report.scale import Scale, bounds, number, tick_labels, ticks

WIDTH = 440.0
ROW = 30.0
TOP, BOTTOM = 12.0, 46.0
LONGEST_NAME = 26  # letters; what is longer is cut, and whole in the table below
NUMBER = 52.0  # room for the number to the right


def draw(dots: Dots, key: str, colours: Colours) -> str:
    """The rows as SVG; `key` makes the ids unique in the page."""
    values = [value for dot in dots.dots for value in _values(dot)] + _finite(dots.line)
    if not any(math.isfinite(dot.value) for dot in dots.dots):
        return '<p class="empty">No values to draw.</p>'
    height = TOP + ROW * len(dots.dots) + BOTTOM
    low, high = bounds(min(values), max(values), log=False)
    left = 14 + LETTER * max(len(_short(dot.name)) for dot in dots.dots)
    x = Scale(low, high, left, WIDTH - NUMBER)
    foot = height - BOTTOM
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-labelledby="{key}-t {key}-d">',
        f'<title id="{key}-t">{escape(dots.title)}</title>',
        f'<desc id="{key}-d">{escape(describe(dots))}</desc>',
        _axis(dots, x, foot),
        *(_row(dot, x, TOP + ROW * (i + 0.5), colours) for i, dot in enumerate(dots.dots)),
        "</svg>",
    ]
    return "".join(parts)


def describe(dots: Dots) -> str:
    """The rows in words, for those who do not see them."""
    words = [f"Dots on an axis of {dots.x_label}."]
    words += [f"{dot.name}: {_told(dot)}." for dot in dots.dots]
    if dots.line is not None:
        words.append(f"Compare with {dots.line_name or 'the line'} at {number(dots.line)}.")
    return " ".join(words)


def summary(dots: Dots) -> list[list[str]]:
    """A row for each name: its number, its interval, and the numbers that it is made of."""
    return [
        [dot.name, number(dot.value), _interval(dot), ", ".join(number(run) for run in dot.runs) or "–"]
        for dot in dots.dots
    ]


def _axis(dots: Dots, x: Scale, foot: float) -> str:
    parts = []
    marks = ticks(x.low, x.high, count=5)
    for value, text in zip(marks, tick_labels(marks), strict=True):
        parts.append(f'<path class="grid" d="M{x(value):.1f} {TOP:g}V{foot:g}"/>')
        parts.append(f'<text class="tick" x="{x(value):.1f}" y="{foot + 18:g}" text-anchor="middle">{text}</text>')
    parts.append(f'<path class="axis" d="M{x.start:.1f} {foot:g}H{x.stop:.1f}"/>')
    name = dots.x_label
    if dots.line is not None and math.isfinite(dots.line):
        parts.append(f'<path class="line" d="M{x(dots.line):.1f} {TOP:g}V{foot:g}"/>')
        name += f"; dashed: {dots.line_name or number(dots.line)}"
    middle = WIDTH / 2
    parts.append(f'<text class="name" x="{middle:g}" y="{foot + 40:g}" text-anchor="middle">{escape(name)}</text>')
    return "".join(parts)


def _row(dot: Dot, x: Scale, y: float, colours: Colours) -> str:
    colour = f"c{colours.get(dot.name, 0) % COLOURS}"
    name = f'<text class="label" x="{x.start - 10:.1f}" y="{y + 4.5:.1f}" text-anchor="end">'
    parts = [f"{name}{escape(_short(dot.name))}</text>", f'<g class="{colour}"><title>{escape(dot.name)}</title>']
    if dot.low is not None and dot.high is not None and math.isfinite(dot.low + dot.high):
        parts.append(f'<path class="span" d="M{x(dot.low):.1f} {y:.1f}H{x(dot.high):.1f}"/>')
    parts += [f'<circle class="run" cx="{x(run):.1f}" cy="{y:.1f}" r="2.5"/>' for run in dot.runs if math.isfinite(run)]
    if math.isfinite(dot.value):
        parts.append(f'<circle cx="{x(dot.value):.1f}" cy="{y:.1f}" r="5"/>')
    parts.append("</g>")
    told = number(dot.value) if math.isfinite(dot.value) else "–"
    parts.append(f'<text class="tick" x="{WIDTH:g}" y="{y + 4.5:.1f}" text-anchor="end">{told}</text>')
    return "".join(parts)


def _values(dot: Dot) -> list[float]:
    return [value for given in (dot.value, dot.low, dot.high, *dot.runs) for value in _finite(given)]


def _finite(value: float | None) -> list[float]:
    return [value] if value is not None and math.isfinite(value) else []


def _told(dot: Dot) -> str:
    interval = _interval(dot)
    return number(dot.value) + (f", {interval}" if interval != "–" else "")


def _interval(dot: Dot) -> str:
    if dot.low is None or dot.high is None or not math.isfinite(dot.low + dot.high):
        return "–"
    return f"{number(dot.low)} to {number(dot.high)}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
