"""The agent: what it looks at and how often, worlds apart from each other, plans that outlive a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig
from innerworld.agent.configurator.tasks import Reach, Weighted
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.plan import CEM, ICEM, Constraint, Cost, Limits, Plan, Planner, cold, free
from innerworld.testing.world_model import random_clip
from innerworld.types import Obs, Spec, State, each

SPEC = Spec({"speed": (3,)}, 2)
CHOICES = Spec({"speed": (3,)}, 4, discrete=True)
PLANNER = ICEM(horizon=5, samples=32, rounds=3, elites=8)


class Counted(JEPA):
    """Counts what it is asked to look at."""

    looks: list[tuple[int, bool]]

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        self.looks.append((len(obs["speed"]), state is not None))
        assert not torch.is_grad_enabled() and not self.training
        return super().encode(obs, state, action)


def model(spec: Spec = SPEC) -> Counted:
    torch.manual_seed(0)
    config = JEPAConfig(latent=6, hidden=8, predictor="transformer", history=3, depth=1, heads=2, head_dim=4)
    made = Counted(config, spec)
    for name, p in made.named_parameters():
        if "steer" in name:  # else the action would be without effect before training
            torch.nn.init.normal_(p, std=0.5)
    made.looks = []
    return made


def observations(b: int, t: int, spec: Spec = SPEC) -> list[Obs]:
    clip = random_clip(spec, b, t)
    return [clip.at(i) for i in range(t + 1)]


def row(obs: Obs, i: int) -> Obs:
    return each(lambda value: value[i : i + 1], obs)


def test_it_looks_once_a_step_and_once_at_the_goal() -> None:
    mind, seen = Agent(model(), PLANNER), observations(3, 5)
    mind.begin(seen[0], seen[5])
    assert mind.model.looks == [(3, False), (3, False)]  # pyright: ignore
    for obs in seen[:4]:
        assert mind.act(obs).shape == (3, 2)
    # What was seen first is not looked at again; what comes later is believed after what was believed before.
    assert mind.model.looks[2:] == [(3, True)] * 3  # pyright: ignore


def test_it_remembers_what_it_did() -> None:
    mind, seen = Agent(model(), PLANNER), observations(2, 3)
    mind.begin(seen[0], seen[3])
    first = mind.act(seen[0])
    before = mind.state
    mind.act(seen[1])
    with torch.no_grad():
        expected = mind.model.encode(seen[1], before, first)
    assert all(torch.equal(value, expected[name]) for name, value in mind.state.items())


def test_a_world_is_planned_as_if_it_were_alone() -> None:
    """Row 0, because rows are numbered from 0: its generator is the same alone and in company."""
    seen = observations(3, 4)
    together, alone = Agent(model(), PLANNER), Agent(model(), PLANNER)
    together.begin(seen[0], seen[4], seed=5)
    alone.begin(row(seen[0], 0), row(seen[4], 0), seed=5)
    for obs in seen[:4]:
        torch.testing.assert_close(together.act(obs)[:1], alone.act(row(obs, 0)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("execute", [1, 3])
def test_keeping_some_worlds_changes_nothing_for_them(execute: int) -> None:
    """In the middle of executing a plan, too."""
    seen, kept = observations(4, 5), torch.tensor([1, 3])
    all_of_them, some = (Agent(model(), PLANNER, AgentConfig(execute=execute)) for _ in range(2))
    for mind in (all_of_them, some):
        mind.begin(seen[0], seen[5], seed=5)
        for obs in seen[:2]:
            mind.act(obs)
    some.keep(kept)
    for obs in seen[2:]:
        few = some.act(each(lambda value: value[kept], obs))
        assert few.shape == (2, 2)
        torch.testing.assert_close(all_of_them.act(obs)[kept], few, rtol=0, atol=1e-4)
        for name, value in some.state.items():
            torch.testing.assert_close(all_of_them.state[name][kept], value, rtol=0, atol=1e-4)


def test_a_seed_gives_a_plan() -> None:
    seen = observations(2, 2)

    def first(seed: int) -> Tensor:
        mind = Agent(model(), PLANNER)
        mind.begin(seen[0], seen[2], seed)
        return mind.act(seen[0])

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


class Scripted(Planner):
    """Gives out numbered actions and notes where it was asked to begin."""

    horizon: int = 4
    starts: list[Any] = []  # noqa: RUF012

    def __call__(
        self,
        cost: Cost,
        start: Tensor,
        rng: Sequence[Generator],
        discrete: bool = False,
        constrain: Constraint = free,
    ) -> Plan:
        self.starts.append(start.clone())
        b, h, a = start.shape
        if discrete:
            actions = torch.eye(a)[torch.arange(h) % a].expand(b, h, a)
        else:
            actions = (torch.arange(h) / 10 + len(self.starts) / 100)[None, :, None].expand(b, h, a)
        return Plan(actions, torch.zeros(b), torch.zeros(b, 1), 0)


def test_a_plan_is_executed_for_some_steps_and_then_shifted() -> None:
    planner = Scripted(starts=[])
    mind, seen = Agent(model(), planner, AgentConfig(execute=3)), observations(2, 7)
    mind.begin(seen[0], seen[7])
    done = [round(mind.act(obs)[1, 0].item(), 3) for obs in seen[:7]]
    assert done == [0.01, 0.11, 0.21, 0.02, 0.12, 0.22, 0.03]
    assert len(mind.plan_ms) == 3
    assert torch.equal(planner.starts[0], cold(2, 4, 2))
    assert [round(x, 3) for x in planner.starts[1][0, :, 0].tolist()] == [0.31, 0.31, 0.31, 0.31]


def test_the_first_plan_is_thought_over_longer() -> None:
    first, again = Scripted(starts=[]), Scripted(starts=[])
    mind, seen = Agent(model(), first, again=again), observations(2, 3)
    for _ in range(2):
        mind.begin(seen[0], seen[3])
        for obs in seen[:3]:
            mind.act(obs)
    assert (len(first.starts), len(again.starts)) == (2, 4)
    assert torch.equal(first.starts[1], cold(2, 4, 2))  # nothing is left of the episode before


def test_choices_are_one_hot_and_a_warm_start_is_their_probability() -> None:
    mind, seen = Agent(model(CHOICES), PLANNER), observations(3, 3, CHOICES)
    mind.begin(seen[0], seen[3])
    for obs in seen[:3]:
        action = mind.act(obs)
        assert action.shape == (3, 4)
        assert action.sum(dim=-1).tolist() == [1, 1, 1] and action.unique().tolist() == [0, 1]
    planner = Scripted(starts=[])
    mind = Agent(model(CHOICES), planner)
    mind.begin(seen[0], seen[3])
    mind.act(seen[0]), mind.act(seen[1])
    assert planner.starts[0].unique().tolist() == [0.25]
    assert planner.starts[1][0, 0].tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="horizons differ: 5 and 6"):
        Agent(model(), PLANNER, again=CEM(horizon=6))
    with pytest.raises(UserError, match="execute=6 is beyond the plan's 5 steps"):
        Agent(model(), PLANNER, AgentConfig(execute=6))


ROBOT = Limits(reach=(1, 0.3), ball=0.5, ball_dims=(0, 1), gripper=1, gripper_rests=0.2)


def test_what_it_does_keeps_to_the_limits() -> None:
    mind, seen = Agent(model(), PLANNER, AgentConfig(limits=ROBOT, execute=2)), observations(3, 5)
    mind.begin(seen[0], seen[5])
    done = torch.stack([mind.act(obs) for obs in seen[:5]])
    assert mind.plan is not None and mind.plan.actions.abs().sum(dim=-1).max() <= 0.5 + 1e-6
    assert done.abs().sum(dim=-1).max() <= 0.5 + 1e-6 and done[..., 1].abs().max() <= 0.3 + 1e-6
    assert not bool(((done[..., 1] != 0) & (done[..., 1].abs() < 0.2)).any())


JOINED = Spec({"speed": (3,)}, 6)  # three actions of two numbers in one


def test_a_block_is_done_action_by_action_and_looked_at_once() -> None:
    planner = Scripted(starts=[])
    mind, seen = Agent(model(JOINED), planner, AgentConfig(execute=2), block=3), observations(2, 9, JOINED)
    mind.begin(seen[0], seen[9])
    before, told = mind.state, []
    for t, obs in enumerate(seen[:9]):
        told.append(mind.act(obs))
        assert told[-1].shape == (2, 2)
        if t == 3:  # what was seen after the first block, believed from the whole of it
            with torch.no_grad():
                expected = mind.model.encode(obs, before, torch.cat(told[:3], dim=1))
            assert all(torch.equal(value, expected[name]) for name, value in mind.state.items())
    first = [round(action[0, 0].item(), 2) for action in told]
    assert first == [0.01] * 3 + [0.11] * 3 + [0.02] * 3  # two blocks of a plan are executed, then the next begins
    assert mind.model.looks[:4] == [(2, False), (2, False), (2, True), (2, True)]  # pyright: ignore
    assert [tuple(start.shape) for start in planner.starts] == [(2, 4, 6)] * 2


def test_limits_hold_for_each_action_of_a_block() -> None:
    config = AgentConfig(limits=Limits(ball=0.5, ball_dims=(0, 1)))
    mind, seen = Agent(model(JOINED), PLANNER, config, block=3), observations(2, 6, JOINED)
    mind.begin(seen[0], seen[6])
    done = torch.stack([mind.act(obs) for obs in seen[:6]])
    assert 0.3 < done.abs().sum(dim=-1).max() <= 0.5 + 1e-6


def test_worlds_may_leave_within_a_block() -> None:
    seen, kept = observations(4, 6, JOINED), torch.tensor([1, 3])
    all_of_them, some = (Agent(model(JOINED), PLANNER, block=3) for _ in range(2))
    for mind in (all_of_them, some):
        mind.begin(seen[0], seen[6], seed=5)
        mind.act(seen[0])
    some.keep(kept)
    for obs in seen[1:6]:
        few = some.act(each(lambda value: value[kept], obs))
        torch.testing.assert_close(all_of_them.act(obs)[kept], few, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("spec", "block"), [(SPEC, 4), (SPEC, 0), (CHOICES, 2)])
def test_blocks_that_do_not_fit(spec: Spec, block: int) -> None:
    with pytest.raises(UserError, match=f"block={block} does not fit"):
        Agent(model(spec), PLANNER, block=block)


def test_limits_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="limits name dimension 2, an action has 2"):
        Agent(model(), PLANNER, AgentConfig(limits=Limits(still=(2,))))
    with pytest.raises(UserError, match="choices cannot be constrained"):
        Agent(model(CHOICES), PLANNER, AgentConfig(limits=Limits(still=(1,))))
    with pytest.raises(UserError, match="choices cannot be constrained"):
        Agent(model(CHOICES), PLANNER, AgentConfig(limits=Limits(gripper=1)))


def test_a_goal_of_another_camera_or_size() -> None:
    mind, seen = Agent(model(), PLANNER), observations(2, 1)
    with pytest.raises(UserError, match="the goal lacks the sensor 'speed'; there are: wrist"):
        mind.begin(seen[0], {"wrist": seen[1]["speed"]})
    with pytest.raises(UserError, match=r"the goal: sensor 'speed' has shape \(2, 4\), the model was .* \(2, 3\)"):
        mind.begin(seen[0], {"speed": torch.zeros(2, 4)})
    with pytest.raises(UserError, match=r"a goal on the way: sensor 'speed' has shape \(1, 3\)"):
        mind.begin(seen[0], seen[1], via=[row(seen[1], 0)])


def test_a_weight_of_a_term_that_the_cost_lacks_is_refused_before_anything_is_done() -> None:
    mind, seen = Agent(model(), PLANNER), observations(2, 1)
    with pytest.raises(UserError, match="the cost has no term 'gaol'"):
        mind.begin(seen[0], Weighted({"gaol": 2.0}, Reach(seen[1])))


def test_where_only_some_imagined_steps_count_it_acts_all_the_same() -> None:
    """What is remembered is the cost of one step, however few steps of a plan are looked at."""
    mind, seen = Agent(model(), PLANNER, AgentConfig(every=4, strict=True)), observations(2, 3)
    mind.begin(seen[0], seen[3])
    for obs in seen[:3]:
        mind.act(obs)
    assert all(bool(moment.cost.isfinite().all()) for moment in mind.memory.recall(3))
    assert str(mind.explain(1))
