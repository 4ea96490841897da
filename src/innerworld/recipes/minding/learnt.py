"""What was learnt on the job, in numbers and in words: success by block of episodes, and what is known by now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from innerworld.agent import OnTheJob
from innerworld.recipes.minding.episode import Diary
from innerworld.recipes.minding.page import numbers
from innerworld.report import Chart, Curve, Facts, Section, Table

Row = dict[str, Any]
"""Of one episode: the numbers of its diary, and how far the learning was."""

BLOCKS = 5  # of episodes, at most
COLUMNS = ("episodes", "reached", "return", "steps", "surprise", "updates", "taken back", "frozen")
KNOWN = ("experience", "measure", "before", "after")


def row_of(diary: Diary, learner: OnTheJob) -> Row:
    """What came of an episode, as plain values that JSON knows."""
    found = numbers(diary)
    kept = {name: found[name] for name in ("reached", "return", "steps", "degraded")}
    surprise = found["surprise"] if math.isfinite(found["surprise"]) else None
    return kept | {
        "surprise": surprise,
        "updates": learner.updates,
        "taken_back": len(learner.why),
        "frozen": learner.frozen,
    }


def blocks(rows: Sequence[Row]) -> list[list[str]]:
    """Cells of `COLUMNS`, a line for each block of episodes; updates are those during the block."""
    size = max(1, math.ceil(len(rows) / BLOCKS))
    found, updates, back = [], 0, 0
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        judged = [row["reached"] for row in some if row["reached"] is not None]
        surprises = [row["surprise"] for row in some if row["surprise"] is not None]
        frozen = sum(row["frozen"] for row in some)
        found.append(
            [
                str(first) if len(some) == 1 else f"{first} to {first + len(some) - 1}",
                f"{sum(judged)} of {len(judged)}" if judged else "-",
                f"{_mean([row['return'] for row in some]):.4g}",
                f"{_mean([row['steps'] for row in some]):.1f}",
                f"{_mean(surprises):.3g}" if surprises else "-",
                str(some[-1]["updates"] - updates),
                str(some[-1]["taken_back"] - back),
                "no" if not frozen else "yes" if frozen == len(some) else f"{frozen} of {len(some)}",
            ]
        )
        updates, back = some[-1]["updates"], some[-1]["taken_back"]
    return found


def knowledge(told: Mapping[str, Any]) -> list[list[str]]:
    """Cells of `KNOWN`: what the run knew of some experience as it was given, and what it knows now."""
    return [
        [name, measure, f"{before:.4g}", f"{after:.4g}"]
        for name, measures in told["knows"].items()
        for measure, (before, after) in measures.items()
    ]


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What else there is to say."""
    updates = f"{told['updates']} updates, {told['taken_back']} taken back, {told['optimiser_steps']} optimiser steps"
    found = [f"Learnt on the job: {updates}; {told['sights']} sights are kept; the critic: {told['critic']}."]
    if told["frozen"]:
        found.append(f"Frozen after episode {told['frozen_after']}: from there on no weight changed.")
    if not told["updates"]:
        found.append("No weight changed.")
    found += [f"{why}." for why in told["why"][-3:]]
    return [*found, f"The changed run is {told['run']}; the given one is as it was."]


def section(told: Mapping[str, Any]) -> Section:
    """For the page."""
    rows: Sequence[Row] = told["rows"]
    known = [k for k, row in enumerate(rows) if row["surprise"] is not None]
    curve = Curve("mean surprise", known, [rows[k]["surprise"] for k in known])
    note = "Energy between what was predicted and what was seen, before anything was learnt from it."
    lead = (
        "A loss is the mean over clips; foresight error is how far what is foreseen of a step lies from what is seen "
        "then, as a share of standing still. What was lived meanwhile was also learnt from."
    )
    blocks_shown = [
        Table("By block of episodes", COLUMNS, blocks(rows)),
        Table("What it knows", KNOWN, knowledge(told)),
        *([Chart("Surprise", "episode", "energy", [curve], note=note)] if known else []),
        Facts([("in words", " ".join(sentences(told)))]),
    ]
    return Section("What it learnt on the job", lead, blocks_shown)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
