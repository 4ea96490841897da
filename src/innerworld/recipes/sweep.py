"""A sweep: one lesson for each combination of some settings and each seed, as independent runs, compared at the end."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from innerworld import checkpoint
from innerworld.cluster import Place
from innerworld.config import build, override
from innerworld.disk import write_atomic
from innerworld.errors import UserError, nearest
from innerworld.families import FAMILIES
from innerworld.recipes.lesson import Lesson, teach

LONGEST_NAME = 120
DONE = "done.json"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: what is special about it, and the whole lesson."""

    settings: Mapping[str, Any]
    seed: int
    lesson: Lesson

    @property
    def folder(self) -> str:
        """Says what the run is; the same whatever else is in the sweep, so that a sweep can grow."""
        parts = [f"{key}={_word(value)}" for key, value in self.settings.items()]
        name = ",".join([*parts, f"seed={self.seed}"])
        return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Outcome:
    """What came of one run: the last value of everything that its log names, or why it failed."""

    trial: Trial
    metrics: Mapping[str, float]
    failure: str = ""


@dataclass(frozen=True)
class Ranked:
    """One combination of settings: a metric over its seeds."""

    settings: Mapping[str, Any]
    mean: float  # NaN where every seed failed
    spread: float  # standard deviation over the seeds; NaN for a single one
    outcomes: tuple[Outcome, ...]


def choices(word: str) -> tuple[str, list[Any]]:
    """`key=1e-3,3e-4` → the key and its values, each read as JSON, else as text. Raises `UserError`."""
    key, _, text = word.partition("=")
    try:
        values = json.loads(f"[{text}]")
    except json.JSONDecodeError:
        values = text.split(",")
    if not values or "" in values:
        raise UserError(f"cannot read {word!r}: write the values one after another, as in train.lr=1e-3,3e-4")
    if any(value in values[:i] for i, value in enumerate(values)):
        raise UserError(f"{key} names a value twice: {text}")
    return key, values


def trials(base: Lesson, grid: Mapping[str, Sequence[Any]], seeds: int = 1) -> list[Trial]:
    """Every combination of the grid's values, with `seeds` seeds each, counted from the lesson's own.

    Raises `UserError` for an unknown key or a value of the wrong type, of any of them, before anything is taught.
    """
    made = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        words = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        for seed in range(base.train.seed, base.train.seed + seeds):
            lesson = override(base, [*words, f"train.seed={seed}"] if "train.seed" not in grid else words)
            model = build(FAMILIES[lesson.family].Config, lesson.model, "model")
            lesson = lesson.model_copy(update={"model": model.model_dump(mode="json")})
            made.append(Trial(settings, lesson.train.seed, lesson))
    return made


def sweep(
    made: Sequence[Trial],
    folder: Path,
    place: Place,
    progress: Callable[[int], None] = lambda done: None,
    command: str = "",
) -> list[Outcome]:
    """Teach every trial into a folder of its own below `folder`; runs that are done are only read, others resumed.

    A run that fails is an outcome, too, and stops no other. `progress` is told the runs done. Raises `UserError` for
    Ctrl-C; the runs under way have saved then.
    """
    home = folder.resolve()  # workers may stand elsewhere
    found = {i: outcome for i, trial in enumerate(made) if (outcome := _finished(trial, home)) is not None}
    missing = [i for i in range(len(made)) if i not in found]
    progress(len(found))
    try:
        with closing(place.each(partial(teach_trial, home, command), [made[i] for i in missing])) as ended:
            for done in ended:
                i = missing[done.index]
                failure = done.failure
                found[i] = Outcome(made[i], done.result or {}, "" if failure is None else failure.line)
                progress(len(found))
    except KeyboardInterrupt:
        raise UserError(f"interrupted: {len(found)} of {len(made)} runs are done; the same command goes on") from None
    return [found[i] for i in range(len(made))]


def teach_trial(home: Path, command: str, trial: Trial) -> dict[str, float]:
    """Teach one run, or go on with it; return the last values of its log. For workers."""
    folder = home / trial.folder
    lesson = trial.lesson.model_copy(update={"data": os.path.abspath(trial.lesson.data)})
    teach(lesson, folder, quiet=True, resume=checkpoint.exists(folder), command=command)
    metrics = _last_values(folder / "log.jsonl")
    noted = {"lesson": _plain(trial), "metrics": metrics}
    write_atomic(folder / DONE, [json.dumps(noted, indent=2).encode()])
    return metrics


def rank(outcomes: Sequence[Outcome], metric: str, highest: bool = False) -> list[Ranked]:
    """The combinations of settings, the best first, those without a number last. Raises `UserError` for the metric."""
    known = {name for outcome in outcomes for name in outcome.metrics}
    if known and metric not in known:
        raise UserError(
            f"no run logs {metric!r}.{nearest(metric, sorted(known))} There are: {', '.join(sorted(known))}"
        )
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(json.dumps(dict(outcome.trial.settings)), []).append(outcome)
    ranked = [_ranked(group, metric) for group in groups.values()]
    return sorted(ranked, key=lambda each: (math.isnan(each.mean), -each.mean if highest else each.mean))


def _ranked(group: Sequence[Outcome], metric: str) -> Ranked:
    values = [outcome.metrics[metric] for outcome in group if metric in outcome.metrics]
    mean = sum(values) / len(values) if values else math.nan
    squares = sum((value - mean) ** 2 for value in values)
    spread = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else math.nan
    return Ranked(group[0].trial.settings, mean, spread, tuple(group))


def _finished(trial: Trial, home: Path) -> Outcome | None:
    """What came of it, if it has been taught in full already."""
    try:
        noted = json.loads((home / trial.folder / DONE).read_text(encoding="utf-8"))
        return Outcome(trial, noted["metrics"]) if noted["lesson"] == _plain(trial) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is taught again, which is quick where it was done


def _plain(trial: Trial) -> dict[str, Any]:
    """The lesson as JSON, without the place of its data, which may be moved together with the runs."""
    return {key: value for key, value in trial.lesson.model_dump(mode="json").items() if key != "data"}


def _last_values(log: Path) -> dict[str, float]:
    """The last number under each name."""
    values: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        values |= {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {name: value for name, value in values.items() if name not in ("step", "time")}


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return re.sub(r"[^\w.,+\-\[\]]", "_", text)
