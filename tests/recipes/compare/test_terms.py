"""Terms are read from words; what something else decides is refused, for it would change nothing."""

from __future__ import annotations

import pytest

from innerworld.errors import UserError
from innerworld.recipes.compare.terms import read_terms


def test_words_change_what_all_have_in_common() -> None:
    terms = read_terms(["exam.goals=3", "teaching.batch=5", "control.planner.samples=9"], ["state"])
    assert (terms.exam.goals, terms.teaching.batch, terms.control.planner["samples"]) == (3, 5, 9)
    assert terms.sensors == ("state",)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("teaching.train.steps=9", "decided by --budget"),
        ("teaching.train.seed=9", "decided by --seed"),
        ("control.episodes=9", "decided by exam.goals"),
        ("control.budget=9", "decided by exam.budget"),
        ('sensors=["state"]', "decided by --sensors"),
        ("exam.golas=9", "Did you mean 'exam.goals'"),
    ],
)
def test_what_would_change_nothing_is_refused(word: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_terms([word])
