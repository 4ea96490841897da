from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.plan.trials import Trials, held, knots, score


def test_score_turns_what_is_not_finite_into_infinity() -> None:
    values = torch.tensor([[1.0, torch.nan, -torch.inf, torch.inf]])
    assert score(lambda _: values, torch.zeros(1, 4, 2, 1)).tolist() == [[1.0, torch.inf, torch.inf, torch.inf]]


def test_score_names_both_shapes() -> None:
    with pytest.raises(UserError, match=r"\(4, 1\), expected \(2, 3\)"):
        score(lambda _: torch.zeros(4, 1), torch.zeros(2, 3, 5, 1))


def test_score_names_the_lost_row() -> None:
    values = torch.tensor([[1.0, 2.0], [torch.nan, torch.inf]])
    with pytest.raises(UserError, match="row 1"):
        score(lambda _: values, torch.zeros(2, 2, 5, 1))


def test_trials_remember_each_rows_best() -> None:
    trials = Trials(lambda actions: actions[:, :, 0, 0])
    trials(torch.tensor([[3.0, 2.0], [1.0, 5.0]])[..., None, None])
    trials(torch.tensor([[4.0, 1.5], [2.0, 3.0]])[..., None, None])
    plan = trials.plan()
    assert plan.actions.flatten().tolist() == [1.5, 1.0]
    assert plan.history.tolist() == [[2.0, 1.5], [1.0, 1.0]]
    assert plan.evaluations == 4


def test_plan_of_answers_with_these_only() -> None:
    trials = Trials(lambda actions: actions[:, :, 0, 0])
    trials(torch.tensor([[1.0, 2.0]])[..., None, None])
    plan = trials.plan_of(torch.tensor([[7.0, 6.0]])[..., None, None])
    assert plan.cost.tolist() == [6.0]
    assert plan.actions.flatten().tolist() == [6.0]
    assert plan.evaluations == 4


def test_plan_of_keeps_the_best_tried_where_these_are_lost() -> None:
    trials = Trials(lambda actions: actions[:, :, 0, 0].log())
    trials(torch.tensor([[1.0, 2.0], [3.0, 4.0]])[..., None, None])
    plan = trials.plan_of(torch.tensor([[-1.0], [1.0]])[..., None, None])
    assert plan.actions.flatten().tolist() == [1.0, 1.0]
    assert plan.cost.tolist() == [0.0, 0.0]


def test_knots_average_and_held_repeats() -> None:
    start = torch.arange(5.0).reshape(1, 5, 1)
    assert knots(start, 2).flatten().tolist() == [0.5, 2.5, 4.0]
    assert knots(start, 1).equal(start)
    assert held(knots(start, 2)[:, None, None], 2, 5).flatten().tolist() == [0.5, 0.5, 2.5, 2.5, 4.0]
