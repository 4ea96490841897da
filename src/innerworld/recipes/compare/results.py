"""What came of a comparison, as rows: for files that others read, and for the tables of the page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from innerworld.disk import write_atomic
from innerworld.evaluate.aggregate import Estimate, estimate, improvement
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.compare.cell import Found, read_answer, read_run
from innerworld.recipes.compare.plan import Cell, Plan

UNRANKED = "not ranked"  # the status of an answer without the number that ranks


@dataclass(frozen=True)
class Row:
    """One number of one run; or a question without numbers, and why there are none."""

    entry: str
    family: str
    world: str
    seed: int
    question: str
    metric: str  # empty where there are no numbers
    value: float  # NaN likewise
    headline: bool
    status: str  # answered, skipped, failed or open
    reason: str  # why it was skipped or has failed


@dataclass(frozen=True)
class Results:
    """All answers of a plan, and what is known of its runs."""

    plan: Plan
    answers: Mapping[tuple[str, str, int, str], Found]  # entry, world, seed, question
    runs: Mapping[tuple[str, str, int], Mapping[str, Any]]  # entry, world, seed

    def values(self, entry: str, question: str, metric: str) -> dict[str, list[float]]:
        """A metric of an entry: for each world, of each seed that has it."""
        found: dict[str, list[float]] = {}
        for world in self.plan.worlds:
            told = (self.answers.get((entry, world.name, seed, question)) for seed in self.plan.numbers())
            numbers = (each.metrics.get(metric, math.nan) for each in told if each is not None)
            found[world.name] = [value for value in numbers if math.isfinite(value)]
        return found

    def headline(self, entry: str, question: str, worlds: Sequence[str] | None = None) -> Estimate:
        """The estimate of a question's headline, over all worlds or some."""
        return self.metric(entry, question, QUESTIONS[question].headline, worlds)

    def metric(self, entry: str, question: str, metric: str, worlds: Sequence[str] | None = None) -> Estimate:
        """The estimate of any metric, likewise."""
        values = self.values(entry, question, metric)
        return estimate(values if worlds is None else {world: values[world] for world in worlds})

    def ranked(self) -> list[str]:
        """Whose answers are not all failures: an entry that could not be taught must not take their rank from the
        others."""
        names = [entry.name for entry in self.plan.entries]
        told = {name: [found for key, found in self.answers.items() if key[0] == name] for name in names}
        return [name for name, founds in told.items() if not founds or not all(found.failure for found in founds)]

    def common(self, question: str) -> list[str]:
        """The worlds on which all that are ranked have the headline."""
        found = [self.values(name, question, QUESTIONS[question].headline) for name in self.ranked()]
        return [world.name for world in self.plan.worlds if all(values[world.name] for values in found)]

    def better(self, entry: str, other: str, question: str) -> Estimate:
        """How likely a run of the entry does better than one of the other, in the headline."""
        metric = QUESTIONS[question].headline
        mine, theirs = (self.values(name, question, metric) for name in (entry, other))
        return improvement(mine, theirs) if QUESTIONS[question].higher else improvement(theirs, mine)

    def gaps(self) -> dict[tuple[str, str, str, str, str], list[int]]:
        """What does not rank, skipped, failed, open or without the headline: the seeds of each (entry, world, question,
        status, reason)."""
        found: dict[tuple[str, str, str, str, str], list[int]] = {}
        for cell, name in product(self.plan.cells(), self.plan.questions):
            if (why := self._gap(cell, name)) is not None:
                found.setdefault((cell.entry.name, cell.world.name, name, *why), []).append(cell.seed)
        return found

    def rows(self) -> list[Row]:
        """Every number, in the plan's order."""
        return [row for cell in self.plan.cells() for name in self.plan.questions for row in self._rows(cell, name)]

    def _rows(self, cell: Cell, question: str) -> list[Row]:
        who = (cell.entry.name, cell.entry.family, cell.world.name, cell.seed, question)
        why = self._gap(cell, question)
        if why is not None and why[0] != UNRANKED:
            return [Row(*who, "", math.nan, False, *why)]
        headline = QUESTIONS[question].headline
        metrics = self.answers[cell.entry.name, cell.world.name, cell.seed, question].metrics
        return [Row(*who, name, value, name == headline, "answered", "") for name, value in metrics.items()]

    def _gap(self, cell: Cell, question: str) -> tuple[str, str] | None:
        """Why a run does not count where the question ranks: a status and a reason; None: it counts."""
        found = self.answers.get((cell.entry.name, cell.world.name, cell.seed, question))
        if found is None:
            return "open", "not asked yet"
        if found.failure or found.skipped:
            return "failed" if found.failure else "skipped", found.failure or found.skipped
        headline = QUESTIONS[question].headline
        if headline not in found.metrics:
            return UNRANKED, f"it has no {headline} here, only numbers beside it"
        if not math.isfinite(found.metrics[headline]):
            return UNRANKED, f"its {headline} is not a finite number"
        return None


def read_results(plan: Plan, home: Path) -> Results:
    """All answers that there are."""
    answers, runs = {}, {}
    for cell in plan.cells():
        where = (cell.entry.name, cell.world.name, cell.seed)
        runs[where] = read_run(home, cell)
        for name in plan.questions:
            found = read_answer(home, cell, name)
            if found is not None:
                answers[*where, name] = found
    return Results(plan, answers, runs)


def ranks(results: Results) -> dict[str, float]:
    """The mean rank of each entry over the questions that everybody answered, best first; NaN: there is none.

    Of a question the worlds count on which everybody has its headline, or who is asked less would have it easier. Who
    failed in everything has no rank, and is not waited for.
    """
    placed: dict[str, list[float]] = {entry.name: [] for entry in results.plan.entries}
    ranked = results.ranked()
    for name in results.plan.questions:
        common = results.common(name) if ranked else []
        found = {entry: results.headline(entry, name, common).value for entry in ranked} if common else {}
        sign = -1 if QUESTIONS[name].higher else 1
        for entry, value in found.items():
            ahead = sum(sign * other < sign * value for other in found.values())
            level = sum(other == value for other in found.values())
            placed[entry].append(ahead + (level + 1) / 2)
    mean = {entry: sum(values) / len(values) if values else math.nan for entry, values in placed.items()}
    return dict(sorted(mean.items(), key=lambda each: (math.isnan(each[1]), each[1])))


def write_rows(rows: Sequence[Row], folder: Path) -> list[Path]:
    """`results.jsonl` and `results.csv`; and `results.parquet` where pyarrow is installed. Which were written."""
    plain = [asdict(row) | {"value": row.value if math.isfinite(row.value) else None} for row in rows]
    lines = "".join(json.dumps(each, allow_nan=False) + "\n" for each in plain)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    files = {"results.jsonl": lines.encode(), "results.csv": table.getvalue().encode()}
    if (packed := _parquet(plain)) is not None:
        files["results.parquet"] = packed
    for name, content in files.items():
        write_atomic(folder / name, [content])
    return [folder / name for name in files]


def _parquet(rows: list[dict[str, Any]]) -> bytes | None:
    """The rows as a Parquet file; None without pyarrow, which is in the extra `data`."""
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    kinds = {"seed": pyarrow.int64(), "value": pyarrow.float64(), "headline": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in Row.__dataclass_fields__])
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), sink)
    return sink.getvalue().to_pybytes()
