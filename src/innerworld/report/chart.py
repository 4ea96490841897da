"""A `Chart` as inline SVG: axes, ticks, curves with bands, and each curve's name at its end.

Colours are classes (`c0`, `c1`, ...) that the style sheet fills from a palette for light, dark and print, after Okabe
and Ito ("Color Universal Design", 2008), which people with any colour vision can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from innerworld.report.content import Chart, Curve, Dots
from innerworld.report.scale import TINY, Scale, bounds, number, tick_labels, ticks

WIDTH, HEIGHT = 440.0, 280.0
TOP, BOTTOM = 34.0, 46.0  # room for the name of y above, for ticks and the name of x below
LETTER = 6.7  # mean width of a letter at the 13 px of the style sheet
LINE = 16.0  # from one line of text to the next
LONGEST_LABEL = 20  # letters; longer names go to a legend below
COLOURS = 7  # in the style sheet
MOST_POINTS = 800  # of a curve; beyond that, the extremes of each stretch stand for it


Colours = Mapping[str, int]  # of a curve's name; the same in the whole page


def palette(charts: Iterable[Chart | Dots]) -> Colours:
    """A colour for each name, in the order in which they appear: a model keeps its colour from chart to chart."""
    names = dict.fromkeys(
        each.name for chart in charts for each in (chart.curves if isinstance(chart, Chart) else chart.dots)
    )
    return {name: i for i, name in enumerate(names)}


def draw(chart: Chart, key: str, colours: Colours) -> str:
    """The chart as SVG, its legend below where it needs one, as HTML; `key` makes the ids unique in the page."""
    classes = _classes(chart, colours)
    ends = _ends(chart, classes)
    frame = _frame(chart, [end.name for end in ends])
    if frame is None:
        return '<p class="empty">No values to draw.</p>'
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-labelledby="{key}-t {key}-d">',
        f'<title id="{key}-t">{escape(chart.title)}</title>',
        f'<desc id="{key}-d">{escape(describe(chart))}</desc>',
        _axes(chart, frame),
        *(_band(curve, frame, colour) for curve, colour in zip(chart.curves, classes, strict=True)),
        _reference(chart, frame),
        *(_line(curve, frame, colour) for curve, colour in zip(chart.curves, classes, strict=True)),
        _labels(ends, frame) if frame.direct else "",
        "</svg>",
        "" if frame.direct else _legend(ends),
    ]
    return "".join(parts)


def describe(chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    scale = " on a logarithmic scale" if chart.log_y else ""
    words = [f"Line chart of {chart.y_label}{scale} against {chart.x_label}."]
    for curve in chart.curves:
        seen = _seen(curve, chart.log_y)
        if not seen:
            words.append(f"{curve.name}: no values.")
            continue
        (x0, y0), (x1, y1) = seen[0], seen[-1]
        words.append(f"{curve.name}: from {number(y0)} at {number(x0)} to {number(y1)} at {number(x1)}.")
    if chart.line is not None:
        words.append(f"Compare with {_line_name(chart)} at {number(chart.line)}.")
    return " ".join(words)


def remarks(chart: Chart) -> list[str]:
    """Which values could not be drawn, so that a gap is never a secret."""
    words = []
    for curve in chart.curves:
        missing = sum(not math.isfinite(value) for value in curve.y)
        below = sum(math.isfinite(value) and value <= TINY for value in curve.y) if chart.log_y else 0
        if missing:
            words.append(f"{curve.name}: {missing} of {len(curve.y)} values missing or not finite, so not drawn.")
        if below:
            words.append(f"{curve.name}: {below} of {len(curve.y)} values are 0 or less: not on a log scale.")
    return words


def summary(chart: Chart) -> list[list[str]]:
    """A row for each curve: its name, first and last value, and the lowest and highest with their x."""
    rows = []
    for curve in chart.curves:
        seen = _seen(curve, log=False)
        if not seen:
            rows.append([curve.name, "–", "–", "–", "–"])
            continue
        lowest, highest = min(seen, key=lambda point: point[1]), max(seen, key=lambda point: point[1])
        extremes = (f"{number(y)} at {number(x)}" for x, y in (lowest, highest))
        rows.append([curve.name, number(seen[0][1]), number(seen[-1][1]), *extremes])
    return rows


# ---------------------------------------------------------------------- what is where


@dataclass(frozen=True)
class _Frame:
    """The two scales, and whether the names fit beside the curves."""

    x: Scale
    y: Scale
    x_ticks: list[float]
    y_ticks: list[float]
    direct: bool


@dataclass(frozen=True)
class _End:
    """Where a name belongs: at the last point of its curve, or at the level that goes across."""

    name: str
    x: float
    y: float
    colour: str  # "line" for the level


def _classes(chart: Chart, colours: Colours) -> list[str]:
    """The class of each curve; where two of a chart would look the same, the later one is dashed."""
    classes: list[str] = []
    for curve in chart.curves:
        colour = f"c{colours[curve.name] % COLOURS}"
        classes.append(f"{colour} again" if colour in classes else colour)
    return classes


def _frame(chart: Chart, names: list[str]) -> _Frame | None:
    """Where things go when these names are to be shown; None when there is nothing to draw."""
    points = [point for curve in chart.curves for point in _seen(curve, chart.log_y)]
    if not points:
        return None
    levels = [y for _, y in points]
    for curve in chart.curves:
        for side in (curve.low, curve.high):
            levels += [] if side is None else [value for value in side if _shows(value, chart.log_y)]
    if chart.line is not None and _shows(chart.line, chart.log_y):
        levels.append(chart.line)
    y_low, y_high = bounds(min(levels), max(levels), chart.log_y)
    places = [x for curve in chart.curves for x in curve.x if math.isfinite(x)]  # also those without a value
    x_low, x_high = min(places), max(places)
    if x_low == x_high:
        margin = max(0.5, 0.01 * abs(x_low))
        x_low, x_high = x_low - margin, x_high + margin
    y_ticks = ticks(y_low, y_high, chart.log_y)
    left = 12 + LETTER * max(len(text) for text in tick_labels(y_ticks))
    direct = len(names) <= COLOURS and max(len(name) for name in names) <= LONGEST_LABEL
    right = 22 + LETTER * max(len(name) for name in names) if direct else 16.0
    x = Scale(x_low, x_high, left, WIDTH - right)
    y = Scale(y_low, y_high, HEIGHT - BOTTOM, TOP, chart.log_y)
    x_count = 5 if x.stop - x.start > 240 else 4
    return _Frame(x, y, ticks(x_low, x_high, count=x_count), y_ticks, direct)


def _seen(curve: Curve, log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(x) and _shows(y, log)]


def _shows(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > TINY or not log)


def _ends(chart: Chart, classes: list[str]) -> list[_End]:
    """Each curve that can be seen, then the line to compare with."""
    ends = []
    for curve, colour in zip(chart.curves, classes, strict=True):
        seen = _seen(curve, chart.log_y)
        if seen:
            ends.append(_End(curve.name, *seen[-1], colour))
    if chart.line is not None and _shows(chart.line, chart.log_y):
        ends.append(_End(_line_name(chart), math.inf, chart.line, "line"))
    return ends


def _line_name(chart: Chart) -> str:
    return chart.line_name or (number(chart.line) if chart.line is not None else "")


# ---------------------------------------------------------------------- drawing


def _axes(chart: Chart, frame: _Frame) -> str:
    x, y = frame.x, frame.y
    parts = []
    for value, text in zip(frame.y_ticks, tick_labels(frame.y_ticks), strict=True):
        parts.append(f'<path class="grid" d="M{_n(x.start)} {_n(y(value))}H{_n(x.stop)}"/>')
        parts.append(
            f'<text class="tick" x="{_n(x.start - 7)}" y="{_n(y(value) + 4.5)}" text-anchor="end">{text}</text>'
        )
    for value, text in zip(frame.x_ticks, tick_labels(frame.x_ticks), strict=True):
        parts.append(f'<path class="axis" d="M{_n(x(value))} {_n(y.start)}v4"/>')
        parts.append(f'<text class="tick" x="{_n(x(value))}" y="{_n(y.start + 18)}" text-anchor="middle">{text}</text>')
    parts.append(f'<path class="axis" d="M{_n(x.start)} {_n(y.start)}H{_n(x.stop)}"/>')
    name = chart.y_label + (", log scale" if chart.log_y else "")
    parts.append(f'<text class="name" x="0" y="14">{escape(name)}</text>')
    middle = (x.start + x.stop) / 2
    parts.append(f'<text class="name" x="{_n(middle)}" y="{HEIGHT - 6:g}" text-anchor="middle">')
    parts.append(f"{escape(chart.x_label)}</text>")
    return "".join(parts)


def _band(curve: Curve, frame: _Frame, colour: str) -> str:
    """One closed shape for each stretch without a gap; what lies below a log axis is cut off at its foot."""
    if curve.low is None or curve.high is None:
        return ""
    shapes = []
    for part in _stretches(curve, frame.y.log, band=True):
        upper = [(curve.x[k], curve.high[k]) for k in part]
        lower = [(curve.x[k], curve.low[k]) for k in reversed(part)]
        shapes.append(_path([*upper, *lower], frame) + "Z")
    return f'<path class="band {colour}" d="{"".join(shapes)}"/>' if shapes else ""


def _line(curve: Curve, frame: _Frame, colour: str) -> str:
    """One stroke for each stretch without a gap; a value alone between two gaps is a dot."""
    strokes, dots = [], []
    for part in _stretches(curve, frame.y.log):
        points = [(curve.x[k], curve.y[k]) for k in part]
        if len(points) > 1:
            strokes.append(_path(points, frame))
        else:
            dots.append(points[0])
    seen = _seen(curve, frame.y.log)
    if seen:
        dots.append(seen[-1])
    stroke = f'<path class="curve" d="{"".join(strokes)}"/>' if strokes else ""
    circles = "".join(f'<circle cx="{_n(frame.x(x))}" cy="{_n(frame.y(y))}" r="3"/>' for x, y in dict.fromkeys(dots))
    return f'<g class="{colour}"><title>{escape(curve.name)}</title>{stroke}{circles}</g>'


def _reference(chart: Chart, frame: _Frame) -> str:
    if chart.line is None or not _shows(chart.line, chart.log_y):
        return ""
    return f'<path class="line" d="M{_n(frame.x.start)} {_n(frame.y(chart.line))}H{_n(frame.x.stop)}"/>'


def _labels(ends: list[_End], frame: _Frame) -> str:
    """The names in the margin, moved apart where they would overlap, each led to by a thin line."""
    wanted = [frame.y(end.y) for end in ends]
    text = frame.x.stop + 16
    parts = []
    for end, at, y in zip(ends, wanted, spread(wanted, LINE, TOP, HEIGHT - BOTTOM), strict=True):
        start = min(frame.x(end.x) + 4, frame.x.stop + 4)
        parts.append(f'<path class="lead {end.colour}" d="M{_n(start)} {_n(at)}L{_n(text - 4)} {_n(y)}"/>')
        parts.append(f'<text class="label" x="{_n(text)}" y="{_n(y + 4.5)}">{escape(end.name)}</text>')
    return "".join(parts)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, in the same order, at least `gap` apart and within [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    floor = low
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _legend(ends: list[_End]) -> str:
    rows = []
    for end in ends:
        stroke = '<path class="curve" d="M1 5H23"/>'
        swatch = f'<svg class="swatch {end.colour}" viewBox="0 0 24 10" aria-hidden="true">{stroke}</svg>'
        rows.append(f"<li>{swatch}{escape(end.name)}</li>")
    return f'<ul class="legend">{"".join(rows)}</ul>'


# ---------------------------------------------------------------------- stretches of a curve


def _stretches(curve: Curve, log: bool, band: bool = False) -> list[list[int]]:
    """The indices of a curve that can be drawn, parted at its gaps, thinned where they are too many."""
    parts: list[list[int]] = [[]]
    for k in range(len(curve.x)):
        if math.isfinite(curve.x[k]) and (_band_shows(curve, k, log) if band else _shows(curve.y[k], log)):
            parts[-1].append(k)
        elif parts[-1]:
            parts.append([])
    return [_thin(part, curve) for part in parts if part]


def _band_shows(curve: Curve, k: int, log: bool) -> bool:
    assert curve.low is not None and curve.high is not None
    return math.isfinite(curve.low[k]) and _shows(curve.high[k], log)


def _thin(part: list[int], curve: Curve) -> list[int]:
    """Keep the ends and the extremes of each of many equal stretches, so that no spike gets lost."""
    if len(part) <= MOST_POINTS:
        return part
    size = math.ceil(len(part) / (MOST_POINTS // 4))
    kept = {part[0], part[-1]}
    for start in range(0, len(part), size):
        stretch = part[start : start + size]
        kept.update(_extremes(stretch, curve.y))
        if curve.low is not None and curve.high is not None:
            kept.update((min(stretch, key=curve.low.__getitem__), max(stretch, key=curve.high.__getitem__)))
    return sorted(kept)


def _extremes(stretch: list[int], values: Sequence[float]) -> Iterable[int]:
    return min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)


def _path(points: Sequence[tuple[float, float]], frame: _Frame) -> str:
    return "M" + "L".join(f"{_n(frame.x(x))} {_n(_height(y, frame.y))}" for x, y in points)


def _height(value: float, scale: Scale) -> float:
    """Where a value goes, at the axis's foot if a log axis has no place for it."""
    return scale(value) if _shows(value, scale.log) else scale.start


def _n(value: float) -> str:
    """A coordinate with one decimal, and no more text than it needs."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
