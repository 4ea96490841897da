"""What a searcher that knows the way decides is what a reflex learns, and then it knows the way, too."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent.actor.habit import Reflex
from innerworld.agent.actor.tutor import Tutor, TutorConfig
from innerworld.agent.modules import Decision, Setting, Situation
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import free
from innerworld.policy.actor import ActorConfig
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.policy.lessons import DrillConfig, Lessons, drill
from innerworld.types import Obs, Spec, State

SPEC = Spec({"place": (2,)}, 2)
CHOICES = Spec({"place": (2,)}, 4, discrete=True)
SIDES = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
STEP = 0.2
SMALL = HabitConfig(actor=ActorConfig(units=64, layers=2, outscale=1.0), heads=2)
DRILL = DrillConfig(steps=120, batch=128, lr=1e-2, warmup=10)


def world(spec: Spec = SPEC) -> Oracle:
    """A point that goes where it is told, and stays within walls."""

    def go(obs: Obs, action: Tensor) -> Obs:
        way = action @ SIDES if spec.discrete else action
        return {"place": (obs["place"] + STEP * way).clamp(-1, 1)}

    return Oracle(OracleConfig(), spec, go)


def places(b: int, seed: int) -> State:
    return {"place": torch.rand(b, 2, generator=Generator().manual_seed(seed)) * 2 - 1}


def best(spec: Spec, here: Tensor, there: Tensor) -> Tensor:
    way = there - here
    if not spec.discrete:
        return (way / STEP).clamp(-1, 1)
    return torch.nn.functional.one_hot((way @ SIDES.T).argmax(dim=-1), 4).float()


class Knows:
    """A searcher that knows the way, unless it is too late."""

    horizon = 4

    def __init__(self, spec: Spec = SPEC, late: bool = False) -> None:
        self.spec, self.late, self.asked = spec, late, 0

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None: ...

    def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
        self.asked += 1
        assert situation.setting.goal is not None
        here, there, actions = situation.state, situation.setting.goal["place"], []
        for _ in range(self.horizon):
            actions.append(best(self.spec, here["place"], there))
            here = situation.model.predict(here, actions[-1])
        b = len(there)
        return Decision(torch.stack(actions, dim=1), torch.full((b,), self.late), torch.full((b,), 2.0))

    def done(self, steps: int, decided: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None: ...


def situation(b: int, spec: Spec = SPEC) -> Situation:
    return _toward(world(spec), places(b, 1), places(b, 2))


def _toward(model: Oracle, state: State, goal: State) -> Situation:
    b = len(state["place"])
    return Situation(model, state, Setting(goal), _free, torch.full((b,), torch.nan), None, free)


def _free(actions: Tensor) -> Tensor:
    return torch.zeros(actions.shape[:2])


def lead(actor: Tutor | Reflex, spec: Spec, b: int, steps: int, seed: int) -> Tensor:
    """Let it act; which rows arrived, `b`."""
    model, state, goal = world(spec), places(b, seed), places(b, seed + 1000)
    actor.begin(b, seed, 0, torch.device("cpu"))
    arrived = torch.zeros(b, dtype=torch.bool)
    for _ in range(steps):
        decision = actor.decide(_toward(model, state, goal))
        state = model.predict(state, decision.actions[:, 0])
        actor.done(1, decision.actions)
        arrived |= (state["place"] - goal["place"]).abs().amax(dim=-1) < 0.75 * STEP
    return arrived


def distilled(spec: Spec, rounds: int = 2) -> Habit:
    torch.manual_seed(0)
    habit, lessons = Habit(SMALL, 2, spec), Lessons()
    for number in range(rounds):
        pupil = Reflex(habit, spec) if number else None
        lead(Tutor(Knows(spec), lessons, pupil), spec, 64, 12, seed=number)
        drill(habit, lessons.all(), DRILL, number)
    return habit


@pytest.mark.parametrize("spec", [SPEC, CHOICES], ids=["continuous", "discrete"])
def test_a_distilled_reflex_arrives(spec: Spec) -> None:
    reflex = Reflex(distilled(spec), spec)
    arrived = lead(reflex, spec, b=200, steps=24, seed=7)
    assert arrived.float().mean() >= 0.95
    torch.manual_seed(1)
    untaught = lead(Reflex(Habit(SMALL, 2, spec), spec), spec, b=200, steps=24, seed=7)
    assert untaught.float().mean() < 0.6


def test_what_the_teacher_decides_is_what_is_learnt() -> None:
    lessons, seen = Lessons(), situation(3)
    torch.manual_seed(0)
    pupil = Reflex(Habit(SMALL, 2, SPEC), SPEC)
    tutor = Tutor(Knows(), lessons, pupil, TutorConfig(course=3, searches=2))
    tutor.begin(3, 0, 0, torch.device("cpu"))
    decision = tutor.decide(seen)
    assert decision.mode.tolist() == [1, 1, 1] and tutor.horizon == 1
    torch.testing.assert_close(decision.actions[:, 0], pupil.decide(seen).actions[:, 0])
    advice = lessons.all()
    assert seen.setting.goal is not None and advice.goal is not None and len(advice) == 9
    torch.testing.assert_close(advice.features[::3], seen.state["place"])
    torch.testing.assert_close(advice.goal[::3], seen.setting.goal["place"])
    torch.testing.assert_close(advice.action, best(SPEC, advice.features, advice.goal))


def test_a_share_of_the_decisions_is_the_teachers_row_by_row() -> None:
    torch.manual_seed(0)
    habit = Habit(SMALL, 2, SPEC)

    def modes(b: int, first: int) -> list[float]:
        tutor = Tutor(Knows(), Lessons(), Reflex(habit, SPEC), TutorConfig(share=0.5))
        tutor.begin(b, 3, first, torch.device("cpu"))
        return tutor.decide(situation(b)).mode.tolist()

    everyone = modes(12, 0)
    assert {1.0, 2.0} == set(everyone) and modes(4, 8) == everyone[8:]


def test_the_teacher_is_asked_every_so_often_and_goes_on_with_its_own_plan() -> None:
    class Told(Knows):
        told: list[tuple[int, Tensor]]

        def done(self, steps: int, decided: Tensor) -> None:
            self.told.append((steps, decided))

    teacher, seen = Told(), situation(2)
    teacher.told = []
    tutor = Tutor(teacher, Lessons(), Reflex(Habit(SMALL, 2, SPEC), SPEC), TutorConfig(every=2))
    tutor.begin(2, 0, 0, torch.device("cpu"))
    for _ in range(4):
        tutor.done(1, tutor.decide(seen).actions)
    assert teacher.asked == 2 and [steps for steps, _ in teacher.told] == [1, 2, 1, 2]
    assert seen.setting.goal is not None
    right = best(SPEC, seen.state["place"], seen.setting.goal["place"])
    assert all(torch.equal(decided[:, 0], right) for _, decided in teacher.told)


def test_what_could_not_be_answered_teaches_nothing() -> None:
    lessons = Lessons()
    tutor = Tutor(Knows(late=True), lessons)
    tutor.begin(2, 0, 0, torch.device("cpu"))
    assert bool(tutor.decide(situation(2)).degraded.all()) and len(lessons) == 0


class Fades(Knows):
    """Finds the way at first only."""

    def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
        found = super().decide(situation, rows, start)
        return found if self.asked == 1 else Decision(0 * found.actions, ~found.degraded, found.mode)


def test_searches_that_found_nothing_are_not_among_those_whose_mean_is_taught() -> None:
    lessons, asked = Lessons(), situation(8)
    tutor = Tutor(Fades(), lessons, None, TutorConfig(searches=3))
    tutor.begin(8, 0, 0, torch.device("cpu"))
    tutor.decide(asked)
    assert asked.setting.goal is not None
    torch.testing.assert_close(lessons.all().action, best(SPEC, asked.state["place"], asked.setting.goal["place"]))
