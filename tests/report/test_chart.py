"""Charts as SVG: well formed, honest about gaps, the same colour for the same name, labels that do not overlap."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from innerworld.errors import UserError
from innerworld.report.chart import MOST_POINTS, describe, draw, palette, remarks, spread, summary
from innerworld.report.content import Chart, Curve


def test_points_lie_where_the_axes_say() -> None:
    chart = Chart("t", "x", "y", [Curve("a", [0, 5, 10], [0, 5, 10])])
    (x0, y0), (x1, y1), (x2, y2) = points(only(svg(chart), "curve"))
    assert (y0, y2) == (280 - 46, 34)  # the axis goes from 0 to 10
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1) and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)


def test_log_axis_makes_a_geometric_series_a_straight_line() -> None:
    chart = Chart("t", "x", "loss", [Curve("a", [0, 1, 2, 3], [1, 0.1, 0.01, 0.001])], log_y=True)
    heights = [y for _, y in points(only(svg(chart), "curve"))]
    steps = [b - a for a, b in pairwise(heights)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.11)
    assert "loss, log scale" in draw(chart, "k", palette([chart]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_gap_that_is_told(bad: float) -> None:
    curve = Curve("a", [0, 1, 2, 3, 4], [1, 2, bad, 3, 4], [0, 1, bad, 2, 3], [2, 3, bad, 4, 5])
    chart = Chart("t", "x", "y", [curve])
    drawn = draw(chart, "k", palette([chart]))
    assert not re.search(r"\b(nan|inf)\b", drawn)
    assert only(svg(chart), "curve").count("M") == 2
    assert only(svg(chart), "band c0").count("Z") == 2
    assert remarks(chart) == ["a: 1 of 5 values missing or not finite, so not drawn."]


def test_a_band_with_one_side_missing_is_a_gap_of_the_band_alone() -> None:
    curve = Curve("a", [0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [0, 1, math.nan, 3, 4], [2, 3, 4, 5, 6])
    root = svg(Chart("t", "x", "y", [curve]))
    assert only(root, "band c0").count("Z") == 2 and only(root, "curve").count("M") == 1


def test_a_value_between_two_gaps_is_a_dot() -> None:
    chart = Chart("t", "x", "y", [Curve("a", [0, 1, 2, 3, 4], [math.nan, 7, math.nan, 3, 4])])
    assert len(svg(chart).findall(".//circle")) == 2  # the lonely value, and the end of the curve


def test_log_axis_leaves_out_what_is_not_positive_and_cuts_the_band_at_its_foot() -> None:
    chart = Chart("t", "x", "y", [Curve("a", [0, 1, 2], [0, 1, 2], [-1, -1, 1], [1, 2, 3])], log_y=True)
    assert len(points(only(svg(chart), "curve"))) == 2
    assert max(y for _, y in points(only(svg(chart), "band c0"))) == 280 - 46
    assert remarks(chart) == ["a: 1 of 3 values are 0 or less: not on a log scale."]


def test_nothing_to_draw() -> None:
    for curves in ([], [Curve("a", [], [])], [Curve("a", [0, 1], [math.nan, math.nan])]):
        chart = Chart("t", "x", "y", curves)
        assert draw(chart, "k", palette([chart])) == '<p class="empty">No values to draw.</p>'
        assert describe(chart).startswith("Line chart of y against x.")
        assert len(summary(chart)) == len(curves)


@pytest.mark.parametrize("value", [0, 1, -3.5, 1e-30, 1e30])
def test_a_single_point_can_be_drawn(value: float) -> None:
    assert svg(Chart("t", "x", "y", [Curve("a", [value], [value])])).findall(".//circle")


def test_a_long_curve_is_thinned_and_keeps_its_spike() -> None:
    n = 50_000
    y = [1.0] * n
    y[31_234] = 9.0
    drawn = points(only(svg(Chart("t", "x", "y", [Curve("a", list(range(n)), y)])), "curve"))
    assert len(drawn) <= MOST_POINTS
    whole = points(only(svg(Chart("t", "x", "y", [Curve("a", [0, 31_234, n - 1], [1, 9, 1])])), "curve"))
    assert min(drawn, key=lambda p: p[1]) == min(whole, key=lambda p: p[1])


def test_a_name_keeps_its_colour_in_all_charts() -> None:
    first = Chart("t", "x", "y", [Curve("jepa", [0, 1], [0, 1]), Curve("rssm", [0, 1], [1, 0])])
    second = Chart("t", "x", "y", [Curve("rssm", [0, 1], [1, 0])])
    colours = palette([first, second])
    assert colours == {"jepa": 0, "rssm": 1}
    assert '<g class="c1"><title>rssm</title>' in draw(second, "k", colours)


def test_two_curves_of_one_colour_differ_by_dashes() -> None:
    chart = Chart("t", "x", "y", [Curve(str(i), [0, 1], [i, i]) for i in range(9)])
    classes = [group.get("class") for group in svg(chart).findall("g")]
    assert len(set(classes)) == 9


def test_names_stand_at_the_curves_and_the_level() -> None:
    chart = Chart("t", "x", "y", [Curve("a", [0, 1], [0.5, 0.51])], line=0.5, line_name="standing still")
    texts = {t.text: float(t.get("y", "")) for t in svg(chart).findall("text[@class='label']")}
    assert set(texts) == {"a", "standing still"}
    assert abs(texts["a"] - texts["standing still"]) >= 15.9


def test_long_names_go_to_a_legend() -> None:
    chart = Chart("t", "x", "y", [Curve("a name far too long for the margin", [0, 1], [0, 1])])
    drawn = draw(chart, "k", palette([chart]))
    assert '<ul class="legend">' in drawn and 'class="label"' not in drawn


def test_labels_are_spread_within_the_frame() -> None:
    assert spread([50, 52, 10], gap=10, low=0, high=100) == [50, 60, 10]
    assert spread([99, 98, 97], gap=10, low=0, high=100) == [100, 90, 80]


def test_words_for_those_who_do_not_see_it() -> None:
    chart = Chart("t", "steps", "loss", [Curve("a", [0, 200], [1, 0.25])], line=1, line_name="standing still")
    assert describe(chart) == (
        "Line chart of loss against steps. a: from 1 at 0 to 0.25 at 200. Compare with standing still at 1."
    )
    assert summary(chart) == [["a", "1", "0.25", "0.25 at 200", "1 at 0"]]


def test_names_are_escaped() -> None:
    chart = Chart("<t>", "<x>", "<y> & z", [Curve("<a>", [0, 1], [0, 1])], line=1, line_name="<l>")
    root = svg(chart)  # parses, so nothing broke out
    assert [t.text for t in root.findall("text[@class='label']")] == ["<a>", "<l>"]


def test_a_curve_of_unequal_lengths_is_refused() -> None:
    with pytest.raises(UserError, match="y has 1 values, x has 2"):
        Curve("a", [0, 1], [0])
    with pytest.raises(UserError, match="both low and high"):
        Curve("a", [0, 1], [0, 1], low=[0, 1])


def svg(chart: Chart) -> ElementTree.Element:
    drawn = draw(chart, "k", palette([chart]))
    return ElementTree.fromstring(drawn[: drawn.index("</svg>") + 6])


def only(root: ElementTree.Element, kind: str) -> str:
    (found,) = [path.get("d", "") for path in root.iter("path") if path.get("class") == kind]
    return found


def points(d: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", d)]
