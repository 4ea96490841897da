"""Hard bounds: a plan that crosses one costs more than any that does not, and is never what remains of a search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from innerworld.agent import Agent, AgentConfig
from innerworld.agent.actor.careful import HOPELESS
from innerworld.agent.cost.cost import Cost, judged
from innerworld.agent.cost.guardrail import BARRIER, Guardrail, barrier
from innerworld.agent.cost.readout import Decoded
from innerworld.agent.cost.regions import Disc
from innerworld.agent.cost.strangeness import Disagreement
from innerworld.agent.cost.terms import Effort, Forbidden, GoalEnergy
from innerworld.agent.foresight.futures import OneFuture, Sampled
from innerworld.agent.modules import Imagined
from innerworld.errors import UserError
from innerworld.plan import PLANNERS, Gradient, Planner, cold, generators
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

SPEC = Spec({"at": (2,)}, 2)
AT = Decoded("at", ("x", "y"))
FEW = {"samples": 32, "rounds": 3, "elites": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "random": {"samples": 64},
    "gradient": {"samples": 4, "rounds": 6, "lr": 0.3},
    "cem": {**FEW, "answer": "mean"},
    "mppi": {**FEW, "answer": "mean"},
}
SEARCHES: dict[str, Planner] = {name: kind(horizon=5, **SETTINGS.get(name, FEW)) for name, kind in PLANNERS.items()}


class Drift(WorldModel):
    """A point that random laws move about, under noise if asked: actions do not do quite what they say."""

    card = Card(name="drift", predicts="state", decodes=True, backbone="-", paper="-")

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        nn.Module.__init__(self)
        rng = Generator().manual_seed(seed)
        self.spec, self.noise = SPEC, noise
        self.push = torch.eye(2) + 0.4 * torch.randn(2, 2, generator=rng)
        self.bend = 0.3 * torch.randn(2, 2, generator=rng)

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"at": obs["at"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        at = state["at"] + action @ self.push + torch.sin(state["at"] @ self.bend) * 0.2
        if rng is not None:
            at = at + self.noise * torch.empty_like(at).normal_(generator=rng)
        return {"at": at}

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"at": state["at"]}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["at"] - goal["at"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def disc_between(start: Tensor, goal: Tensor, radius: float) -> Disc:
    middle = (start + goal) / 2
    return Disc(AT, (middle[0].item(), middle[1].item()), radius)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("name", PLANNERS)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), radius=st.floats(0.3, 1.2))
def test_an_agent_does_no_plan_that_crosses_where_it_saw_one_that_holds(
    name: str, noise: float, seed: int, radius: float
) -> None:
    """Over several steps of two worlds, the model's law being the world's; with noise in each of four futures."""
    rng = Generator().manual_seed(seed)
    model, at = Drift(seed, noise), torch.randn(2, 2, generator=rng)
    goal = at + 3 * nn.functional.normalize(torch.randn(2, 2, generator=rng), dim=1)
    cost = Cost((GoalEnergy(),), (Guardrail(Forbidden(disc_between(at[0], goal[0], radius)), bound=0),))
    plausible = Sampled(model, 4) if noise else OneFuture(model)
    holds: list[Tensor] = []

    def foresight(state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        futures = plausible(state, actions, goal)
        holds.append((cost.breach(plausible(state, actions.detach(), goal)) == 0).any(dim=1))
        return futures

    mind = Agent(model, SEARCHES[name], AgentConfig(strict=True), foresight=foresight, cost=cost)
    mind.begin({"at": at}, {"at": goal}, seed)
    for _ in range(3):
        holds.clear()
        action = mind.act({"at": at})
        assert mind.decision is not None
        crosses = cost.breach(plausible({"at": at}, mind.decision.actions[:, None], {"at": goal}))[:, 0] > 0
        assert not bool((crosses & torch.stack(holds).any(dim=0)).any())
        at = model.predict({"at": at}, action)["at"]


def test_a_guardrail_is_what_changes_the_plan() -> None:
    """Without it the straight way goes through the disc."""
    start, goal = torch.zeros(1, 2), torch.tensor([[4.0, 0.0]])
    model, disc = Drift(), disc_between(start[0], goal[0], 1.0)
    model.push, model.bend = torch.eye(2), torch.zeros(2, 2)
    state, wanted, foresight = {"at": start}, {"at": goal}, OneFuture(model)
    free, bound = Cost((GoalEnergy(1.0),)), Cost((GoalEnergy(1.0),), (Guardrail(Forbidden(disc), 0),))
    found = {}
    for name, cost in (("free", free), ("bound", bound)):
        plan = SEARCHES["icem"](judged(foresight, cost, state, wanted), cold(1, 5, 2), generators(0, 1))
        found[name] = bound.breach(foresight(state, plan.actions[:, None], wanted)).item()
    assert found["free"] > 0.5 and found["bound"] == 0


def test_a_search_by_gradient_that_begins_inside_comes_back() -> None:
    start, goal = torch.zeros(1, 2), torch.tensor([[4.0, 0.3]])
    model = Drift()
    model.push, model.bend = torch.eye(2), torch.zeros(2, 2)
    disc = disc_between(start[0], goal[0], 1.0)
    cost = Cost((GoalEnergy(1.0),), (Guardrail(Forbidden(disc), 0),))
    through = torch.tensor([0.8, 0.06]).expand(1, 5, 2)  # through the middle
    state, wanted, foresight = {"at": start}, {"at": goal}, OneFuture(model)
    assert cost.breach(foresight(state, through[:, None], wanted)).item() > 0.5
    search = Gradient(horizon=5, samples=1, rounds=80, lr=0.05, init_std=0.0)
    plan = search(judged(foresight, cost, state, wanted), through, generators(0, 1))
    assert plan.cost.item() < BARRIER
    assert cost.breach(foresight(state, plan.actions[:, None], wanted)).item() == 0


def test_the_barrier_is_above_all_that_holds_finite_and_grows() -> None:
    cost = torch.tensor([[1e-9, 3.0, 1e13, 0.0, -5.0, 2.0, torch.nan, torch.inf]])
    breach = torch.tensor([[0.0, 0.0, 0.0, 1e-3, 0.5, 1e30, 1.0, 0.0]])
    found = barrier(cost, breach)[0]
    assert found[0] == cost[0, 0] and found[1] == 3  # what holds costs what it costs, to the bit
    assert bool((found[:3] < BARRIER).all()) and bool((found[3:6] >= BARRIER).all())
    assert found[3] < found[4] < found[5] < HOPELESS
    assert found[6:].isinf().all()


def test_outside_only_the_way_back_counts() -> None:
    """The gradient there is that of the breach, in its own size: a step of a search is none of 1e12."""
    x = torch.tensor([[0.3, -1.0]], requires_grad=True)
    barrier(100 * x, x.clamp(min=0) * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[2.0, 100.0]]


def test_some_futures_may_be_bad_if_so_given() -> None:
    model = Drift()
    term = Effort()
    futures = [
        Imagined(model, {}, {}, torch.full((1, 1, 2, 2), size)) for size in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]  # efforts 0.01 to 0.25
    for share, expected in ((0.0, 0.24), (0.2, 0.15), (0.4, 0.08), (0.39, 0.15), (0.8, 0.0)):
        assert Guardrail(term, 0.01, share).breach(futures).item() == pytest.approx(expected, abs=1e-6)


def test_a_prediction_that_is_not_finite_holds_no_bound() -> None:
    actions = torch.zeros(1, 2, 3, 2)
    actions[0, 1, 1] = torch.nan
    breach = Guardrail(Effort(), 1.0).breach([Imagined(Drift(), {}, {}, actions)])
    assert breach.tolist() == [[0, torch.inf]]


def test_disagreement_is_bounded_over_all_futures() -> None:
    model = Drift(noise=0.5)
    state, goal = {"at": torch.zeros(1, 2)}, {"at": torch.ones(1, 2)}
    futures = Sampled(model, 4)(state, torch.zeros(1, 3, 2, 2), goal)
    rail = Guardrail(Disagreement(AT), 0.05)
    assert bool((rail.breach(futures) > 0).all()) and not rail.breach(futures[:1]).any()


def test_breaches_have_names_and_units() -> None:
    cost = Cost((Effort(),), (Guardrail(Effort(), 0.25), Guardrail(Forbidden(Disc(AT, (9, 9), 1), margin=1), 0)))
    futures = OneFuture(Drift())({"at": torch.zeros(1, 2)}, torch.ones(1, 2, 3, 2), None)
    found = cost.breaches(futures)
    assert list(found) == ["effort ≤ 0.25 [action²]", "forbidden ≤ 0 [1 at the border]"]
    torch.testing.assert_close(cost.breach(futures), sum(found.values(), torch.zeros(1, 2)))
    assert cost.breach(futures).tolist() == [[0.75, 0.75]]


@pytest.mark.parametrize(("bound", "share"), [(torch.inf, 0), (torch.nan, 0), (0, 1), (0, -0.1)])
def test_a_bound_is_finite_and_a_share_is_one(bound: float, share: float) -> None:
    with pytest.raises(UserError, match="effort"):
        Guardrail(Effort(), bound, share)


def test_a_search_that_came_too_late_leaves_what_it_has_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins within the disc, where to stand still crosses, and some candidates of the first round lead out."""
    clock = [0.0]
    model, at, goal = Drift(), {"at": torch.zeros(1, 2)}, {"at": torch.full((1, 2), 4.0)}
    model.push, model.bend = torch.eye(2), torch.zeros(2, 2)
    cost = Cost((GoalEnergy(),), (Guardrail(Forbidden(Disc(AT, (0.0, 0.0), 0.3)), bound=0),))

    def slow(state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        clock[0] += 1.0
        return OneFuture(model)(state, actions, goal)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    mind = Agent(model, SEARCHES["cem"], AgentConfig(strict=True, deadline_s=1.5), foresight=slow, cost=cost)
    mind.begin(at, goal)
    assert mind.act(at).norm() > 0.3
    assert mind.decision is not None and mind.degraded.all()
    assert not cost.breach(OneFuture(model)(at, mind.decision.actions[:, None], goal)).any()


def test_a_world_that_begins_inside_finds_out() -> None:
    """To stand still would cross for ever: what crosses least is done, and flagged, until a plan holds."""
    rail = Guardrail(Forbidden(Disc(AT, (0.0, 0.0), 3.0)), 0.0)
    cost = Cost((GoalEnergy(),), guardrails=(rail,))
    model = Drift()
    model.bend = torch.zeros(2, 2)  # who stands still stays
    mind = Agent(model, SEARCHES["icem"], AgentConfig(strict=True), cost=cost)
    here = {"at": torch.tensor([[0.2, 0.1]])}
    mind.begin(here, {"at": torch.tensor([[6.0, 0.0]])})
    flags = []
    for _ in range(6):
        here = model.predict(here, mind.act(here))
        flags.append(bool(mind.degraded[0]))
    assert flags[0] and not flags[-1]
    assert here["at"].norm() > 3
