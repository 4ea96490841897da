"""Tables in a pipe are whole; on a terminal they are drawn."""

from __future__ import annotations

from io import StringIO
from typing import Literal

from pydantic import Field
from rich.console import Console

from innerworld.cli.table import field_rows, field_values, show_table
from innerworld.config import Config


class Inner(Config):
    kind: Literal["a", "b"] = Field(default="a", description="which [one]")


class Outer(Config):
    size: int | None = Field(default=None, ge=1, le=9, description="metres")
    pair: tuple[float, float] = Field(default=(0.5, 1.0), description="two")
    inner: Inner = Field(default=Inner(), description="nested")
    named: dict[str, Inner] = Field(default={"x": Inner(kind="b")}, description="by name")
    free: dict[str, int] = Field(default={}, description="any")


def test_field_rows():
    assert field_rows(Outer(), "model.") == [
        ("model.size", "int|null >=1 <=9", "null", "metres"),
        ("model.pair", "tuple[float, float]", "[0.5, 1.0]", "two"),
        ("model.inner.kind", "a|b", "a", "which [one]"),
        ("model.named.x.kind", "a|b", "b", "which [one]"),
        ("model.free", "dict[str, int]", "{}", "any"),
    ]


def test_defaults_are_those_of_the_value_given():
    assert field_values(Inner(kind="b")) == [
        {"key": "kind", "type": "a|b", "default": "b", "description": "which [one]"}
    ]


def test_a_pipe_gets_every_word():
    console = Console(file=StringIO(), width=20)
    show_table(console, ("k", "about"), [("one", "x" * 300), ("three", "[red]y[/red]  ")])
    assert console.file.getvalue().splitlines() == ["k      about", f"one    {'x' * 300}", "three  [red]y[/red]"]


def test_a_terminal_gets_a_drawn_table():
    console = Console(file=StringIO(), width=60, force_terminal=True)
    show_table(console, ("k", "about"), [("one", "[red]y")])
    assert "─" in console.file.getvalue() and "[red]y" in console.file.getvalue()


def test_a_narrow_terminal_loses_nothing():
    console = Console(file=StringIO(), width=30, force_terminal=True)
    show_table(console, ("k", "about"), [("one", "".join(chr(97 + i % 26) for i in range(100)))])
    assert "…" not in console.file.getvalue()
