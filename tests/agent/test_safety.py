"""Goals that are not finite, plans that nobody could judge, costs without names: what an agent does all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.agent import Agent, AgentConfig, Cost, Effort, GoalEnergy, Guardrail
from innerworld.agent.configurator.tasks import Asked, Leg, Maximise, Reach, Weighted
from innerworld.agent.modules import Named
from innerworld.agent.safety import aimless, held
from innerworld.errors import UserError
from innerworld.plan import ICEM
from innerworld.testing.agent import Point
from innerworld.types import Obs, State
from innerworld.world import WorldModel

PLANNER = ICEM(horizon=3, samples=16, rounds=2, elites=4)
SAFE = AgentConfig(safe=(0.5, -0.5))
HERE = {"at": torch.zeros(3, 2)}


def goal(*broken: tuple[int, float]) -> Obs:
    places = torch.ones(3, 2)
    for row, value in broken:
        places[row, 1] = value
    return {"at": places}


class Mine:
    """A task of one's own, which checks nothing."""

    def legs(self, asked: Asked) -> list[Leg]:
        return [Leg(goal((2, torch.nan)))]


@pytest.mark.parametrize("wanted", [goal((1, torch.nan)), goal((1, torch.inf)), goal((0, -torch.inf))])
def test_a_goal_that_is_not_finite_is_refused_before_anything_is_done(wanted: Obs) -> None:
    mind = Agent(Point(), PLANNER)
    for task in (wanted, Reach(goal(), [wanted])):
        with pytest.raises(UserError, match=r"sensor 'at' is not finite in 1 of 3 worlds") as error:
            mind.begin(HERE, task)
        assert "\n" not in str(error.value)
        with pytest.raises(UserError, match="must begin"):
            mind.act(HERE)


def test_so_is_that_of_a_task_of_ones_own() -> None:
    with pytest.raises(UserError, match="the goal of the task: sensor 'at' is not finite in 1 of 3"):
        Agent(Point(), PLANNER).begin(HERE, Mine())


def test_weights_are_finite_too() -> None:
    for task in (Weighted({"goal": torch.nan}, Reach(goal())), Maximise(torch.inf)):
        with pytest.raises(UserError, match="must be finite"):
            task.legs(Asked(Point().spec, 3))


class Astray:
    """Sub-goals that are lost in one world, from the second plan on."""

    def begin(self, model: WorldModel, state: State, seed: int, first: int) -> None:
        self.plans = 0

    def aim(self, state: State, goal: State) -> State:
        self.plans += 1
        return {"at": goal["at"].index_fill(0, torch.tensor([1]), torch.nan)} if self.plans > 1 else goal

    def refresh(self, model: WorldModel) -> None: ...
    def keep(self, rows: Tensor) -> None: ...


def astray(config: AgentConfig) -> Agent:
    from innerworld.agent import Director

    mind = Agent(Point(), PLANNER, config, configurator=Director(subgoals=Astray()))
    mind.begin(HERE, goal())
    return mind


def test_a_sub_goal_that_is_not_finite_makes_its_world_do_the_safe_action(caplog: pytest.LogCaptureFixture) -> None:
    mind, whole = astray(SAFE), Agent(Point(), PLANNER, SAFE)
    whole.begin(HERE, goal())
    assert torch.equal(mind.act(HERE), whole.act(HERE)) and not mind.degraded.any()
    seen = {"at": 0.1 * torch.ones(3, 2)}
    action, undisturbed = mind.act(seen), whole.act(seen)
    assert action[1].tolist() == [0.5, -0.5] and mind.degraded.tolist() == [False, True, False]
    assert torch.equal(action[[0, 2]], undisturbed[[0, 2]])  # the others notice nothing
    assert mind.trouble == ["step 1: UserError: the goal that was set is not finite in 1 of 3 worlds: the safe action"]
    assert "not finite in 1 of 3" in caplog.text and "for want of a plan" in str(mind.explain(1))
    mind.act(seen)
    assert len(mind.trouble) == 2 and mind.degraded[1]


def test_unless_it_is_strict() -> None:
    mind = astray(AgentConfig(strict=True))
    mind.act(HERE)
    with pytest.raises(UserError, match="the goal that was set is not finite in 1 of 3 worlds"):
        mind.act(HERE)


def test_of_goals_only_numbers_can_be_lost() -> None:
    pictures = {"pixels": torch.zeros(2, 4, dtype=torch.uint8), "at": torch.tensor([[0.0], [torch.inf]])}
    assert aimless(pictures).tolist() == [False, True]


def test_the_safe_action_is_in_the_place_of_a_candidate_that_nobody_could_judge() -> None:
    model, judge = Point(), Cost((GoalEnergy(),), (Guardrail(Effort(), 0.5),))
    asked: list[Tensor] = []

    def imagine(plans: Tensor):
        from innerworld.agent import OneFuture

        asked.append(plans)
        return OneFuture(model)(HERE, plans[:, None], goal())

    wild, still = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    spare = torch.full((3, 2, 2), 0.1)
    spare[1] = torch.nan
    actions, unsafe, _ = held(judge, imagine, wild, imagine(wild), spare, still)
    assert all(bool(plans.isfinite().all()) for plans in asked)
    assert actions[:, 0, 0].tolist() == pytest.approx([0.1, 0.0, 0.1]) and not unsafe.any()


class Distance:
    """A cost without names."""

    bounded = False

    def cost(self, futures, weights):
        return futures[0].states["at"][:, :, -1].square().sum(dim=-1)

    def breach(self, futures):
        return torch.zeros(futures[0].actions.shape[:2])

    def now(self, model, state, goal, action):
        return torch.zeros(len(action))

    def parts(self, futures, weights):
        return {"distance": self.cost(futures, weights)}


class Weighed(Distance):
    """The same, which can be weighed."""

    names = ("far",)


def test_a_task_weighs_what_a_cost_of_ones_own_names() -> None:
    assert (
        isinstance(Cost((GoalEnergy(),)), Named) and isinstance(Weighed(), Named) and not isinstance(Distance(), Named)
    )
    mind = Agent(Point(), PLANNER, cost=Weighed())
    mind.begin(HERE, Weighted({"far": 2.0}, Reach(goal())))
    mind.act(HERE)
    assert mind.setting.weights == {"far": 2.0} and not mind.trouble
    for judge, said in ((Weighed(), "'fra'. Did you mean 'far'"), (Distance(), "There are: none")):
        with pytest.raises(UserError, match=said):
            Agent(Point(), PLANNER, cost=judge).begin(HERE, Weighted({"fra": 2.0}, Reach(goal())))
