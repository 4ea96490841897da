"""Curves out of a log: what each chart shows, and the alarm in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerworld.recipes.curves import learning_curves, rang, read_log
from innerworld.report import Chart, Facts

WATCHED = {"std_mean": 0.5, "std_min": 0.1, "dead_dimensions": 0.0, "alignment": 0.2, "uniformity": -2.0}


def rows(*ranks: float, alarms: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """A log that is looked at every second step."""
    made: list[dict[str, Any]] = []
    for i, rank in enumerate(ranks):
        alarm = {"alarm": 1.0} if i in alarms else {}
        made.append({"step": 2 * i, "loss": 1.0 / (i + 1), "predict": 0.5, "effective_rank": rank, **WATCHED, **alarm})
        made.append({"step": 2 * i + 1, "loss": 1.0 / (i + 1), "predict": 0.5})
    return made


def said(log: list[dict[str, Any]]) -> str:
    block = learning_curves({"jepa": log}).blocks[0]
    assert isinstance(block, Facts)
    return block.rows[0][1]


def test_the_alarm_is_told_where_it_began() -> None:
    log = rows(9, 1, 1, 1, 7, 1, 1, alarms=(2, 3, 6))
    assert rang(log) == [4, 12]
    assert said(log) == "RANG at step 4, 12: the features had collapsed; and rings still"
    assert "silent again" in said(rows(9, 1, 1, 5, alarms=(2,)))
    assert said(rows(9, 1, 8)) == "did not ring in 3 looks"
    assert said([{"step": 0, "loss": 1.0}]) == "nobody looked"


def test_one_run_shows_the_parts_of_its_loss_and_every_look() -> None:
    section = learning_curves({"jepa": [{**row, "probe_r2": -3.0} for row in rows(9, 8)]})
    charts = {chart.title: chart for chart in section.blocks if isinstance(chart, Chart)}
    assert [title.removeprefix("Collapse watch: ") for title in charts] == [
        *("Loss", "Parts of the loss", "effective rank", "spread", "alignment", "uniformity"),
        "can the state be read off?",
    ]
    assert [curve.name for curve in charts["Parts of the loss"].curves] == ["predict"]
    assert list(charts["Collapse watch: effective rank"].curves[0].x) == [0, 2]
    assert set(charts["Collapse watch: can the state be read off?"].curves[0].y) == {0.0}  # worse than nothing is none


@pytest.mark.parametrize("missing", ["probe_r2", "effective_rank"])
def test_what_was_not_measured_has_no_chart(missing: str) -> None:
    log = [{key: value for key, value in row.items() if key != missing} for row in rows(9, 8)]
    titles = [block.title for block in learning_curves({"jepa": log}).blocks if isinstance(block, Chart)]
    assert not any(("read off" if missing == "probe_r2" else "rank") in title for title in titles) and "Loss" in titles


def test_several_runs_share_charts() -> None:
    section = learning_curves({"a": rows(9, 8), "b": rows(1, 1, alarms=(1,))})
    facts, loss = section.blocks[:2]
    assert isinstance(facts, Facts) and isinstance(loss, Chart)
    assert [name for name, _ in facts.rows] == ["a: alarm", "b: alarm"] and "RANG" in facts.rows[1][1]
    assert [curve.name for curve in loss.curves] == ["a", "b"]
    assert not any(isinstance(block, Chart) and block.title == "Parts of the loss" for block in section.blocks)


def test_a_log_is_read_from_the_run(tmp_path: Path) -> None:
    log = rows(3, 2)
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    assert list(read_log(tmp_path)) == log
