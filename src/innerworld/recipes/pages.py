"""The report of a run: what was taught from what, how it learnt, what it foresees, where it gets."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from innerworld import checkpoint
from innerworld.agent import AgentConfig
from innerworld.config import flat
from innerworld.data import Store
from innerworld.learns import Learns
from innerworld.perception import Encoder
from innerworld.recipes.curves import learning_curves, read_log
from innerworld.recipes.drawings import drawn_sections
from innerworld.recipes.foresight import foresight
from innerworld.recipes.goals import planner
from innerworld.recipes.latents import latent_sections
from innerworld.recipes.lesson import Lesson
from innerworld.recipes.plans import drawn_landscapes, drawn_plans
from innerworld.recipes.stages import Outcome
from innerworld.recipes.two_rooms import Control
from innerworld.report import Facts, Page, Section, Table
from innerworld.version import VERSION
from innerworld.world import WorldModel

PLAYERS = {
    "oracle": "oracle (true dynamics)",
    "uniform": "random actions",
    "smooth": "random, smooth in time",
    "replay": "replay of the demonstrations",
}


@dataclass(frozen=True)
class Judged:
    """What a report is made of: `lessons` and `folders` say how and where each model was taught, all of `store`."""

    outcome: Outcome
    lessons: Mapping[str, Lesson]
    folders: Mapping[str, Path]
    store: Store
    control: Control
    seed: int
    own: Mapping[str, Control] = field(default_factory=dict)  # what differs for some models, as in `examine`


def page(title: str, lead: str, command: str, run: Judged) -> Page:
    """Everything that a run has to show."""
    outcome, lessons, store = run.outcome, run.lessons, run.store
    sections = [
        taught(outcome.models, lessons, store),
        learning_curves({name: read_log(folder) for name, folder in run.folders.items()}),
        *latent_sections(outcome.latents),
        foresight(outcome, lessons, store, run.seed),
        *drawn_sections(outcome.drawings),
    ]
    if outcome.tasks is not None:
        sections.append(_acting(outcome, run.control, run.seed))
        sections.append(drawn_plans(outcome, store, run.control, run.seed, run.own))
    return Page(title, lead, command, [*sections, _method(run)], footer(run.folders))


def plan_page(title: str, command: str, run: Judged) -> Page:
    """One model's way to its goals."""
    lead = "What the model imagined that it would do, and what it did."
    sections = [drawn_plans(run.outcome, run.store, run.control, run.seed), drawn_landscapes(run.outcome)]
    return Page(title, lead, command, [section for section in sections if section is not None], footer(run.folders))


def taught(models: Mapping[str, Learns], lessons: Mapping[str, Lesson], store: Store) -> Section:
    """Who learnt from what."""
    about = store.meta.about
    facts = [
        ("world", about.env or "-"),
        ("who explored", about.policy or "-"),
        ("experience", f"{len(store):,} episodes, {store.transitions:,} steps"),
    ]
    rows = [
        [
            name,
            _known_as(models[name]),
            f"{sum(p.numel() for p in models[name].parameters()):,}",
            f"{lesson.train.steps:,} × {lesson.batch} × {', '.join(lesson.stages) or lesson.length}",
            f"{lesson.train.lr:g}",
            ", ".join(models[name].spec.obs),
        ]
        for name, lesson in lessons.items()
    ]
    length = "frames" if all(isinstance(model, Encoder) for model in models.values()) else "actions"
    columns = ["family", "known as", "parameters", f"steps × clips × {length}", "learning rate", "sees"]
    return Section("What was taught from what", "", [Facts(facts), Table("Who was taught", columns, rows)])


def _known_as(model: Learns) -> str:
    return model.card.name if isinstance(model, WorldModel) else type(model).__name__


def _acting(outcome: Outcome, control: Control, seed: int) -> Section:
    results = outcome.results()
    rows = []
    for name in outcome.played:
        found = results[name]
        rows.append(
            [
                PLAYERS.get(name, name),
                f"{found['episodes']:.0f}",
                f"{found['success_rate']:.0%}",
                f"{found['success_low']:.0%} to {found['success_high']:.0%}",
                _share(found, "success_rate_far"),
                _share(found, "success_rate_near"),
                f"{found['steps_mean']:.1f}",
                f"{found['plan_ms']:.1f}" if found["plan_ms"] else "-",
                f"{found['cpu_s_per_episode']:.2f}",
            ]
        )
    columns = [
        "who",
        "goals",
        "reached",
        "95 % interval",
        "other room",
        "same room",
        "steps",
        "ms per plan",
        "CPU s per episode",
    ]
    note = (
        f"{control.episodes} episodes of at most {control.budget} steps, fixed beforehand (seed {seed}) from held-out "
        "episodes; none begins solved; the goal is given as a picture only (to the oracle: as a state). "
        "Intervals: Wilson."
    )
    best = next(iter(outcome.models), None)
    emphasise = list(outcome.played).index(best) if best else None
    return Section("Where it gets", "", [Table("Goals reached", columns, rows, note, emphasise)])


def _method(run: Judged) -> Section:
    control, outcome = run.control, run.outcome
    search = planner(control)
    lines = [
        ("split", "by episode, before any clip is cut; probes are fitted on episodes that were learnt from"),
        ("seed", str(run.seed)),
        ("search", f"{control.search}: " + ", ".join(f"{k} {v}" for k, v in search.model_dump().items())),
        ("agent", _mind(control.agent)),
    ]
    lines += [
        (f"{name}: acts", f"on the first {its.episodes} goals, {_mind(its.agent)}")
        for name, its in run.own.items()
        if its != control
    ]
    lines += [(f"{name}: model", plain(lesson.model)) for name, lesson in run.lessons.items()]
    lines += [(f"{name}: latents", f"{seen.seconds:.1f} s to look at them") for name, seen in outcome.latents.items()]
    if outcome.untried:
        lines.append(("goals", f"not tried: {outcome.untried}"))
    text = "One seed is one sample: the intervals cover the choice of episodes, not the luck of training."
    return Section("How it was measured", text, [Facts(lines)])


def footer(folders: Mapping[str, Path]) -> Facts:
    """What made it: version, commit, machine, date."""
    header = checkpoint.read_header(next(iter(folders.values())))
    return Facts(
        [
            ("innerworld", VERSION),
            ("commit", header.commit or "-"),
            ("torch", torch.__version__),
            ("machine", f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} threads"),
            ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ]
    )


def _share(found: Mapping[str, float], key: str) -> str:
    return f"{found[key]:.0%}" if key in found else "-"


def _mind(config: AgentConfig) -> str:
    """What an agent was told; what few are told only where this one was."""
    rare = {"limits", "via_steps"}
    return plain(config.model_dump(exclude=rare) | config.model_dump(include=rare, exclude_defaults=True))


def plain(values: Mapping[str, Any]) -> str:
    """Settings in one line, but for those that are off."""
    return ", ".join(f"{key} {value}" for key, value in flat(values).items() if value not in (0, 0.0, None, "", [], ()))
