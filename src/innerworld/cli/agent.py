"""`innerworld agent run`: put the six modules of a mind around a trained run, and watch it act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from pydantic import Field
from rich.console import Console

from innerworld.agent import OnTheJobConfig
from innerworld.cli.run import control_of
from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import build, override
from innerworld.errors import UserError
from innerworld.recipes.minding.learning import Learning
from innerworld.recipes.minding.learnt import COLUMNS as BLOCKS
from innerworld.recipes.minding.learnt import KNOWN, blocks, knowledge, sentences
from innerworld.recipes.minding.modules import Furnishing, Watcher
from innerworld.recipes.minding.page import COLUMNS, cells
from innerworld.recipes.minding.run import Errand, run_agent
from innerworld.recipes.two_rooms import Control


class Keys(Control):
    """What key=value changes: the search, and how it learns on the job."""

    learning: OnTheJobConfig = Field(default=OnTheJobConfig(), description="with --learn")


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
    learn: bool = False
    """learn on the job: what it lives fine-tunes the world model, beside old experience so that nothing is forgotten.
    The changed run goes to --out, never over the given one; keys learning.KEY=VALUE say how"""
    critic: bool = False
    """a critic tells what is still to come where a plan ends: that which learnt with the run, or with --learn one that
    learns along"""
    freeze_after: int | None = None
    """with --learn: after so many episodes everything is frozen, 0: from the first; None: it learns to the end"""
    resume: bool = False
    """with --learn: go on with the learning that --out holds, to --episodes in all"""
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
    keys = override(build(Keys, control_of(flags.planner).model_dump()), [*words, *call.overrides])
    control = build(Control, keys.model_dump(exclude={"learning"}))
    furnishing = Furnishing(flags.monitors, flags.guard, flags.habit, flags.futures, flags.deadline)
    learning = _learning(flags, keys, call)
    errand = Errand(
        flags.model, flags.goal, flags.env, flags.data, flags.goals, flags.seed, furnishing, learning, flags.critic
    )
    values = run_agent(errand, control, flags.episodes, flags.out, flags.films, call.quiet, call.command)
    return Answer(values, lambda console: _show(console, values))


def _learning(flags: AgentFlags, keys: Keys, call: Call) -> Learning | None:
    """How it learns on the job; none: it does not."""
    if not flags.learn:
        flagged = (("--freeze-after", flags.freeze_after is not None), ("--resume", flags.resume))
        lone = [name for name, given in flagged if given]
        lone += [word for word in call.overrides if word.startswith("learning.")]
        if lone:
            raise UserError(f"{lone[0]} says how to learn on the job: give --learn, too")
        return None
    if flags.out is None:
        raise UserError("learning changes the run: say with --out in which folder the changed one is kept")
    if flags.freeze_after is not None and flags.freeze_after < 0:
        raise UserError("--freeze-after is at least 0")
    return Learning(keys.learning, flags.freeze_after, flags.resume)


def _show(console: Console, values: dict[str, Any]) -> None:
    episodes: list[dict[str, Any]] = values["episodes"]
    show_table(console, COLUMNS, [cells(k, episode) for k, episode in enumerate(episodes)])
    for note in dict.fromkeys(episode["note"] for episode in episodes if episode["note"]):
        say(console, f"\n{note}")
    for k, episode in enumerate(episodes):
        for trouble in dict.fromkeys(episode["trouble"]):
            say(console, f"\nepisode {k} went wrong at {trouble}")
    more = {name: told for name, told in values["modules"].items() if name not in ("search", "cost", "learning")}
    for name, told in more.items():
        say(console, f"\n{name}: {told}")
    if "learnt" in values:
        learnt = values["learnt"]
        say(console, "\nBy block of episodes:\n")
        show_table(console, BLOCKS, blocks(learnt["rows"]))
        say(console, "\nWhat it knows:\n")
        show_table(console, KNOWN, knowledge(learnt))
        say(console, "\n" + "\n".join(sentences(learnt)))
    say(console, f"\nThe first decision of episode 0, explained:\n\n{episodes[0]['first']}\n\npage: {values['page']}")
    for film in values.get("films", ()):
        say(console, f"film: {film}")


def _keys(console: Console, words: Sequence[str]) -> None:
    say(console, "\nKeys, as key=value:\n")
    show_table(console, FIELD, field_rows(build(Keys, control_of().model_dump())))


AGENT = Verb(AgentFlags, _run, takes_overrides=True, after_help=_keys)
