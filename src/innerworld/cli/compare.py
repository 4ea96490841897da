"""`innerworld compare ENTRY...`: families side by side on the same worlds, budget and questions; a table and a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.cluster import connect
from innerworld.errors import UserError
from innerworld.evaluate.questions import QUESTIONS
from innerworld.families import FAMILIES
from innerworld.log import progress
from innerworld.recipes.compare.contest import compete
from innerworld.recipes.compare.entry import read_entries
from innerworld.recipes.compare.page import write_all
from innerworld.recipes.compare.plan import Plan, begun, read_worlds, settle
from innerworld.recipes.compare.results import Results, ranks, read_results
from innerworld.recipes.compare.tables import gaps, overview
from innerworld.recipes.compare.terms import DECIDED, Terms, read_terms
from innerworld.recipes.goals import planner


@dataclass(frozen=True)
class CompareFlags:
    """Teach several families, or variants of one, on the same worlds with the same budget and seeds, ask all of them
    the same questions, and write one table and one page. An entry is a family with a preset and settings, in one
    word: jepa, rssm:1m, "no-sigreg=jepa:small sigreg=0 std=16". key=value changes the terms, which are the same for
    all; an entry may have its own batch, length, frame_skip and train.…. Called again with the same words, or with
    --resume, it does only what is missing, and more entries, worlds, questions and seeds may be added."""

    entries: tyro.conf.Positional[tuple[str, ...]] = ()
    """who: [NAME=]FAMILY[:PRESET] [key=value ...]"""
    out: Path = Path("compare")
    """folder of the plan, the runs, the answers and the page"""
    worlds: tuple[str, ...] = ("two_rooms",)
    """on what: names of `innerworld envs`, each collected once for a seed, or folders of stores"""
    questions: tuple[str, ...] = ("prediction", "probing", "controllability", "control")
    """what is asked, see below; all: every question"""
    seeds: int = 3
    """runs of each entry on each world"""
    seed: int = 0
    """the first of the seeds, of collecting, splitting, teaching and asking"""
    budget: str = "300updates"
    """of each run: 300updates, 120s (CPU seconds), 1e12flops"""
    sensors: tuple[str, ...] = ()
    """what models see; by default all images, or all vectors where there are none"""
    workers: int = 1
    """runs at a time, each with one thread"""
    cluster: str = "local"
    """where they run: local, ray, or the address of a Ray cluster (extra: cluster)"""
    gpus: float = 0.0
    """GPUs of each run, on Ray; 0.5 lets two runs share one"""
    resume: bool = False
    """go on with the plan that --out holds; nothing else needs to be said"""


ALL = "all"
FIRST = [[name] for name in FAMILIES]  # how an entry begins
PLANNED = ("entries", "worlds", "questions", "seeds", "seed", "budget", "sensors")
"""Flags that a plan remembers."""


def _compare(flags: CompareFlags, call: Call) -> Answer:
    plan = _again(flags, call) if flags.resume else _settled(flags, call)
    with (
        connect(flags.cluster, flags.workers, gpus=flags.gpus) as place,
        progress("compare", len(plan.cells()), call.quiet) as show,
    ):
        compete(plan, flags.out, place, call.command, show)
    results = read_results(plan, flags.out)
    files = write_all(results, flags.out)
    return _answer(results, files, flags.out)


def _settled(flags: CompareFlags, call: Call) -> Plan:
    """The plan of these words, with all that was still open decided. Raises `UserError`."""
    wanted = described(flags, call.overrides)
    return settle(wanted.model_copy(update={"command": shlex.join(["innerworld", *call.words])}), flags.out)


def _again(flags: CompareFlags, call: Call) -> Plan:
    """The plan that the folder holds. Raises `UserError`."""
    said = sorted(call.given & {*PLANNED}) + (["entries"] if flags.entries else []) + call.overrides
    if said:
        raise UserError(f"--resume goes on with the plan of --out as it is: leave out {said[0]}, or leave out --resume")
    plan = begun(flags.out)
    if plan is None:
        raise UserError(f"{flags.out} holds no plan to go on with: leave out --resume to begin one")
    return plan


def described(flags: CompareFlags, overrides: Sequence[str]) -> Plan:
    """The plan that the words describe; what must be looked up or measured is still open. Raises `UserError`.

    An entry with a name looks like a setting: name=jepa.
    """
    named = [word for word in overrides if word.partition("=")[2].replace(":", " ").split()[:1] in FIRST]
    settings = [word for word in overrides if word not in named]
    texts = [*flags.entries, *named]
    if not texts:
        raise UserError("who is compared? Give families, as jepa rssm; innerworld models lists them")
    if flags.seeds < 1 or flags.seed < 0:
        raise UserError("--seeds is at least 1, --seed at least 0")
    terms = read_terms(settings, flags.sensors)
    questions = tuple(QUESTIONS) if flags.questions == (ALL,) else tuple(dict.fromkeys(flags.questions))
    return Plan(
        entries=read_entries(texts, terms.teaching),
        worlds=read_worlds(flags.worlds),
        questions=questions,
        seed=flags.seed,
        seeds=flags.seeds,
        budget=flags.budget,
        terms=terms,
    )


def _answer(results: Results, files: Sequence[Path], out: Path) -> Answer:
    plan, missing, table = results.plan, gaps(results), overview(results)
    failed = sum(status == "failed" for *_, status, _ in missing.rows)
    values: dict[str, Any] = {
        "out": str(out),
        "files": [str(file) for file in files],
        "updates": plan.updates,
        "ranks": ranks(results),
        "headlines": {
            entry.name: {name: vars(results.headline(entry.name, name)) for name in plan.questions}
            for entry in plan.entries
        },
        "unanswered": [dict(zip(missing.columns, row, strict=True)) for row in missing.rows],
    }

    def show(console: Console) -> None:
        show_table(console, table.columns, table.rows)
        for entry, world, seeds, question, status, reason in missing.rows:
            say(console, f"{status}: {entry} on {world}, seed {seeds}, {question}: {reason}")
        say(console, f"\npage: {files[-1]}")

    return Answer(values, show, code=2 if failed else 0)


def _settings(console: Console, words: Sequence[str]) -> None:
    """The questions, and what key=value may change."""
    say(console, "\nQuestions:\n")
    rows = [(each.name, each.asks, f"{each.headline}: {each.unit}") for each in QUESTIONS.values()]
    show_table(console, ("question", "asks", "ranked by"), rows)
    say(console, "\nTerms, as key=value; those of teaching also within an entry, without `teaching.`:\n")
    terms = Terms()
    shown = [row for row in field_rows(terms) if row[0] not in (*DECIDED, "control.planner")]
    show_table(console, FIELD, shown + field_rows(planner(terms.control), "control.planner."))


COMPARE = Verb(CompareFlags, _compare, takes_overrides=True, after_help=_settings)
