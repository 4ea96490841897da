"""A budget is an amount of one unit; what an update costs in it is found on a real update."""

from __future__ import annotations

import pytest

from innerworld.errors import UserError
from innerworld.recipes.compare.budget import Budget, price, read_budget, updates
from innerworld.recipes.compare.entry import Entry, read_entry
from innerworld.recipes.compare.terms import Teaching
from innerworld.recipes.cost import cost
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 2)


def entry(more: str = "") -> Entry:
    return read_entry(f"jepa:none channels=2 latent=4 hidden=8 slices=8 {more}", Teaching(batch=4, length=3))


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("300updates", Budget(300, "updates")),
        ("120s", Budget(120, "s")),
        ("1.5 s", Budget(1.5, "s")),
        ("1e12flops", Budget(1e12, "flops")),
        ("2E9FLOPs", Budget(2e9, "flops")),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["", "300", "updates", "-3s", "0s", "3 minutes", "1.5updates", "1e999flops"])
def test_a_budget_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match="budget"):
        read_budget(text)


def test_updates_cost_one_each() -> None:
    assert price(Budget(300, "updates"), entry(), SPEC) == 1
    assert updates(Budget(300, "updates"), 1.0, "jepa") == 300


@pytest.mark.slow
def test_operations_are_those_that_cost_counts() -> None:
    budget = Budget(1e9, "flops")
    one = price(budget, entry(), SPEC)
    assert one == cost("jepa", entry().model, SPEC, 4, 3).flops > 0
    assert updates(budget, one, "jepa") == int(1e9 // one)


def test_seconds_are_those_of_an_update() -> None:
    few, many = (price(Budget(1, "s"), entry(f"batch={batch}"), SPEC) for batch in (2, 256))
    assert 0 < few < many < 20


def test_frames_that_are_skipped_join_the_actions() -> None:
    with pytest.raises(UserError, match="joins actions"):
        price(Budget(1, "s"), entry("frame_skip=2"), Spec({"pixels": (16, 16, 3)}, 2, discrete=True))


def test_too_little_for_an_update_is_told() -> None:
    with pytest.raises(UserError, match="jepa: one update takes 10 CPU seconds, the budget is 3"):
        updates(Budget(3, "s"), 10.0, "jepa")
