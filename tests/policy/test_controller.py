"""Linear controllers, many at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.policy.controller import Controllers, Squash, check_squash, count
from innerworld.types import Spec, State

RACE = Spec({"pixels": (64, 64, 3)}, 3)
CHOICES = Spec({"state": (4,)}, 3, discrete=True)


def test_the_papers_has_867_parameters() -> None:
    assert count(32 + 256, RACE) == 867
    assert count(32 + 256, Spec({"pixels": (64, 64, 3)}, 12), repeat=4) == 867


def test_each_controller_acts_for_its_own_rows() -> None:
    torch.manual_seed(0)
    weights, features = torch.randn(2, count(5, RACE)), torch.randn(6, 5)
    found = Controllers(weights, RACE, _features).act(features)
    for i in range(2):
        matrix = weights[i].reshape(6, 3)  # the bias is the last row
        expected = torch.tanh(features[3 * i : 3 * i + 3] @ matrix[:5] + matrix[5])
        torch.testing.assert_close(found[3 * i : 3 * i + 3], expected)
    alone = Controllers(weights, RACE, _features).only(slice(1, 2))
    torch.testing.assert_close(alone.act(features[3:]), found[3:])


def test_carracings_gas_is_half_at_rest_and_its_brake_is_off() -> None:
    """The paper: steering tanh, gas (tanh + 1) / 2, brake tanh clipped to [0, 1]; here all of these in [-1, 1]."""
    scores = torch.tensor([[0.3, 0.7, -0.4], [0.0, 0.0, 0.0], [-1.0, -2.0, 0.9]])
    weights = torch.cat([torch.eye(3), torch.zeros(1, 3)]).flatten()[None]
    action = Controllers(weights, RACE, _features, ("tanh", "tanh", "rest")).act(scores)
    papers = torch.stack([scores[:, 0].tanh(), (scores[:, 1].tanh() + 1) / 2, scores[:, 2].tanh().clamp(0, 1)], dim=1)
    low, high = torch.tensor([-1.0, 0.0, 0.0]), torch.ones(3)
    torch.testing.assert_close(low + (action + 1) / 2 * (high - low), papers)


def test_discrete_ones_choose_the_highest_score() -> None:
    weights = torch.cat([torch.eye(3), torch.zeros(1, 3)]).flatten()[None]
    action = Controllers(weights, CHOICES, _features)({"x": torch.tensor([[0.1, 0.3, 0.2], [2.0, 1.0, -1.0]])})
    assert action.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_where_frames_are_skipped_an_action_is_held() -> None:
    spec = Spec({"state": (2,)}, 6)
    policy = Controllers(torch.randn(1, count(2, spec, 3)), spec, _features, repeat=3)
    state = {"x": torch.randn(4, 2)}
    assert policy(state).shape == (4, 6)
    torch.testing.assert_close(policy(state), policy.act(state["x"]).repeat(1, 3))


@pytest.mark.parametrize(
    ("squash", "spec", "repeat", "words"),
    [
        (("tanh",), RACE, 1, "names 1 dimensions, an action has 3"),
        (("tanh",), CHOICES, 1, "choices"),
        ((), RACE, 2, "repeat=2"),
        ((), CHOICES, 3, "repeat=3"),
    ],
)
def test_what_does_not_fit_is_told(squash: tuple[Squash, ...], spec: Spec, repeat: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_squash(squash, spec, repeat)


def _features(state: State) -> Tensor:
    return state["x"]
