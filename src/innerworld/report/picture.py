"""A `Picture` as SVG: the image enlarged without smoothing, ways and places drawn over it, a legend below."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from innerworld.report.content import Image, Picture
from innerworld.report.image import address, enlarge, png

WIDEST = 448  # pixels of the enlarged image
COLOURS = 6  # in the style sheet, for lines upon an image
MOST_DOTS = 80  # beyond that, the dots of a path would melt into it
SHAPES = (  # of a mark, around 0 0, in a square from -1 to 1
    "M-.8 0A.8 .8 0 1 1 .8 0A.8 .8 0 1 1-.8 0Z",  # ring
    "M0-1L1 0L0 1L-1 0Z",  # diamond
    "M-.8-.8H.8V.8H-.8Z",  # square
    "M0-1L.95 .75H-.95Z",  # triangle
)


def draw(picture: Picture, key: str) -> str:
    """The picture and its legend as HTML; `key` makes the ids unique in the page."""
    y, x = picture.image.shape[:2]
    factor = max(1, WIDEST // max(x, y))
    unit = max(x, y) / 100
    names = [name for name, _ in (*picture.paths, *picture.marks)]
    drawn = f", drawn over it: {', '.join(names)}" if names else ""
    return (
        f'<svg class="picture" viewBox="0 0 {x} {y}" style="max-width:{factor * x}px" role="img" '
        f'aria-labelledby="{key}-t"><title id="{key}-t">{escape(picture.caption + drawn)}</title>'
        f'<image width="{x}" height="{y}" href="{_source(picture.image, factor)}"/>'
        + "".join(_path(points, i, unit) for i, (_, points) in enumerate(picture.paths))
        + "".join(_mark(point, i, unit) for i, (_, point) in enumerate(picture.marks))
        + f"</svg>{_legend(picture)}"
    )


def _source(image: Image, factor: int) -> str:
    return address(png(enlarge(image, factor)), "png")


def _path(points: NDArray[np.floating], i: int, unit: float) -> str:
    """A line with a dark seam, so that it shows on any image; a dot for each point, so that one sees the speed."""
    finite = np.isfinite(points).all(axis=1)
    d, pen = [], "M"
    for px, py in points.tolist():
        shows = math.isfinite(px) and math.isfinite(py)
        if shows:
            d.append(f"{pen}{px:.2f} {py:.2f}")
        pen = "L" if shows else "M"
    if not d:
        return ""
    line = "".join(d)
    dots = "".join(f'<circle cx="{px:.2f}" cy="{py:.2f}" r="{unit:.2f}"/>' for px, py in points[finite].tolist())
    return (
        f'<g class="way o{i % COLOURS}"><path class="seam" stroke-width="{1.9 * unit:.2f}" d="{line}"/>'
        f'<path stroke-width="{0.9 * unit:.2f}"{_dash(i, unit)} d="{line}"/>'
        f"{dots if len(points) <= MOST_DOTS else ''}</g>"
    )


def _dash(i: int, unit: float) -> str:
    """Every second path is dashed: it stays apart from its neighbour without colour, too."""
    return f' stroke-dasharray="{3 * unit:.2f} {2 * unit:.2f}"' if i % 2 else ""


def _mark(point: tuple[float, float], i: int, unit: float) -> str:
    if not (math.isfinite(point[0]) and math.isfinite(point[1])):
        return ""
    return f'<g transform="translate({point[0]:.2f} {point[1]:.2f}) scale({3.2 * unit:.3f})">{_shape(i)}</g>'


def _shape(i: int) -> str:
    d = SHAPES[i % len(SHAPES)]
    return f'<path class="seam mark" d="{d}"/><path class="mark" d="{d}"/>'


def _legend(picture: Picture) -> str:
    rows = []
    for i, (name, _) in enumerate(picture.paths):
        line = f'<path class="seam" stroke-width="5" d="M2 6H26"/><path stroke-width="2.5"{_dash(i, 1.6)} d="M2 6H26"/>'
        rows.append(_entry(name, "0 0 28 12", f'<g class="way o{i % COLOURS}">{line}</g>'))
    for i, (name, _) in enumerate(picture.marks):
        rows.append(_entry(name, "-1.5 -1.5 3 3", _shape(i)))
    return f'<ul class="legend">{"".join(rows)}</ul>' if rows else ""


def _entry(name: str, box: str, swatch: str) -> str:
    return f'<li><svg class="swatch" viewBox="{box}" aria-hidden="true">{swatch}</svg>{escape(name)}</li>'
