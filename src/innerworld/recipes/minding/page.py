"""The page of `innerworld agent run`: each episode as it was and as it was imagined, and a few decisions explained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innerworld.agent import Explanation
from innerworld.recipes.minding.episode import Diary
from innerworld.report import Chart, Curve, Facts, Movie, Section, Table

SHOWN = 6  # episodes that are shown one by one
FRAMES = 120  # of the film of an episode, at most
COLUMNS = ("episode", "reached", "return", "steps", "surprise", "degraded", "ms per action")


def sections(diaries: Sequence[Diary], told: Mapping[str, str], block: int, draws: bool) -> list[Section]:
    """The table of all episodes, then the first ones each by itself. `draws`: the model decodes what it imagines."""
    lead = (
        "All times are of one world on this machine. Surprise is the mean energy between what was predicted and seen."
    )
    notes = list(dict.fromkeys(diary.wish.note for diary in diaries if diary.wish.note))
    rows = [cells(k, numbers(diary)) for k, diary in enumerate(diaries)]
    facts = Facts([*told.items(), *(("goal", note) for note in notes)])
    whole = Section("What was done", lead, [Table("Episodes", COLUMNS, rows), facts])
    found = [whole]
    for k, diary in enumerate(diaries[:SHOWN]):
        found += [_episode(k, diary, block, draws), *_explained(k, diary)]
    return found


def cells(k: int, found: Mapping[str, Any]) -> list[str]:
    """Of `COLUMNS`, from the `numbers` of episode k."""
    reached = {None: "-", True: "yes", False: "no"}[found["reached"]]
    surprise, ms = (
        f"{value:.3g}" if math.isfinite(value) else "-" for value in (found["surprise"], found["ms_per_action"])
    )
    return [str(k), reached, f"{found['return']:.4g}", str(found["steps"]), surprise, str(found["degraded"]), ms]


def numbers(diary: Diary) -> dict[str, Any]:
    """What the columns hold, as plain values."""
    return {
        "reached": diary.reached,
        "return": diary.score,
        "steps": len(diary.steps),
        "surprise": _mean([step.surprise for step in diary.steps]),
        "degraded": sum(step.degraded for step in diary.steps),
        "ms_per_action": _mean([step.ms for step in diary.steps]),
        "closest": diary.steps[-1].closest,
    }


def outcome(diary: Diary) -> str:
    """How it ended, in words."""
    steps = f"{len(diary.steps)} step{'s' if len(diary.steps) != 1 else ''}"
    if diary.reached is not None:
        return f"reached after {steps}" if diary.reached else f"not reached in {steps}"
    return f"{'ended' if diary.ended else 'cut'} after {steps}, return {diary.score:.4g}"


def telling(diary: Diary) -> list[tuple[int, str]]:
    """A few decisions that say more than others, in order: index and why. The first, the most surprising, the first one
    that was degraded, those in which a monitor spoke first and last, and the last."""
    told = diary.decisions
    if not told:
        return []
    found: dict[int, list[str]] = {0: ["the first"]}
    surprising = [k for k, one in enumerate(told) if one.surprise is not None]
    if surprising:
        most = max(surprising, key=lambda k: told[k].surprise or 0.0)
        found.setdefault(most, []).append("the most surprised")
    degraded = [k for k, one in enumerate(told) if one.degraded]
    spoken = [k for k, one in enumerate(told) if one.why]
    for which, name in ((degraded[:1], "no plan"), (spoken[:1] + spoken[-1:], "something was noticed")):
        for k in dict.fromkeys(which):
            found.setdefault(k, []).append(name)
    found.setdefault(len(told) - 1, []).append("the last")
    return [(k, ", ".join(found[k])) for k in sorted(found)]


# ---------------------------------------------------------------------- one episode


def _episode(k: int, diary: Diary, block: int, draws: bool) -> Section:
    chosen = telling(diary)
    blocks = [*_films(diary, block, draws), *_charts(diary, chosen), *_terms(diary, chosen)]
    text = "" if not diary.trouble else "Went wrong: " + "; ".join(dict.fromkeys(diary.trouble)) + "."
    return Section(f"Episode {k}: {outcome(diary)}", text, blocks)


def _films(diary: Diary, block: int, draws: bool) -> list[Movie]:
    """The whole episode beside where each plan leads; and its beginning beside the first plan as it was imagined."""
    if not diary.pictures:
        return []
    real = np.stack(diary.pictures)
    how = "imagined" if draws else "imagined (nearest seen)"
    panels = [("the world", real)]
    if diary.aims and diary.aims[0].shape == real.shape[1:]:
        panels.append((f"end of its plan, {how}", np.stack([*diary.aims, diary.aims[-1]])))
    goal = diary.wish.picture
    if goal is not None and goal.shape == real.shape[1:]:
        panels.append(("the goal", np.broadcast_to(goal, real.shape).copy()))
    every = -(-len(real) // FRAMES)
    caption = f"Every step of {len(real) - 1}" if every == 1 else f"One in {every} steps of {len(real) - 1}"
    films = [Movie(caption, [(name, frames[::every]) for name, frames in panels])]
    if diary.course is not None and diary.course.shape[1:] == real.shape[1:]:
        came = real[::block][: len(diary.course)]
        if len(came) > 1:
            text = f"The first plan, {len(diary.course) - 1} steps long, as it was imagined at step 0, and what came"
            text += ": it plans anew on the way, so the two may part." if block == 1 else f"; each step is {block}."
            films.append(Movie(text, [("what came", came), (f"first plan, {how}", diary.course[: len(came)])]))
    return films


def _charts(diary: Diary, chosen: Sequence[tuple[int, str]]) -> list[Chart]:
    """What was not looked at leaves no gap: within a block of actions nothing is."""
    found = []
    for title, y, values in (
        ("Surprise", "energy between predicted and seen", [step.surprise for step in diary.steps]),
        ("Cost of being there", "intrinsic cost", [step.cost for step in diary.steps]),
        ("The nearest that it came", "energy to the goal, 1: as it began", [step.closest for step in diary.steps]),
    ):
        x = [t for t, value in enumerate(values) if math.isfinite(value)]
        if x:
            found.append(Chart(title, "step", y, [Curve(title.lower(), x, [values[t] for t in x])]))
    ways = [(diary.starts[i], diary.decisions[i]) for i, _ in chosen]
    curves = [_way(start, told) for start, told in ways if told.goal_energy]
    if curves:
        note = "After so many steps of each plan; 0 is what was believed when it was made."
        found.append(Chart("The plans’ way to the goal", "imagined step", "energy to the goal", curves, note=note))
    return found


def _way(start: int, told: Explanation) -> Curve:
    now = float("nan") if told.goal_now is None else told.goal_now
    return Curve(f"plan at step {start}", range(len(told.goal_energy) + 1), [now, *told.goal_energy])


def _terms(diary: Diary, chosen: Sequence[tuple[int, str]]) -> list[Table]:
    """What the plans cost, term by term, beside doing nothing."""
    told = [(diary.starts[i], diary.decisions[i]) for i, _ in chosen]
    names = list(dict.fromkeys(name for _, one in told for name in one.parts))
    if not told:
        return []
    columns = ["plan", "cost", "of doing nothing", *names]
    cells = [
        [
            f"step {start}",
            f"{one.expected:.4g}",
            f"{one.still:.4g}",
            *(
                f"{one.parts[name]:.4g} ({one.still_parts.get(name, 0):.4g})" if name in one.parts else "-"
                for name in names
            ),
        ]
        for start, one in told
    ]
    return [Table("Terms of the cost", columns, cells, "A step of the plan; in brackets of doing nothing for as long.")]


def _explained(k: int, diary: Diary) -> list[Section]:
    """The explanations of telling decisions, a paragraph for each."""
    paragraphs = []
    for i, why in telling(diary):
        told = " ".join(f"`{name}` {words}." for name, words in diary.decisions[i].words().items())
        paragraphs.append(f"Step {diary.starts[i]}, {why}: {told}")
    return [Section(f"Episode {k}: decisions, explained", "\n\n".join(paragraphs))] if paragraphs else []


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else float("nan")
