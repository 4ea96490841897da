"""Plausible futures: one, drawn ones that share their luck, and those of several models."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from innerworld.agent import Agent, Cost
from innerworld.agent.cost.strangeness import Disagreement
from innerworld.agent.cost.terms import GoalEnergy
from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.agent.foresight.futures import Members, OneFuture, Sampled, copies
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA
from innerworld.models.rssm import RSSM
from innerworld.plan import ICEM
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec, State, each
from innerworld.world import WorldModel

SPEC = Spec({"speed": (3,)}, 2)
TINY = RSSM.Config(deter=16, hidden=8, stoch=4, classes=4, units=8, layers=1)


def jepa(seed: int = 0) -> JEPA:
    torch.manual_seed(seed)
    return JEPA(JEPA.Config(latent=6, hidden=8), SPEC).eval()


def rssm(latent: str = "categorical") -> RSSM:
    torch.manual_seed(0)
    return RSSM(TINY.model_copy(update={"latent": latent}), SPEC).eval()


def start(model: WorldModel, b: int = 2) -> State:
    return model.encode(random_clip(SPEC, b, 1).at(0))


def plans(b: int = 2, n: int = 3, h: int = 4) -> Tensor:
    """The last candidate is the first one again."""
    actions = torch.rand(b, n, h, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    actions[:, -1] = actions[:, 0]
    return actions


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def test_one_future_is_the_models() -> None:
    model = jepa()
    state, actions = start(model), plans()
    (future,) = OneFuture(model)(state, actions, state)
    expected = model.imagine(state, actions)
    assert all(torch.equal(value, expected[name]) for name, value in future.states.items())
    assert future.model is model and future.start is state and future.goal is state
    assert torch.equal(future.actions, actions)


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_draws_differ_and_candidates_share_their_luck(latent: str) -> None:
    model = rssm(latent)
    state, actions = start(model), plans()
    futures = Sampled(model, 3)(state, actions, None)
    assert len(futures) == 3 and futures[0].states["stoch"].shape[:3] == (2, 3, 4)
    assert not torch.equal(futures[0].states["stoch"], futures[1].states["stoch"])
    for future in futures:  # the same plan meets the same luck
        for value in future.states.values():
            torch.testing.assert_close(value[:, 0], value[:, 2])


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_a_plan_that_is_judged_again_alone_has_the_same_futures(latent: str) -> None:
    """As an agent does before it acts; in another world's company or not."""
    model = rssm(latent)
    state, actions, foresight = start(model), plans(), Sampled(model, 2, seed=3)
    together = foresight(state, actions, None)
    alone = foresight(each(lambda value: value[1:], state), actions[1:, 1:2], None)
    for some, one in zip(together, alone, strict=True):
        for name, value in one.states.items():
            torch.testing.assert_close(some.states[name][1:, 1:2], value)


def test_seeds_are_other_lucks() -> None:
    model = rssm()
    found = [Sampled(model, 1, seed)(start(model), plans(), None)[0].states["stoch"] for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_model_whose_futures_do_not_vary_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    model = jepa()
    foresight = Sampled(model, 3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            first, *others = foresight(start(model), plans(), None)
    assert all(torch.equal(first.states["z"], other.states["z"]) for other in others)
    assert [record.message for record in caplog.records] == [
        f"{model.card.name} draws the same future every time: of 3 samples one is enough"
    ]
    with caplog.at_level(logging.WARNING):
        Sampled(rssm(), 3)(start(rssm()), plans(), None)
        Sampled(model, 1)(start(model), plans(), None)
    assert len(caplog.records) == 1


def test_members_imagine_each_for_itself() -> None:
    models = jepa(0), jepa(1), jepa(2)
    both = Ensemble(models)
    state, actions = start(both), plans()
    futures = Members(both)(state, actions, state)
    for model, future in zip(models, futures, strict=True):
        expected = model.imagine(start(model), actions)
        assert future.model is model and future.goal is not None
        torch.testing.assert_close(future.states["z"], expected["z"])
        torch.testing.assert_close(future.goal["z"], start(model)["z"])
    assert all(future.goal is None for future in Members(both)(state, actions, None))


def test_how_much_is_imagined_is_known_beforehand() -> None:
    model = jepa()
    assert copies(OneFuture(model)) == 1 and copies(Sampled(model, 5)) == 5
    assert copies(lambda state, actions, goal: []) == 1
    with pytest.raises(UserError, match="at least 1"):
        Sampled(model, 0)


def test_an_agent_plans_over_several_models() -> None:
    several = Ensemble([jepa(0), jepa(1)])
    clip = random_clip(SPEC, 2, 2)
    cost = Cost((GoalEnergy(), Disagreement(weight=0.1)), over="worst")
    mind = Agent(several, ICEM(horizon=4, samples=16, elites=4), foresight=Members(several), cost=cost)
    mind.begin(clip.at(0), clip.at(2))
    for t in (0, 1):
        assert mind.act(clip.at(t)).shape == (2, 2) and not mind.degraded.any() and not mind.trouble
    assert any("disagreement [spread]" in name for name in mind.explain().parts)
