"""The page of a comparison, and its Markdown: who does best at what, every question with its charts, all commands."""

from __future__ import annotations

import math
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from innerworld.disk import write_atomic
from innerworld.evaluate.exam import Along
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.compare.budget import read_budget
from innerworld.recipes.compare.cell import read_films
from innerworld.recipes.compare.plan import World
from innerworld.recipes.compare.results import Results, write_rows
from innerworld.recipes.compare.tables import (
    arrow,
    by_world,
    commands,
    duels,
    gaps,
    known_as,
    markdown,
    overview,
    spent,
)
from innerworld.report import Chart, Curve, Dot, Dots, Facts, Movie, Page, Section, Table, write
from innerworld.report.content import Block
from innerworld.version import VERSION

Points = tuple[tuple[float, float], ...]

WIDE = 100.0  # from its lowest to its highest value, a chart is logarithmic from here on
MOVIES = 4  # of a question
EQUAL = (
    "Everybody had the same experience and the same budget, and was asked the same held-out episodes. That is all: "
    "settings are each family's own and were not tuned here, so that who loses may lose to its settings."
)
DRAWN = (
    "In what follows a large dot is the interquartile mean over seeds, its bar a 95 % interval (with few seeds too "
    "narrow, as told below the table), and small dots are single seeds. Curves are means over seeds, and their bands "
    "reach from the lowest seed to the highest."
)


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write the rows, `results.md` and `compare.html`; which files that were."""
    files = write_rows(results.rows(), folder)
    title = _title(results)
    asked = [(name, _asks(name), _tables(results, name)) for name in results.plan.questions]
    words = [
        ("Summary", EQUAL, [overview(results), spent(results)]),
        *asked,
        ("What was not answered", "", [gaps(results)]),
        ("Commands", "", [commands(results)]),
    ]
    write_atomic(folder / "results.md", [markdown(title, _lead(results), words).encode()])
    shown = write(page(results, folder), folder / "compare.html")
    return [*files, folder / "results.md", shown]


def page(results: Results, home: Path) -> Page:
    """Everything that there is to show."""
    best = overview(results)
    sections = [
        Section("Who does best at what", f"{EQUAL}\n\n{DRAWN}", [best, Facts(known_as(results))]),
        *(_section(results, name, home) for name in results.plan.questions),
        Section("What it cost", _budget(results), [spent(results)]),
    ]
    if (missing := gaps(results)).rows:
        sections.append(Section("What was not answered", "", [missing]))
    sections.append(Section("How to repeat it", "", [commands(results)]))
    return Page(_title(results), _lead(results), results.plan.command, sections, _footer())


def _section(results: Results, question: str, home: Path) -> Section:
    """One question: a chart for each world, what it runs along, the tables, and films."""
    text = _asks(question)
    ranked = [world for world in results.plan.worlds if _is_told(results, question, world)]
    drawn: list[Block] = [_dots(results, question, world) for world in ranked]
    drawn += [chart for world in results.plan.worlds for chart in _charts(results, question, world)]
    if not drawn:
        return Section(_heading(question), f"{text}\n\nNobody has an answer; why, is told below.")
    return Section(_heading(question), text, [*drawn, *_tables(results, question), *_movies(results, question, home)])


def _is_told(results: Results, question: str, world: World) -> bool:
    return any(results.headline(entry.name, question, [world.name]).runs for entry in results.plan.entries)


def _dots(results: Results, question: str, world: World) -> Dots:
    """Everybody's headline on one world, and those of others that are the same for all."""
    asked, plan = QUESTIONS[question], results.plan
    dots = [_dot(results, entry.name, question, asked.headline, world, entry.name) for entry in plan.entries]
    for metric, name in asked.bounds.items():
        have = [entry.name for entry in plan.entries if results.values(entry.name, question, metric)[world.name]]
        dots += [_dot(results, have[0], question, metric, world, name)] if have else []
    return Dots(world.name, f"{asked.headline}{arrow(question)}", dots, asked.floor, "who knows nothing")


def _dot(results: Results, entry: str, question: str, metric: str, world: World, name: str) -> Dot:
    found = results.metric(entry, question, metric, [world.name])
    low, high = (None, None) if math.isnan(found.low) else (found.low, found.high)
    return Dot(name, found.value, low, high, results.values(entry, question, metric)[world.name])


def _charts(results: Results, question: str, world: World) -> list[Chart]:
    """What runs along something: the mean over seeds, and the range of them."""
    runs: dict[str, dict[str, list[Points]]] = {}
    first: dict[str, Along] = {}
    for entry in results.plan.entries:
        for seed in results.plan.numbers():
            answer = results.answers.get((entry.name, world.name, seed, question))
            for title, along in answer.curves.items() if answer is not None else ():
                runs.setdefault(title, {}).setdefault(entry.name, []).append(along.points)
                first.setdefault(title, along)
    return [
        Chart(
            f"{title}: {world.name}",
            first[title].x,
            first[title].y,
            [*(_curve(name, points) for name, points in by_entry.items()), *_others(first[title])],
            line=first[title].level,
            line_name=first[title].level_name,
            log_y=_is_wide(by_entry),
        )
        for title, by_entry in runs.items()
    ]


def _curve(name: str, runs: list[Points]) -> Curve:
    places = [x for x, _ in runs[0]]
    told = [dict(points) for points in runs]
    values = [[run[x] for run in told if math.isfinite(run.get(x, math.nan))] for x in places]
    mean = [sum(some) / len(some) if some else math.nan for some in values]
    if len(runs) == 1:
        return Curve(name, places, mean)
    low, high = ([edge(some) if some else math.nan for some in values] for edge in (min, max))
    return Curve(name, places, mean, low, high)


def _others(along: Along) -> list[Curve]:
    """Of the first seed: they differ little."""
    return [Curve(name, [x for x, _ in points], [y for _, y in points]) for name, points in along.others.items()]


def _is_wide(runs: dict[str, list[Points]]) -> bool:
    """Does it reach over more than two powers of ten?"""
    values = [y for some in runs.values() for points in some for _, y in points if math.isfinite(y)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > WIDE


def _movies(results: Results, question: str, home: Path) -> list[Movie]:
    """The films of the first seed, each once: some are the same for everybody."""
    shown: dict[bytes, Movie] = {}
    for cell in results.plan.cells():
        if cell.seed == results.plan.seed:
            for caption, panels in read_films(home, cell, question).items():
                key = b"".join(panel.tobytes() for _, panel in panels)
                shown.setdefault(key, Movie(f"{caption}: {cell.world.name}", panels))
    return list(shown.values())[:MOVIES]


def _tables(results: Results, question: str) -> list[Table]:
    """Those that there are."""
    duel = duels(results, question)
    return [by_world(results, question), *([duel] if duel is not None else [])]


def _title(results: Results) -> str:
    plan = results.plan
    return f"{len(plan.entries)} world models on {', '.join(world.name for world in plan.worlds)}"


def _lead(results: Results) -> str:
    plan = results.plan
    names = ", ".join(entry.name for entry in plan.entries)
    seeds = f"{plan.seeds} seed{'s' if plan.seeds > 1 else ''}"
    return f"{names}: {read_budget(plan.budget)} each, {seeds}, {len(plan.questions)} questions."


def _budget(results: Results) -> str:
    return (
        f"The budget was {read_budget(results.plan.budget)} for each run. Updates are what it pays for, decided before "
        "the first run and kept in `plan.json`. An update of one family may be dearer, or see more, than another's, "
        "and where parts are taught one after another, later updates may be dearer than the first, whose price counts. "
        "The seconds are what training really took, with its checks and checkpoints."
    )


def _heading(question: str) -> str:
    return QUESTIONS[question].asks


def _asks(question: str) -> str:
    asked = QUESTIONS[question]
    floor = "" if asked.floor is None else f" Who knows nothing gets {asked.floor:g}."
    better = "more is better" if asked.higher else "less is better"
    return f"`{question}`: `{asked.headline}` is the {asked.unit}; {better}.{floor}"


def _footer() -> Facts:
    return Facts(
        [
            ("innerworld", VERSION),
            ("torch", torch.__version__),
            ("machine", f"{platform.machine()}, {platform.system()}"),
            ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ]
    )
