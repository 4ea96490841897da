"""`innerworld agent run`: put the six modules of a mind around a trained run, and watch it act."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from innerworld.cli.run import EVALUATE, control_of
from innerworld.cli.table import say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.errors import UserError
from innerworld.recipes.minding.modules import Furnishing, Watcher
from innerworld.recipes.minding.page import COLUMNS, cells
from innerworld.recipes.minding.run import Errand, run_agent


@dataclass(frozen=True)
class AgentFlags:
    """Put a whole mind around a trained run and let it act in the run's world: it perceives, remembers, imagines,
    judges, chooses, and explains itself. A table, the explanation of a decision, and a page of films and charts
    (agent.html; all explanations in agent.json). key=value changes the search, whose settings are listed below."""

    action: tyro.conf.Positional[Literal["run"]]
    """run: act for some episodes"""
    model: str
    """folder of a run, as `innerworld train` makes it; or oracle: the world's true dynamics, with --data or --env"""
    goal: str = "random"
    """random (of held-out episodes), reward (what the model was taught to expect), a picture (PICTURE.png), a state as
    numbers (20.5,31), or a sentence that means a picture of --goals"""
    episodes: int = 3
    """how many"""
    steps: int | None = None
    """actions in each, at most; None: 50, the key budget"""
    env: str | None = None
    """another world than the run's, a name of `innerworld envs` or a Gymnasium id"""
    data: Path | None = None
    """folder of another store than the run's, to draw goals from and to remember pictures of"""
    goals: Path | None = None
    """folder of pictures that a sentence may mean by their names, such as upper-left-corner.png"""
    planner: str = "icem"
    """a name of `innerworld planners`, or a paper's"""
    monitors: tuple[Watcher, ...] = ()
    """who watches progress: stuck (searches anew, goes back, asks for help), milestone (shortens plans)"""
    guard: str | None = None
    """a disc that no plan may enter, its centre and radius in the units of the state: 20,32,8. Where the world is, is
    read off the model's beliefs, and a margin covers the errors of that. None: it may go anywhere"""
    habit: Path | None = None
    """folder of a habit that was distilled from this run: it reacts where it is sure, and searches elsewhere"""
    futures: int = 1
    """plausible futures in which each plan is judged, drawn from the model"""
    deadline: float | None = None
    """seconds that a decision may take; None: as long as the search wants"""
    out: Path | None = None
    """folder for agent.html and agent.json; None: the run's (of oracle: runs/agent)"""
    films: Path | None = None
    """folder for the page's films, each as a WebP file of its own; None: only in the page"""
    seed: int = 0
    """of goals, worlds and search"""


def _run(flags: AgentFlags, call: Call) -> Answer:
    for name in ("episodes", "futures", "steps"):
        value = vars(flags)[name]
        if value is not None and value < 1:
            raise UserError(f"--{name} is at least 1")
    if any(word.startswith("episodes=") for word in call.overrides):
        raise UserError("how many episodes is said with --episodes, not with the key")
    if flags.seed < 0:
        raise UserError("--seed is at least 0")
    words = [] if flags.steps is None else [f"budget={flags.steps}"]
    control = override(control_of(flags.planner), [*words, *call.overrides])
    furnishing = Furnishing(flags.monitors, flags.guard, flags.habit, flags.futures, flags.deadline)
    errand = Errand(flags.model, flags.goal, flags.env, flags.data, flags.goals, flags.seed, furnishing)
    values = run_agent(errand, control, flags.episodes, flags.out, flags.films, call.quiet, call.command)
    return Answer(values, lambda console: _show(console, values))


def _show(console: Console, values: dict[str, Any]) -> None:
    episodes: list[dict[str, Any]] = values["episodes"]
    show_table(console, COLUMNS, [cells(k, episode) for k, episode in enumerate(episodes)])
    for note in dict.fromkeys(episode["note"] for episode in episodes if episode["note"]):
        say(console, f"\n{note}")
    for k, episode in enumerate(episodes):
        for trouble in dict.fromkeys(episode["trouble"]):
            say(console, f"\nepisode {k} went wrong at {trouble}")
    more = {name: told for name, told in values["modules"].items() if name not in ("search", "cost")}
    for name, told in more.items():
        say(console, f"\n{name}: {told}")
    say(console, f"\nThe first decision of episode 0, explained:\n\n{episodes[0]['first']}\n\npage: {values['page']}")
    for film in values.get("films", ()):
        say(console, f"film: {film}")


AGENT = Verb(AgentFlags, _run, takes_overrides=True, after_help=EVALUATE.after_help)
