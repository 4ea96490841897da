"""Table C of `bench/mind.py`: each module against a trivial one, where it is meant to help and where it is not."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mind_cells import PART, Cells, Found, by_playing, rate, table
from mind_goals import read_habit
from mind_lab import AGAIN, SEARCH, Lab
from mind_senses import Flaky, Forgetful, Zeros

from innerworld.agent import Agent, Cost, Director, Members, Searcher, Senses
from innerworld.agent.actor.habit import Reflex, TwoModes
from innerworld.agent.configurator.monitors import Milestone, Stuck, StuckConfig
from innerworld.agent.cost.readout import MembersReadout
from innerworld.agent.cost.terms import Effort, GoalEnergy
from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.recipes.goals import goal_worlds
from innerworld.recipes.habits_of_mind import NOTE
from innerworld.recipes.stages import load_learner

LONE = 10  # goals of one world alone
SHORT = 8  # steps of a plan that cannot see round the wall
PLAIN, DISC, SHORT_PLANS = "nothing is wrong", "a forbidden disc on the way", f"plans of {SHORT} steps"


@dataclass(frozen=True)
class Case:
    """One row: who, in which condition."""

    module: str
    condition: str
    who: str
    make: Callable[[int], Agent]  # told the number of the first goal
    aim: str = "steps"  # what it is meant to improve: a key of AIMS
    disc: bool = False  # goals behind a forbidden disc
    alone: bool = False  # one world at a time, fewer goals


AIMS: dict[str, Callable[[Found], str]] = {
    "steps": lambda found: "goals, steps",
    "entered": lambda found: f"{rate(found['entered'])} enter the disc",
    "effort": lambda found: f"effort {np.mean(found['effort']):.2f} a goal",
    "ms": lambda found: f"{np.median(found['ms']):.1f} CPU ms an action (mean {np.mean(found['ms']):.1f})",
    "instead": lambda found: f"{np.sum(found['instead']) / np.sum(found['steps']):.0%} of actions have no new plan",
}


def modules(cells: Cells, run: Path, flags: Namespace) -> None:
    """Measure every row, and print the table."""
    lab, rows = Lab(cells, run, flags), []
    cases = [case for name in flags.modules for case in CASES[name](lab)]
    for case in cases:
        found, named = measured(cells, lab, case), (case.module, case.condition, case.who)
        if not found.get("success"):
            rows.append((*named, "not measured", "-", "-", "-"))
            continue
        steps, cpu_s = f"{np.mean(found['steps']):.1f}", f"{np.mean(found['cpu_s']):.2f}"
        rows.append((*named, rate(found["success"]), steps, cpu_s, AIMS[case.aim](found)))
    columns = ("module", "condition", "with", "goals reached", "steps", "CPU s a goal", "what it is meant to improve")
    table(columns, rows)


def measured(cells: Cells, lab: Lab, case: Case) -> Found:
    tries = lab.flags.tries
    n, part = (min(LONE, tries), 1) if case.alone else (tries, PART)
    words = f"{case.module} {case.condition} {case.who}"
    name = "".join(letter if letter.isalnum() else "-" for letter in words)
    also = (lambda path: {"entered": lab.entered(path)}) if case.disc else (lambda path: {})

    def playing(start: int, stop: int) -> Found:
        tasks, worlds = lab.behind() if case.disc else lab.tasks, lambda b: goal_worlds(lab.store, b)
        return by_playing(worlds, tasks, case.make, lab.control.budget, lab.seed, also)(start, stop)

    settings = {"seed": lab.seed, "search": SEARCH.model_dump(mode="json"), "again": AGAIN}
    return cells.get(f"modules/{lab.name}/{name}", settings, n, playing, part)


# ---------------------------------------------------------------------- the modules, one after another


def perception(lab: Lab) -> Iterator[Case]:
    conditions = {PLAIN: (0.0, 1), "30 % of the looks are missing": (0.3, 1), "sees every tenth time": (0.0, 10)}
    eyes = {"Senses": Senses, "the last picture again": Forgetful, "a black picture": Zeros}
    for condition, (share, every) in conditions.items():
        for who, eye in eyes.items():
            if condition == PLAIN and eye is Zeros:
                continue  # what is never missing is never black

            def make(start: int, eye=eye, share: float = share, every: int = every) -> Agent:
                return lab.mind(perception=Flaky(eye(lab.model), share, every, seed=1000 * lab.seed + start))

            yield Case("perception", condition, who, make)


def critic(lab: Lab) -> Iterator[Case]:
    long = SEARCH.horizon
    for horizon, condition in ((SHORT, SHORT_PLANS), (long, PLAIN)):

        def make(start: int, horizon: int = horizon, taught: int | None = None) -> Agent:
            cost = None if taught is None else Cost((GoalEnergy(),), critic=lab.critic(taught))
            return lab.mind(horizon=horizon, cost=cost)

        own = lambda start, make=make, horizon=horizon: make(start, taught=horizon)
        yield Case("memory, critic", condition, "none", make)
        yield Case("memory, critic", condition, "a critic taught by its own episodes", own)
        if horizon < long:
            theirs = lambda start, make=make: make(start, taught=long)
            yield Case("memory, critic", condition, f"a critic taught by plans of {long}", theirs)


def foresight(lab: Lab) -> Iterator[Case]:
    """Several models against one, with a bound that is to be kept, and without."""
    runs = [lab.run, *lab.flags.others]
    if len(runs) < 2:
        return
    models = [lab.model, *(load_learner(run)[0].eval() for run in runs[1:])]
    several, every = Ensemble(models), f"{len(models)} models, the worst future counts"

    def guarded(start: int) -> Agent:
        reading = MembersReadout(tuple(models), tuple(lab.reading(run)[0] for run in runs))
        return lab.mind(several, foresight=Members(several), cost=lab.guarded(reading, worst=True))

    def plain(start: int) -> Agent:
        return lab.mind(several, foresight=Members(several), cost=Cost((GoalEnergy(),), over="worst"))

    yield Case("world model", DISC, "one future", lambda start: railed(lab, False), "entered", disc=True)
    yield Case("world model", DISC, every, guarded, "entered", disc=True)
    yield Case("world model", PLAIN, "one future", lambda start: lab.mind())
    yield Case("world model", PLAIN, every, plain)


def cost(lab: Lab) -> Iterator[Case]:
    yield Case("cost", DISC, "no guardrail", lambda start: lab.mind(), "entered", disc=True)
    yield Case("cost", DISC, "a guardrail", lambda start: railed(lab, False), "entered", disc=True)
    yield Case("cost", DISC, "a guardrail with a margin", lambda start: railed(lab, True), "entered", disc=True)
    yield Case("cost", "effort counts", "goal only", lambda start: lab.mind(), "effort")
    for weight in (0.02, 0.1):
        terms = GoalEnergy(), Effort(weight=weight)
        make = lambda start, terms=terms: lab.mind(cost=Cost(terms))
        yield Case("cost", "effort counts", f"and effort, weight {weight:g}", make, "effort")


def railed(lab: Lab, margin: bool) -> Agent:
    """With a guardrail on the discs."""
    reading, reach = lab.reading(lab.run)
    return lab.mind(cost=lab.guarded(reading, reach if margin else 0.0))


def actor(lab: Lab) -> Iterator[Case]:
    spec, seconds = lab.model.spec, lab.flags.deadline_ms / 1000
    late = f"{lab.flags.deadline_ms:g} ms for each action"
    yield Case("actor", PLAIN, "Mode-2, searches", lambda start: lab.mind(), "ms", alone=True)
    yield Case("actor", late, "Mode-2, searches", lambda start: lab.mind(deadline_s=seconds), "instead", alone=True)
    folder = None if lab.flags.habit is None else lab.flags.habit / lab.run.parent.name / "habit"
    if folder is None or not (folder / NOTE).exists():
        return
    habit, modes = read_habit(folder, spec)

    def both(start: int, deadline_s: float | None = None) -> Agent:
        searcher = Searcher(SEARCH, spec, SEARCH.model_copy(update={"rounds": AGAIN}))
        return lab.mind(deadline_s=deadline_s, execute=1, actor=TwoModes(Reflex(habit, spec), searcher, modes))

    reflex = lambda start: lab.mind(execute=1, actor=Reflex(habit, spec))
    yield Case("actor", PLAIN, "Mode-1, reacts", reflex, "ms", alone=True)
    yield Case("actor", PLAIN, "two modes", both, "ms", alone=True)
    yield Case("actor", late, "two modes", lambda start: both(start, seconds), "instead", alone=True)


def configurator(lab: Lab) -> Iterator[Case]:
    long, farther = SEARCH.horizon, StuckConfig(answers=("longer",), factor=SEARCH.horizon / SHORT, over=3, hold=8)
    watchers = {
        "no monitor": lambda: (),
        "Stuck": lambda: (Stuck(),),
        "Stuck, Milestone": lambda: (Stuck(), Milestone()),
        f"Stuck, which looks {long} steps ahead then": lambda: (Stuck(farther),),
    }
    conditions = {PLAIN: (long, 0.05), "the plain energy (power=1)": (long, 1.0), SHORT_PLANS: (SHORT, 0.05)}
    for condition, (horizon, power) in conditions.items():
        for who, watch in list(watchers.items())[: None if horizon < long else -1]:

            def make(start: int, horizon: int = horizon, power: float = power, watch=watch) -> Agent:
                return lab.mind(horizon=horizon, power=power, configurator=Director(monitors=watch()))

            yield Case("configurator", condition, who, make)


CASES: dict[str, Callable[[Lab], Iterator[Case]]] = {
    "perception": perception,
    "critic": critic,
    "foresight": foresight,
    "cost": cost,
    "actor": actor,
    "configurator": configurator,
}
