"""The page of a run that learnt in a world: what it earned over what it lived, and how it learnt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerworld import checkpoint
from innerworld.recipes.curves import LOOP, Log, read_log
from innerworld.recipes.pages import footer, plain
from innerworld.recipes.practice import Practice, read_practice
from innerworld.report import Chart, Curve, Facts, Page, Section, write

LIVED = {"env_steps", "agent_steps", "frames", "updates", "episodes", "return", "length"}
EXAM = {"eval_return", "eval_return_std", "eval_length"}
TEXT = (
    "The return of an episode is the sum of its rewards. Those of training are of a policy that explores and changes "
    "meanwhile, each point the mean of the episodes that ended since the last; those of evaluation are of episodes "
    "fixed beforehand."
)


def show_practice(folder: Path, command: str = "") -> Path:
    """Write `train.html` into a run's folder, out of its log; also while it still runs. Raises `UserError`."""
    practice, log = read_practice(folder), read_log(folder)
    return write(_page(folder, practice, log, command), folder / "train.html")


def _page(folder: Path, practice: Practice, log: Log, command: str) -> Page:
    header, online = checkpoint.read_header(folder), practice.online
    last = next((row for row in reversed(log) if row.get("env_steps") is not None), {})
    lead = (
        f"{practice.family} in {online.env}: {header.step:,} of {practice.train.steps:,} updates, "
        f"{last.get('env_steps', 0):,.0f} environment steps in {last.get('episodes', 0):,.0f} episodes."
    )
    sections = [_earned(practice, log), _learnt(log), _method(practice, last)]
    return Page(f"innerworld: {folder.name}", lead, command, sections, footer({folder.name: folder}))


def _earned(practice: Practice, log: Log) -> Section:
    sampled = "drawn actions" if practice.online.eval_sampled else "the most likely actions"
    exam = _curve("evaluation", log, "eval_return", over="env_steps")
    spread = [row["eval_return_std"] for row in log if row.get("eval_return") is not None]
    low, high = ([y + side * s for y, s in zip(exam.y, spread, strict=True)] for side in (-1, 1))
    exam = Curve(exam.name, exam.x, exam.y, low, high)
    charts = [
        Chart(
            "Return",
            "environment steps",
            "return of an episode",
            [_curve("training", log, "return", over="env_steps"), exam],
            note=f"Evaluated with {sampled}. Band: one standard deviation between the episodes of an evaluation.",
        ),
        Chart(
            "Length of an episode",
            "environment steps",
            "agent steps",
            [
                _curve("training", log, "length", over="env_steps"),
                _curve("evaluation", log, "eval_length", over="env_steps"),
            ],
        ),
    ]
    return Section("What it earned", TEXT, [chart for chart in charts if any(curve.x for curve in chart.curves)])


def _learnt(log: Log) -> Section:
    names = dict.fromkeys(key for row in log for key in row if key not in LOOP | LIVED | EXAM)
    charts = [
        Chart("Loss", "update", "loss", [_curve("loss", log, "loss")]),
        *(Chart(name, "update", name, [_curve(name, log, name)]) for name in names),
    ]
    return Section("How it learnt", "", [chart for chart in charts if any(curve.x for curve in chart.curves)])


def _method(practice: Practice, units: Mapping[str, Any]) -> Section:
    online = practice.online
    lines = [
        ("environment steps", f"{units.get('env_steps', 0):,.0f}: steps of {online.env}"),
        (
            "agent steps",
            f"{units.get('agent_steps', 0):,.0f}: actions of the policy, {online.action_repeat} each",
        ),
        ("frames", f"{units.get('frames', 0):,.0f}: with the world's own frame skip"),
        ("replay", f"{online.capacity or 0:,} moments at most, ratio {online.ratio:g}"),
        ("world", plain(online.model_dump())),
        ("training", plain(practice.train.model_dump())),
        ("model", plain(practice.model)),
    ]
    return Section("How it was made", "One seed is one sample.", [Facts(lines)])


def _curve(name: str, log: Log, key: str, over: str = "step") -> Curve:
    points = [(row[over], row[key]) for row in log if row.get(key) is not None and row.get(over) is not None]
    return Curve(name, [x for x, _ in points], [y for _, y in points])
