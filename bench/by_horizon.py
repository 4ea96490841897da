"""Numbers by steps ahead out of the folders of `innerworld compare`: a table, and a plot with a panel for each folder.

    python bench/by_horizon.py runs/two_rooms:state_r2 runs/freeway:pixel_ratio --plot docs/substrates-horizon.svg

A panel is FOLDER:METRIC. The numbers are those of the folder's `results.csv` that are called METRIC_1, METRIC_2, ...:
of each entry the mean over seeds, in brackets the least and the greatest; in the plot a line and a band. What does not
depend on the model (METRIC_still_1, METRIC_linear_1, ...) is a dashed line of its own; of a METRIC_ratio standing still
is 1.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

from innerworld.errors import UserError

Values = dict[str, dict[int, list[float]]]  # of an entry, by steps ahead: one of each seed
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
OTHERS = {"still": "standing still", "linear": "linear model"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="+", help="FOLDER:METRIC")
    parser.add_argument("--plot", type=Path, help="draw it, .svg or .png (needs matplotlib)")
    args = parser.parse_args()
    panels = {panel: read(panel) for panel in args.panels}
    for panel, (entries, others) in panels.items():
        show(panel, entries | others)
    if args.plot:
        plot(panels, args.plot)


def read(panel: str) -> tuple[Values, Values]:
    """Of the entries, and of what does not depend on them. Raises `UserError` where there is no such number."""
    folder, _, metric = panel.rpartition(":")
    table = Path(folder) / "results.csv"
    if not table.is_file():
        raise UserError(f"{panel}: no {table}; give FOLDER:METRIC with a folder of `innerworld compare`")
    named = re.compile(rf"{re.escape(metric)}(?:_({'|'.join(OTHERS)}))?_(\d+)")
    entries: Values = defaultdict(lambda: defaultdict(list))
    others: Values = defaultdict(lambda: defaultdict(list))
    with table.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["question"] == "prediction" and (found := named.fullmatch(row["metric"])):
                where = others[OTHERS[found[1]]] if found[1] else entries[row["entry"]]
                where[int(found[2])].append(float(row["value"]))
    if not entries:
        raise UserError(f"{panel}: {table} has no {metric}_1 of the question `prediction`")
    return entries, others


def show(panel: str, values: Values) -> None:
    steps = sorted({h for of in values.values() for h in of})
    print(f"\n{panel}\n| | {' | '.join(map(str, steps))} |\n|---|{'--:|' * len(steps)}")
    for name, of in values.items():
        print(f"| {name} | {' | '.join(_told(of[h]) for h in steps)} |")


def _told(values: list[float]) -> str:
    mean, low, high = _mean(values), min(values), max(values)
    return f"{mean:.3g}" if high - low < 1e-9 else f"{mean:.3g} ({low:.3g} to {high:.3g})"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def plot(panels: dict[str, tuple[Values, Values]], out: Path) -> None:
    from matplotlib import pyplot, ticker

    pyplot.rcParams |= {"svg.fonttype": "none", "font.family": "DejaVu Sans", "svg.hashsalt": "innerworld"}
    figure, axes = pyplot.subplots(1, len(panels), figsize=(3.4 * len(panels), 3), layout="constrained", squeeze=False)
    for axis, (panel, (entries, others)) in zip(axes[0], panels.items(), strict=True):
        for (name, of), colour in zip(entries.items(), COLOURS, strict=False):
            steps = sorted(of)
            axis.plot(steps, [_mean(of[h]) for h in steps], color=colour, linewidth=1.4, label=name)
            axis.fill_between(
                steps, [min(of[h]) for h in steps], [max(of[h]) for h in steps], color=colour, alpha=0.15, linewidth=0
            )
        for (name, of), dashes in zip(others.items(), ("--", ":"), strict=False):
            steps = sorted(of)
            axis.plot(steps, [_mean(of[h]) for h in steps], dashes, color="#777777", linewidth=1, label=name)
        folder, _, metric = panel.rpartition(":")
        if metric.endswith("_ratio"):
            axis.axhline(1, color="#777777", linewidth=1, linestyle="--", label="standing still")
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.set_xscale("log", base=2)
        axis.set_xticks(steps := sorted({h for of in entries.values() for h in of}), [str(h) for h in steps])
        axis.set(title=Path(folder).name, xlabel="steps ahead", ylabel=metric)
        axis.legend(fontsize=7)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
