"""Checks of an agent's six modules: each keeps what `agent/modules.py` asks, alone and within an agent; ours and yours.

Every check is given a function that builds the module, and raises `AssertionError`, with a sentence, where it falls
short. `model` is a world model that the module is to work with; none: a point on a plane, which goes where it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig, Cost, GoalEnergy, OneFuture
from innerworld.agent.configurator.tasks import Reach, Task
from innerworld.agent.cost.cost import judged
from innerworld.agent.modules import (
    Actor,
    Believed,
    Configurator,
    Foresight,
    Imagined,
    Judge,
    Memory,
    Moment,
    Named,
    Perception,
    Setting,
    Situation,
)
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import RandomShooting, free
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State, each, random_actions
from innerworld.world import Card, WorldModel

B, H, N = 3, 4, 5
KEPT = torch.tensor([0, 2])
CLOSE = 1e-4


class Point(WorldModel):
    """A point on a plane, which goes where it is told."""

    Config = Config
    card: ClassVar[Card] = Card("point", "state", True, "none", "-")

    def __init__(self) -> None:
        super().__init__(Config(), Spec({"at": (2,)}, 2))

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"at": obs["at"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"at": state["at"] + 0.3 * action}

    def decode(self, state: State) -> dict[str, Tensor]:
        return dict(state)

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["at"] - goal["at"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def check_perception(build: Callable[[WorldModel], Perception], model: WorldModel | None = None) -> None:
    """Shapes; sights that are missing or not finite; worlds that leave change nothing for the others."""
    model, clip = _with_clip(model)
    whole, few = build(model), build(model)
    for senses in (whole, few):
        senses.begin(clip.at(0))
        _perceives(senses, B)
        senses.look(clip.at(1), clip.action[:, 0])
        _perceives(senses, B)
    few.keep(KEPT)
    _perceives(few, len(KEPT))
    whole.look(clip.at(2), clip.action[:, 1])
    few.look(_rows(clip.at(2)), clip.action[KEPT, 1])
    _alike(_rows(whole.state), few.state, "`keep` changed what is believed of the worlds that stay")
    broken = each(
        lambda value: value.index_fill(0, KEPT[:1], torch.nan) if value.is_floating_point() else value, clip.at(3)
    )
    whole.look(broken, clip.action[:, 2])  # must not raise
    if any(value.is_floating_point() for value in broken.values()):
        assert bool(whole.blind[0]) and not bool(whole.blind[1]), "`blind` does not say where a sensor was not finite"
    whole.look({}, clip.action[:, 3])
    _perceives(whole, B)
    assert bool(whole.blind.all()), "`blind` does not say that nothing was seen"
    whole.refresh(clip.cut(0, H), torch.arange(B))
    _perceives(whole, B)
    _lives(Agent(model, _planner(), STRICT, perception=build(model)), clip)


def check_memory(build: Callable[[], Memory]) -> None:
    """What is remembered is recalled, in order and of this episode only, for the worlds that stay."""
    memory = build()
    for _ in range(2):
        memory.begin(B)
        assert not memory.recall(H), "an episode begins with moments of an earlier one"
        for time in range(3):
            memory.remember(_moment(time))
        found = memory.recall(2)
        assert [moment.time for moment in found] == [1, 2], "`recall` gives not the last moments, oldest first"
        torch.testing.assert_close(found[1].features, _moment(2).features, msg="features come back changed")
        assert len(memory.recall(99)) == 3, "`recall` gives not as many moments as there are"
    memory.pursue(torch.ones(B, 2))
    memory.refresh(1, lambda sights: torch.full((len(sights), 2), 7.0))
    features = memory.recall(1)[0].features
    anew = (features == 7) | features.isnan()
    assert bool(anew.all()), "after `refresh` features of before are recalled: give those of now, or NaN"
    memory.keep(KEPT)
    assert len(memory.recall(1)[0].cost) == len(KEPT), "`keep` leaves the worlds that have left among the moments"
    model, clip = _with_clip(None)
    _lives(Agent(model, _planner(), STRICT, memory=build()), clip)


def check_foresight(build: Callable[[WorldModel], Foresight], model: WorldModel | None = None) -> None:
    """Shapes; the same futures the second time, alone as in company: or a plan that was checked would be another."""
    model, clip = _with_clip(model)
    state, goal, actions = model.encode(clip.at(0)), model.encode(clip.at(1)), _actions(model)
    foresight = build(model)
    futures = foresight(state, actions, goal)
    assert len(futures) > 0, "a foresight gives no future"
    for future in futures:
        for name, value in future.states.items():
            assert value.shape[:3] == (B, N, H), (
                f"{name!r} has shape {tuple(value.shape)}, expected ({B}, {N}, {H}, ...)"
            )
        assert torch.equal(future.actions, actions) and future.goal is not None, "actions or goal are not those asked"
    alone = foresight(state, actions[:, 1:2], goal)
    for one, other in zip(futures, alone, strict=True):
        _alike(each(lambda value: value[:, 1:2], one.states), other.states, "a candidate has another future alone")
    assert all(future.goal is None for future in foresight(state, actions, None)), "there is a goal that nobody gave"
    _lives(Agent(model, _planner(), STRICT, foresight=build(model)), clip)


def check_judge(build: Callable[[WorldModel], Judge], model: WorldModel | None = None) -> None:
    """Shapes; finite costs of finite futures; bounds that are crossed by 0 or more; parts that add up; rows apart.
    Where its terms have names, weights by these are taken, and others refused."""
    model, clip = _with_clip(model)
    judge, state, goal = build(model), model.encode(clip.at(0)), model.encode(clip.at(1))
    futures = OneFuture(model)(state, _actions(model), goal)
    cost, breach, now = judge.cost(futures, {}), judge.breach(futures), judge.now(model, state, goal, clip.action[:, 0])
    for name, value, shape in (("cost", cost, (B, N)), ("breach", breach, (B, N)), ("now", now, (B,))):
        assert value.shape == shape, f"`{name}` has shape {tuple(value.shape)}, expected {shape}"
        assert bool(value.isfinite().all()), f"`{name}` of finite futures is not finite"
    assert bool((breach >= 0).all()), "`breach` is below 0"
    assert judge.bounded or not bool(breach.any()), "there are breaches, but `bounded` says that there are no bounds"
    summed = torch.stack(list(judge.parts(futures, {}).values())).sum(dim=0)
    torch.testing.assert_close(summed, cost, rtol=CLOSE, atol=CLOSE, msg="`parts` do not add up to `cost`")
    if isinstance(judge, Named):
        _weighs(judge, judge.names, futures)
    few = judge.cost([future.rows(KEPT) for future in futures], {})
    torch.testing.assert_close(few, cost[KEPT], rtol=CLOSE, atol=CLOSE, msg="the cost of a world depends on others")
    _lives(Agent(model, _planner(), STRICT, cost=build(model)), clip)


def check_actor(build: Callable[[WorldModel], Actor], model: WorldModel | None = None) -> None:
    """Decisions of the right shape, allowed, and without an error when it is too late; worlds may leave."""
    model, clip = _with_clip(model)
    actor = build(model)
    actor.begin(B, 0, 0, torch.device("cpu"))
    for b in (B, B, len(KEPT)):
        if b < B:
            actor.keep(KEPT)
        decision = actor.decide(_situation(model, clip, b))
        _decides(decision.actions, model.spec, b)
        shapes = tuple(decision.degraded.shape), tuple(decision.mode.shape)
        assert shapes == ((b,), (b,)), f"`degraded` and `mode` have shapes {shapes}, expected ({b},)"
        assert decision.degraded.dtype == torch.bool, f"`degraded` is {decision.degraded.dtype}, not bool"
        actor.done(1, decision.actions)
    late = actor.decide(_situation(model, clip, len(KEPT), deadline=0.0))  # must not raise
    assert bool(late.degraded.all()) or bool(late.actions.isfinite().all()), "too late, it decides what is no action"
    _lives(Agent(model, _planner(), STRICT, actor=build(model)), clip)


def check_configurator(
    build: Callable[[], Configurator], model: WorldModel | None = None, task: Callable[[Obs], Task] = Reach
) -> None:
    """Goals and questions of every world; `task` makes one of a sight, each `b ...`. Worlds may leave."""
    model, clip = _with_clip(model)
    configurator, state = build(), model.encode(clip.at(0))
    configurator.begin(task(clip.at(H)), model, state, 0, 0)
    memory = _Nothing()
    for b in (B, len(KEPT)):
        if b < B:
            configurator.keep(KEPT)
        here = state if b == B else _rows(state)
        assert configurator.closest.shape == (b,), (
            f"`closest` has shape {tuple(configurator.closest.shape)}, not ({b},)"
        )
        configurator.look(here)
        setting = configurator.set(here, memory, None, ())
        configurator.spend(1)
        configurator.refresh(here)
        goal = setting.goal or {}
        assert all(len(value) == b for value in goal.values()), f"the goal is not one for each of {b} worlds"
        assert setting.effort > 0, f"effort={setting.effort}: above 0"
    _lives(Agent(model, _planner(), STRICT, configurator=build()), clip, task)


def _weighs(judge: Judge, names: Sequence[str], futures: Sequence[Imagined]) -> None:
    """Weights by name are taken."""
    assert len(set(names)) == len(names), f"two terms have one name: {', '.join(names)}"
    for name in names:
        one, other = (judge.cost(futures, {name: weight}) for weight in (1.0, 2.0))
        assert bool(one.isfinite().all()), f"with a weight for {name!r} `cost` is not finite"
        told = judge.parts(futures, {name: 2.0})
        summed = torch.stack(list(told.values())).sum(dim=0)
        torch.testing.assert_close(summed, other, rtol=CLOSE, atol=CLOSE, msg=f"`parts` ignore the weight of {name!r}")
    try:
        judge.cost(futures, {"no such term": 1.0})
    except UserError:
        return
    raise AssertionError("a weight of a term that it lacks is not refused: raise UserError")


STRICT = AgentConfig(strict=True, execute=2)


class _Nothing:
    """A memory without memories."""

    def begin(self, b: int) -> None: ...
    def pursue(self, goal: Tensor) -> None: ...
    def remember(self, moment: Moment) -> None: ...
    def recall(self, last: int) -> list[Moment]:
        return []

    def refresh(self, version: int, again: Believed) -> None: ...
    def keep(self, rows: Tensor) -> None: ...


def _lives(mind: Agent, clip: Clip, task: Callable[[Obs], Task] = Reach) -> None:
    """An agent with it acts in several worlds, one of which leaves in the middle of a plan; nothing is raised."""
    for _ in range(2):
        mind.begin(clip.at(0), task(clip.at(H)), seed=1)
        for t in range(H):
            if t == 1:
                mind.keep(KEPT)
            seen = clip.at(t) if t < 1 else _rows(clip.at(t))
            action = mind.act(seen)
            _decides(action[:, None], mind.model.spec, B if t < 1 else len(KEPT))
        assert mind.closest.shape == (len(KEPT),) and len(mind.explain(1).action) == mind.model.spec.action


def _with_clip(model: WorldModel | None) -> tuple[WorldModel, Clip]:
    model = (Point() if model is None else model).eval()
    return model, random_clip(model.spec, B, H + 1)


def _planner() -> RandomShooting:
    return RandomShooting(horizon=H, samples=16)


def _rows(tensors: State) -> State:
    return each(lambda value: value[KEPT], tensors)


def _actions(model: WorldModel) -> Tensor:
    return random_actions(model.spec, (B, N, H), Generator().manual_seed(1))


def _moment(time: int) -> Moment:
    nothing = torch.full((B,), torch.nan)
    seen, sight = torch.full((B, 2), float(time)), torch.arange(B) + B * time
    return Moment(time, seen, torch.zeros(B, 2), torch.zeros(B), nothing, nothing, sight)


def _situation(model: WorldModel, clip: Clip, b: int, deadline: float | None = None) -> Situation:
    state, goal = (each(lambda value: value[:b], model.encode(clip.at(t))) for t in (0, H))
    cost = judged(OneFuture(model), Cost((GoalEnergy(),)), state, goal)
    return Situation(model, state, Setting(goal), cost, torch.full((b,), torch.nan), deadline, free)


def _perceives(senses: Perception, b: int) -> None:
    assert all(len(value) == b for value in senses.state.values()), f"what is believed is not of {b} worlds"
    for name, value in (("surprise", senses.surprise), ("blind", senses.blind)):
        assert value.shape == (b,), f"`{name}` has shape {tuple(value.shape)}, expected ({b},)"
    assert senses.blind.dtype == torch.bool, f"`blind` is {senses.blind.dtype}, not bool"


def _decides(actions: Tensor, spec: Spec, b: int) -> None:
    shape = tuple(actions.shape)
    assert len(shape) == 3 and (shape[0], shape[2]) == (b, spec.action), f"actions have shape {shape}, not (b, h, a)"
    assert bool((actions.abs() <= 1).all()), "an action is not in [-1, 1]"
    if spec.discrete:
        assert bool((actions.sum(dim=-1) == 1).all()) and bool((actions.max(dim=-1).values == 1).all()), "not one-hot"


def _alike(one: State, other: State, what: str) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=CLOSE, atol=CLOSE, equal_nan=True, msg=what)
