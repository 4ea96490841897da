"""The report of a run: plain data in, one HTML file out that needs nothing else. It knows no model and no world."""

from __future__ import annotations

from innerworld.report.content import Chart, Curve, Dot, Dots, Facts, Movie, Page, Picture, Section, Sheet, Table
from innerworld.report.page import render, write

__all__ = [
    "Chart",
    "Curve",
    "Dot",
    "Dots",
    "Facts",
    "Movie",
    "Page",
    "Picture",
    "Section",
    "Sheet",
    "Table",
    "render",
    "write",
]
