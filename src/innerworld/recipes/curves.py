"""How runs learnt, out of their logs: the loss, what the collapse watch saw, and whether its alarm rang."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from innerworld.report import Chart, Curve, Facts, Section

Log = Sequence[Mapping[str, Any]]
"""The rows of a `log.jsonl`."""

LOOP = {"step", "time", "loss", "grad_norm", "lr", "stage"}
WATCH = {
    *("effective_rank", "dead_dimensions", "std_mean", "std_min", "probe_r2"),
    *("alignment", "uniformity", "alarm"),
}
TEXT = (
    "The loss of a joint-embedding model says little, so what it makes of held-out clips is watched. Its alarm rings "
    "when two looks in a row find everything on one point or one line."
)


def read_log(folder: Path) -> Log:
    """The log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def learning_curves(logs: Mapping[str, Log]) -> Section:
    """Of one run or several, by name."""
    alarms = Facts([(f"{name}: alarm" if len(logs) > 1 else "alarm", _alarm(log)) for name, log in logs.items()])
    charts = [
        Chart(
            "Loss",
            "step",
            "loss",
            [_curve(name, log, "loss") for name, log in logs.items()],
            log_y=True,
            note="Losses of different families are different sums: compare each with itself only." * (len(logs) > 1),
        ),
        *(_parts(log) for log in logs.values() if len(logs) == 1),
        *_watched(logs),
    ]
    seen = [chart for chart in charts if any(curve.x for curve in chart.curves)]
    return Section("How it learnt", TEXT, [alarms, *seen])


def rang(log: Log) -> list[int]:
    """At which steps the alarm began to ring."""
    looks = [row for row in log if row.get("effective_rank") is not None]
    before = [{}, *looks]
    return [row["step"] for row, last in zip(looks, before, strict=False) if row.get("alarm") and not last.get("alarm")]


def _alarm(log: Log) -> str:
    steps = rang(log)
    looks = [row for row in log if row.get("effective_rank") is not None]
    if not looks:
        return "nobody looked"
    if not steps:
        return f"did not ring in {len(looks)} looks"
    end = "and rings still" if looks[-1].get("alarm") else "and is silent again"
    return f"RANG at step {', '.join(map(str, steps))}: the features had collapsed; {end}"


def _parts(log: Log) -> Chart:
    names = dict.fromkeys(key for row in log for key in row if key not in LOOP | WATCH)
    return Chart("Parts of the loss", "step", "value", [_curve(name, log, name) for name in names])


def _watched(logs: Mapping[str, Log]) -> list[Chart]:
    """Every look of the collapse watch, one chart for each thing that it measures."""

    def chart(key: str, title: str, y: str, note: str = "", line: float | None = None, name: str = "") -> Chart:
        floor = 0.0 if key == "probe_r2" else -math.inf
        curves = [_curve(run, log, key, floor) for run, log in logs.items()]
        return Chart(f"Collapse watch: {title}", "step", y, curves, note=note, line=line, line_name=name)

    return [
        chart(
            "effective_rank",
            "effective rank",
            "dimensions in use",
            "Of the features on held-out clips. Near 1, everything looks the same to the model.",
            1.0,
            "collapsed",
        ),
        chart(
            "std_mean",
            "spread",
            "deviation of a feature, mean",
            "A spread that only shrinks is no collapse: the rank and the probe say whether anything was lost.",
        ),
        chart(
            "alignment",
            "alignment",
            "squared distance to the next moment",
            "Of directions, each of length 1. 0: a moment looks just like the next; 2: unrelated.",
        ),
        chart(
            "uniformity",
            "uniformity",
            "log of the mean closeness",
            "0: all directions are one; the lower, the more evenly they fill the sphere.",
        ),
        chart(
            "probe_r2",
            "can the state be read off?",
            "R² of a linear probe",
            "Fitted on half of the held-out clips, measured on the other.",
            1.0,
            "perfect",
        ),
    ]


def _curve(name: str, log: Log, key: str, floor: float = -math.inf) -> Curve:
    points = [(row["step"], row[key]) for row in log if row.get(key) is not None]
    return Curve(name, [x for x, _ in points], [max(y, floor) for _, y in points])
