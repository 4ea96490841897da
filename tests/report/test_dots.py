"""Dots as SVG: well formed, where the axis says, with intervals, and nothing drawn that is not known."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from innerworld.errors import UserError
from innerworld.report import Dot, Dots, Page, Section, render
from innerworld.report.chart import palette
from innerworld.report.dots import LONGEST_NAME, describe, draw, summary


def test_a_larger_number_lies_further_right() -> None:
    root = svg(Dots("t", "x", [Dot("a", 1.0), Dot("b", 2.0), Dot("c", 0.0)]))
    a, b, c = (float(circle.get("cx", "")) for circle in root.iter() if circle.tag.endswith("circle"))
    assert c < a < b and b - a == pytest.approx(a - c, abs=0.11)


def test_the_interval_reaches_as_far_as_it_says_and_no_interval_is_no_bar() -> None:
    root = svg(Dots("t", "x", [Dot("a", 1.0, 0.5, 2.0, [0.5, 2.0]), Dot("b", 1.5), Dot("c", 1.0, math.nan, math.nan)]))
    spans = [path.get("d", "") for path in root.iter() if path.get("class") == "span"]
    runs = [float(circle.get("cx", "")) for circle in root.iter() if circle.get("class") == "run"]
    assert len(spans) == 1 and len(runs) == 2
    start, end = (float(word) for word in spans[0][1:].replace(" ", "H").split("H")[::2])
    assert (start, end) == pytest.approx(tuple(runs))


def test_a_number_that_is_missing_is_no_dot() -> None:
    dots = Dots("t", "x", [Dot("a", math.nan), Dot("b", 2.0)], line=1.0, line_name="chance")
    root = svg(dots)
    assert sum(circle.tag.endswith("circle") for circle in root.iter()) == 1
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")
    assert "chance at 1" in describe(dots) and summary(dots)[0][1] == "–"
    assert "No values" in draw(Dots("t", "x", [Dot("a", math.nan)]), "k", {})


def test_a_name_is_escaped_and_a_long_one_cut() -> None:
    name = "<jepa> & " + "x" * LONGEST_NAME
    drawn = draw(Dots("t", "x", [Dot(name, 1.0)]), "k", {})
    assert "<jepa>" not in drawn and "…" in drawn


def test_half_an_interval_is_refused() -> None:
    with pytest.raises(UserError, match="both low and high"):
        Dot("a", 1.0, low=0.5)


def test_it_has_its_place_in_a_page_and_its_colours_from_it() -> None:
    dots = Dots("Scores", "share", [Dot("one", 0.2, 0.1, 0.3), Dot("two", 0.5)], note="Means.")
    text = render(Page("p", "", "", [Section("s", "", [dots])]))
    assert "Scores" in text and "0.1 to 0.3" in text and "Means." in text
    assert palette([dots]) == {"one": 0, "two": 1}


def svg(dots: Dots) -> ElementTree.Element:
    return ElementTree.fromstring(draw(dots, "k", palette([dots])))
