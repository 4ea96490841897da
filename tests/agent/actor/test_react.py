"""A reactor believes what `encode` believes, row by row, whenever its episodes begin."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Reactor
from innerworld.errors import UserError
from innerworld.models import RSSM
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State, each

SPEC = Spec({"speed": (3,)}, 2)
TINY = RSSM.Config(deter=32, hidden=16, stoch=4, classes=4, units=16, layers=1)


class Steered:
    """A policy that looks at the belief and, if it may, draws."""

    def __call__(self, state: State, rng: Generator | None = None) -> Tensor:
        action = state["deter"][:, :2].tanh()
        return action if rng is None else action + torch.randn(action.shape, generator=rng)


@pytest.fixture
def model() -> RSSM:
    torch.manual_seed(0)
    return RSSM(TINY, SPEC)


@pytest.fixture
def clip() -> Clip:
    return random_clip(SPEC, b=3, t=4)


def _rows(obs: Obs, *rows: int) -> Obs:
    return each(lambda value: value[list(rows)], obs)


def test_it_believes_along_what_it_does(model: RSSM, clip: Clip) -> None:
    agent, policy = Reactor(model, Steered(), sample=False), Steered()
    agent.begin(clip.at(0))
    state = model.encode(clip.at(0))
    for t in range(3):
        action = agent.act(clip.at(t))
        torch.testing.assert_close(agent.state["deter"], state["deter"])
        torch.testing.assert_close(action, policy(state))
        state = model.encode(clip.at(t + 1), state, action)


def test_rows_that_begin_anew_forget_and_the_others_do_not(model: RSSM, clip: Clip) -> None:
    agent, whole, fresh = (Reactor(model, Steered(), sample=False) for _ in range(3))
    agent.begin(clip.at(0))
    whole.begin(clip.at(0))
    agent.act(clip.at(0))
    whole.act(clip.at(0))
    agent.begin_rows(torch.tensor([1]), _rows(clip.at(1), 1))
    fresh.begin(_rows(clip.at(1), 1))
    for t in (1, 2):
        mixed, along, anew = agent.act(clip.at(t)), whole.act(clip.at(t)), fresh.act(_rows(clip.at(t), 1))
        torch.testing.assert_close(mixed[[0, 2]], along[[0, 2]])
        torch.testing.assert_close(mixed[[1]], anew)
        assert not torch.allclose(mixed[1], along[1])


def test_no_rows_to_begin_is_nothing(model: RSSM, clip: Clip) -> None:
    agent = Reactor(model, Steered())
    agent.begin(clip.at(0))
    before = agent.state
    agent.begin_rows(torch.zeros(0, dtype=torch.long), _rows(clip.at(0)))
    assert agent.state is before


def test_rows_can_be_left_behind(model: RSSM, clip: Clip) -> None:
    agent, whole = Reactor(model, Steered(), sample=False), Reactor(model, Steered(), sample=False)
    for each_agent in (agent, whole):
        each_agent.begin(clip.at(0))
    agent.act(clip.at(0))
    whole.act(clip.at(0))
    agent.keep(torch.tensor([0, 2]))
    torch.testing.assert_close(agent.act(_rows(clip.at(1), 0, 2)), whole.act(clip.at(1))[[0, 2]])


def test_the_seed_settles_what_is_drawn(model: RSSM, clip: Clip) -> None:
    drawn = []
    for seed in (1, 1, 2):
        agent = Reactor(model, Steered(), seed=seed)
        agent.begin(clip.at(0))
        drawn.append(agent.act(clip.at(0)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_it_neither_tracks_gradients_nor_stops_the_learning(model: RSSM, clip: Clip) -> None:
    modes = []

    def policy(state: State, rng: Generator | None = None) -> Tensor:
        modes.append(model.training)
        return Steered()(state)

    agent = Reactor(model.train(), policy)
    agent.begin(clip.at(0))
    assert not agent.act(clip.at(0)).requires_grad and not agent.state["deter"].requires_grad
    assert modes == [False] and model.training
    model.eval()
    agent.act(clip.at(1))
    assert not model.training


def test_to_act_it_must_begin(model: RSSM, clip: Clip) -> None:
    with pytest.raises(UserError, match="begin"):
        Reactor(model, Steered()).act(clip.at(0))


def test_who_explores_draws_its_beliefs_as_it_was_taught(model: RSSM, clip: Clip) -> None:
    agent, still = Reactor(model, Steered(), sample=True, seed=4), Reactor(model, Steered(), sample=False)
    agent.begin(clip.at(0))
    still.begin(clip.at(0))
    agent.act(clip.at(0))
    still.act(clip.at(0))
    torch.testing.assert_close(agent.state["logits"], still.state["logits"])
    drawn = model.drawn(still.state, Generator().manual_seed(4))
    assert torch.equal(agent.state["stoch"], drawn["stoch"])
    assert torch.equal(still.state["stoch"], model.encode(clip.at(0))["stoch"])
    many = torch.stack([model.drawn(still.state, Generator().manual_seed(i))["stoch"] for i in range(2000)])
    torch.testing.assert_close(many.mean(0), still.state["logits"].exp(), atol=0.06, rtol=0)
