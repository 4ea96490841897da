"""`innerworld demo`, `evaluate` and `plan`: whole runs, and the judging of one model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from innerworld.cli.table import FIELD, field_rows, number_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.cli.world import evaluate_in_world
from innerworld.cluster import connect
from innerworld.config import Config, override
from innerworld.errors import UserError, choose
from innerworld.plan import PLANNERS
from innerworld.recipes.demo import demo
from innerworld.recipes.practice import is_practice
from innerworld.recipes.published import PUBLISHED
from innerworld.recipes.single import evaluate_run, plan_run
from innerworld.recipes.two_rooms import Control, two_rooms
from innerworld.training import Interrupted


@dataclass(frozen=True)
class DemoFlags:
    """Collect, teach two schools of world models, judge them, and show it all in a report. Called again, it goes on
    where it was interrupted. key=value changes its settings, which are listed below."""

    out: Path = Path("runs/demo")
    """folder of the run and its report"""
    seed: int = 0
    """of the collection, the split, the training and the search"""


@dataclass(frozen=True)
class EvaluateFlags:
    """Judge a taught model on held-out episodes, and what it draws of them; let it reach goals where its world has any;
    of eyes judge what they keep of what they see; of a policy what it earns in its world, beside a random one.
    key=value changes the search, whose settings are listed below; model.key=value how the model draws, as in play."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train` makes it; the report goes there, too"""
    data: Path | None = None
    """folder of another store to judge it on; None: the one it was taught from"""
    planner: str = "icem"
    """a name of `innerworld planners`, or a paper's: lewm, dino_wm, vjepa2_ac, pldm, eb_jepa, ..."""
    episodes: int = 100
    """goals to be reached, or episodes that a policy lives through"""
    seed: int = 0
    """of the goals and the search"""
    workers: int | None = None
    """processes that share the goals; the results are the same for any number. None: this process alone"""
    cluster: str = "local"
    """where they run: local, ray, or the address of a Ray cluster (extra: cluster)"""
    no_latents: bool = False
    """do not show in the report what the latents keep: nearest neighbours, decoded pictures"""
    no_drawings: bool = False
    """do not judge what the model draws: PSNR, whether it follows actions, drift, frames per second"""


@dataclass(frozen=True)
class PlanFlags:
    """Watch a taught model plan: a few held-out goals, what it imagined and where it went, drawn over the world.
    key=value changes the search, whose settings are listed below."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train` makes it; plan.html goes there, too"""
    data: Path | None = None
    """folder of another store to draw starts and goals from; None: the one it was taught from"""
    planner: str = "icem"
    """a name of `innerworld planners`, or a paper's: lewm, dino_wm, vjepa2_ac, pldm, eb_jepa, ..."""
    episodes: int = 4
    """goals to be reached"""
    seed: int = 0
    """of the goals and the search"""


def _demo(flags: DemoFlags, call: Call) -> Answer:
    _check_seed(flags.seed)
    run = override(two_rooms(flags.seed), call.overrides)
    try:
        return _answer(demo(run, flags.out, call.quiet, call.command))
    except Interrupted as stop:
        stop.args = (f"{str(stop).partition(':')[0]}: the same command goes on from there",)  # not with --resume
        raise


def _evaluate(flags: EvaluateFlags, call: Call) -> Answer:
    _check_seed(flags.seed)
    if is_practice(flags.run):
        return evaluate_in_world(flags.run, flags.episodes, flags.seed, call, not flags.no_drawings)
    changes, words = call.apart()
    control = override(control_of(flags.planner), [f"episodes={flags.episodes}", *words])
    shared = flags.workers is not None or flags.cluster != "local"
    with connect(flags.cluster, flags.workers) if shared else nullcontext() as place:
        told = call.quiet, call.command
        looks = not flags.no_latents, not flags.no_drawings
        return _answer(evaluate_run(flags.run, flags.data, control, flags.seed, *told, place, *looks, changes))


def _plan(flags: PlanFlags, call: Call) -> Answer:
    _check_seed(flags.seed)
    control = override(control_of(flags.planner), [f"episodes={flags.episodes}", *call.overrides])
    values = plan_run(flags.run, flags.data, control, flags.seed, call.quiet, call.command)
    rows = [
        [_place(row["start"]), _place(row["goal"]), "yes" if row["reached"] else "no", str(row["steps"])]
        for row in values["episodes"]
    ]

    def show(console: Console) -> None:
        show_table(console, ("start", "goal", "reached", "steps"), rows)
        say(console, f"\n{values['plan_ms']:.1f} ms per plan\nreport: {values['report']}")

    return Answer(values, show)


def _place(state: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in state)


def control_of(search: str = "icem") -> Control:
    """The settings of the demo; another planner begins with its own, for the same horizon; a paper with all of its."""
    control = two_rooms().control
    if search == control.search:
        return control
    found = choose("planner", search, {**PLANNERS, **PUBLISHED})
    if isinstance(found, Control):
        return found
    own = found(horizon=control.planner["horizon"]).model_dump()
    return control.model_copy(update={"search": search, "planner": own})


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError("--seed is at least 0")


def _answer(values: dict[str, Any]) -> Answer:
    """One column for each that was judged, one row for each number."""
    results: dict[str, dict[str, float]] = values["results"]
    rows = number_rows(results)

    def show(console: Console) -> None:
        show_table(console, ("", *results), rows)
        if values["untried"]:
            say(console, f"\ngoals were not tried: {values['untried']}")
        say(console, f"\nreport: {values['report']}")

    return Answer(values, show)


def _demo_settings(console: Console, words: Sequence[str]) -> None:
    _settings(console, two_rooms())


def _control_settings(console: Console, words: Sequence[str]) -> None:
    _settings(console, control_of())


def _settings(console: Console, config: Config) -> None:
    say(console, "\nKeys, as key=value:\n")
    show_table(console, FIELD, field_rows(config))


DEMO = Verb(DemoFlags, _demo, takes_overrides=True, after_help=_demo_settings)
PLAN = Verb(PlanFlags, _plan, takes_overrides=True, after_help=_control_settings)
EVALUATE = Verb(EvaluateFlags, _evaluate, takes_overrides=True, after_help=_control_settings)
