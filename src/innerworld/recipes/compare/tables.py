"""The tables of a comparison, which the page and the Markdown file share, and the words around them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence

from innerworld.config import differences
from innerworld.evaluate.aggregate import COVERAGE, RESAMPLES, Estimate
from innerworld.evaluate.questions import QUESTIONS
from innerworld.models import MODELS
from innerworld.recipes.compare.budget import UNITS, read_budget
from innerworld.recipes.compare.plan import Cell, Plan
from innerworld.recipes.compare.results import Results, ranks
from innerworld.recipes.compare.terms import Terms
from innerworld.report import Table

NOTHING = "–"
INTERVALS = (
    f"Interquartile means over seeds and worlds; in brackets {COVERAGE:.0%} intervals of a bootstrap that draws seeds "
    f"anew within each world, {RESAMPLES:,} times."
)
FEW = {
    1: "One seed has no interval: nothing here says what another would give.",
    2: "Of two seeds on one world an interval reaches from one to the other, and holds the truth in about half of all "
    "cases, not in 95 %.",
    3: "Of three seeds on one world an interval reaches from the lowest to the highest, and holds the truth in about "
    "three of four cases, not in 95 %.",
}
"""What an interval of so few seeds is worth: between the extremes of n alike lies a middle with 1 - 2 / 2ⁿ."""
MORE = "Intervals of fewer than ten seeds are too narrow."
ENOUGH = 10  # seeds


def overview(results: Results) -> Table:
    """Everybody's headline in every question, the best mean rank first."""
    plan = results.plan
    rows = [
        [name, _short(rank), *(told(results.headline(name, question)) for question in plan.questions)]
        for name, rank in ranks(results).items()
    ]
    columns = ["who", "mean rank", *(f"{name}{arrow(name)}" for name in plan.questions)]
    note = (
        f"{sure(plan.seeds)} ↑ more is better, ↓ less is; what each number is stands at its question. The mean rank is "
        f"over the questions, and the worlds, that everybody has numbers in, but for who failed in all.{_strides(plan)}"
    )
    return Table("Who does best at what", columns, rows, note)


def _strides(plan: Plan) -> str:
    """Who joins several steps of the world into one of its own, where that is not the same for all."""
    skips = {entry.name: entry.teaching.frame_skip for entry in plan.entries}
    if len(set(skips.values())) == 1:
        return ""
    told = ", ".join(f"{name} {skip}" for name, skip in skips.items())
    return (
        f" Beware: steps ahead are each one's own, and one of them is so many of the world's: {told}. Who joins more "
        "is asked about a later time."
    )


def sure(seeds: int) -> str:
    """What the numbers are, and what their intervals are worth with so many seeds."""
    few = "" if seeds >= ENOUGH else FEW.get(seeds, MORE)
    return f"{INTERVALS} {few}".rstrip()


def spent(results: Results) -> Table:
    """What every entry cost on every world."""
    plan = results.plan
    unit = UNITS[read_budget(plan.budget).unit]
    rows = []
    for entry in plan.entries:
        for world in plan.worlds:
            runs = [run for seed in plan.numbers() if (run := results.runs.get((entry.name, world.name, seed)))]
            seconds = [float(run["seconds"]) for run in runs]
            least = "at least " if any(run.get("interrupted") for run in runs) else ""
            rows.append(
                [
                    entry.name,
                    world.name,
                    f"{runs[0]['parameters']:,}" if runs else NOTHING,
                    f"{plan.updates[entry.name][world.name]:,}",
                    _short(plan.price[entry.name][world.name]),
                    least + _short(sum(seconds) / len(seconds) if seconds else math.nan),
                    f"{len(runs)} of {plan.seeds}",
                ]
            )
    columns = ["who", "world", "parameters", "updates", f"{unit} for one", "CPU s of training", "runs taught"]
    return Table("What it cost", columns, rows, _waiting(results))


def _waiting(results: Results) -> str:
    """Who was stopped by the budget while one part still waited for another to be taught."""
    waiting = {who for (who, _, _), run in results.runs.items() if run.get("waits")}
    late = [entry.name for entry in results.plan.entries if entry.name in waiting]
    if not late:
        return ""
    return (
        f"Of {', '.join(late)} a part has learnt nothing: it still waited for another (a codec, say) to be taught when "
        "the budget was spent. Give more, or shorten that stage in the entry's settings."
    )


def by_world(results: Results, question: str) -> Table:
    """The headline of one question, on each world and over all, and what is to be read beside it, over all."""
    plan, asked = results.plan, QUESTIONS[question]
    names = [world.name for world in plan.worlds]
    beside = {
        metric: what
        for metric, what in asked.beside.items()
        if any(results.metric(entry.name, question, metric).runs for entry in plan.entries)
    }
    rows = []
    for entry in plan.entries:
        row = [entry.name, *(told(results.headline(entry.name, question, [name])) for name in names)]
        row += [told(results.headline(entry.name, question))] if len(names) > 1 else []
        rows.append(row + [told(results.metric(entry.name, question, metric)) for metric in beside])
    columns = ["who", *names, *(["all worlds"] if len(names) > 1 else []), *beside.values()]
    note = f"Right of the worlds, over all of them: {', '.join(f'`{metric}`' for metric in beside)}." if beside else ""
    return Table(f"{asked.headline}{arrow(question)}", columns, rows, note)


def duels(results: Results, question: str) -> Table | None:
    """How likely who stands left does better than who stands above; None of one entry, and of one seed."""
    names = [entry.name for entry in results.plan.entries]
    if len(names) < 2 or results.plan.seeds < 2:
        return None
    rows = [
        [name, *(NOTHING if name == other else told(results.better(name, other, question)) for other in names)]
        for name in names
    ]
    note = "How likely a run of the row does better than one of the column on the same world; 0.5: neither."
    return Table("Probability of improvement", ["who", *names], rows, note)


def gaps(results: Results) -> Table:
    """Every question that has no numbers, and why."""
    rows = [
        [entry, world, ", ".join(map(str, seeds)), question, status, reason]
        for (entry, world, question, status, reason), seeds in results.gaps().items()
    ]
    return Table("What was not answered", ["who", "world", "seeds", "question", "status", "why"], rows)


def commands(results: Results) -> Table:
    """For every run a command that repeats it alone, in a folder of its own."""
    rows = [[str(cell), repeat(results.plan, cell)] for cell in results.plan.cells()]
    note = "Each collects its world again, unless the world is a folder, with the same seed and so the same episodes."
    return Table("The command that repeats one run alone", ["run", "command"], rows, note)


def repeat(plan: Plan, cell: Cell) -> str:
    """A command that repeats one run with the number of updates that was decided for it."""
    entry = cell.entry
    named = entry.words if entry.name == entry.words else f"{entry.name}={entry.words}"
    changed = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, _, value in differences(
            Terms().model_dump(mode="json"), plan.terms.model_dump(mode="json"), ("sensors",)
        )
        if value is not None
    ]
    words = ["innerworld", "compare", named, "--worlds", cell.world.store or cell.world.name]
    words += ["--questions", *plan.questions, "--seed", str(cell.seed), "--seeds", "1"]
    words += ["--budget", f"{cell.updates}updates", "--out", f"runs/{entry.folder}-{cell.world.folder}-{cell.seed}"]
    words += ["--sensors", *plan.terms.sensors] if plan.terms.sensors else []
    return shlex.join([*words, *changed])


def known_as(results: Results) -> list[tuple[str, str]]:
    """Who the entries are."""
    return [(each.name, f"{MODELS[each.family].card.name}: `{each.words}`") for each in results.plan.entries]


def markdown(title: str, lead: str, tables: Sequence[tuple[str, str, Sequence[Table]]]) -> str:
    """Headings, words and tables as Markdown."""
    parts = [f"# {title}", lead]
    for heading, text, some in tables:
        parts += [f"## {heading}", text]
        for table in some:
            parts += [f"### {table.title}", _drawn(table), table.note]
    return "\n\n".join(part for part in parts if part) + "\n"


def told(found: Estimate) -> str:
    """A number and its interval."""
    if math.isnan(found.value):
        return NOTHING
    interval = "" if math.isnan(found.low) else f" [{_short(found.low)}, {_short(found.high)}]"
    return _short(found.value) + interval


def arrow(question: str) -> str:
    return " ↑" if QUESTIONS[question].higher else " ↓"


def _short(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return f"{value:.3g}" if abs(value) < 1e5 else f"{value:.2e}"


def _drawn(table: Table) -> str:
    if not table.rows:
        return "Nothing."
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
