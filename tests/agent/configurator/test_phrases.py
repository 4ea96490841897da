"""Phrases: the nearest known goal by cosine, and the nearest ones named where none is near enough."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from innerworld.agent.configurator.phrases import Phrases
from innerworld.errors import UserError

WORDS = ("red", "blue", "door", "box", "go")


def count(sentences: Sequence[str]) -> Tensor:
    """A bag of words."""
    return torch.tensor([[float(sentence.split().count(word)) for word in WORDS] for sentence in sentences])


def goal(x: float) -> dict[str, Tensor]:
    return {"state": torch.tensor([x])}


def phrases(least: float = 0.5) -> Phrases:
    return Phrases(count, {"red door": goal(1.0), "blue door": goal(2.0), "blue box": goal(3.0)}, least)


def test_each_sentence_finds_its_goal() -> None:
    found = phrases().meant(["go red door", "box", "blue blue door"])
    assert found["state"].tolist() == [[1.0], [3.0], [2.0]]


def test_what_none_is_near_to_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no goal .* 'go go box' .* nearest are: 'blue box', 'red door', 'blue door'"):
        phrases().meant(["red door", "go go box"])
    with pytest.raises(UserError, match="no goal is known that 'sing'"):  # no word of it is known: no direction at all
        phrases(0.1).meant(["sing"])


def test_goals_and_embeddings_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="at least one goal"):
        Phrases(count, {})
    with pytest.raises(UserError, match=r"embedding of 1 sentences has shape \(5,\)"):
        Phrases(lambda sentences: torch.ones(5), {"red door": goal(1.0)})
