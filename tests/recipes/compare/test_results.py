"""Rows, ranks and tables from answers that are written by hand: what is not there is named, never guessed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from innerworld.evaluate.exam import Along
from innerworld.recipes.compare.cell import Found
from innerworld.recipes.compare.page import page, write_all
from innerworld.recipes.compare.plan import Plan
from innerworld.recipes.compare.results import Results, ranks, write_rows
from innerworld.recipes.compare.tables import (
    INTERVALS,
    by_world,
    commands,
    duels,
    gaps,
    markdown,
    overview,
    spent,
    sure,
)
from innerworld.report import render

Small = Callable[..., Plan]
SCORES = {"good": {"two_rooms": [0.8, 0.9], "paddle": [0.5, 0.7]}, "poor": {"two_rooms": [0.1, 0.2], "paddle": [0.6]}}


@pytest.fixture
def results(small: Small) -> Results:
    """Two entries on two worlds with two seeds; one run has failed, one question applies to one entry alone."""
    plan = small(["good=jepa", "poor=rssm"], ["two_rooms", "paddle"], ["probing", "consistency"])
    plan = plan.model_copy(
        update={
            "updates": {name: dict.fromkeys(("two_rooms", "paddle"), 3) for name in SCORES},
            "price": {name: dict.fromkeys(("two_rooms", "paddle"), 1.0) for name in SCORES},
        }
    )
    answers = {}
    for name, worlds in SCORES.items():
        for world, scores in worlds.items():
            for seed in range(2):
                along = Along("steps", "error", ((1.0, 0.5), (2.0, math.nan)), 1.0, "still")
                answers[name, world, seed, "probing"] = (
                    Found({"probe_r2": scores[seed], "probe_r2_untaught": 0.05}, curves={"Errors": along})
                    if seed < len(scores)
                    else Found(failure="ValueError: a | b")
                )
                known = Found({"leave_and_return": 0.4}) if name == "poor" else Found(skipped="it draws no pictures")
                answers[name, world, seed, "consistency"] = known
    runs = {(name, world, seed): {"parameters": 1234, "seconds": 2.0 + seed} for name, world, seed, _ in answers}
    return Results(plan, answers, runs)


def test_the_estimate_is_over_seeds_and_worlds(results: Results) -> None:
    assert results.headline("good", "probing").value == pytest.approx(0.75)  # 0.5 and 0.9 are left out
    assert results.headline("good", "probing", ["paddle"]).value == pytest.approx(0.6)
    assert results.headline("poor", "probing").runs == 3
    assert results.common("probing") == ["two_rooms", "paddle"] and results.common("consistency") == []


def test_less_is_better_where_the_question_says_so(results: Results) -> None:
    assert results.better("good", "poor", "probing").value == pytest.approx((1 + 0.5) / 2)
    answers = {**results.answers, ("good", "two_rooms", 0, "consistency"): Found({"leave_and_return": 0.1})}
    assert Results(results.plan, answers, results.runs).better("good", "poor", "consistency").value == 1


def test_ranks_are_of_questions_that_everybody_answered(results: Results) -> None:
    assert ranks(results) == {"good": 1.0, "poor": 2.0}
    nothing = {key: found for key, found in results.answers.items() if key[3] == "consistency"}
    assert all(math.isnan(rank) for rank in ranks(Results(results.plan, nothing, {})).values())


def test_who_could_not_be_taught_takes_no_rank_from_the_others(results: Results) -> None:
    without = {key: Found(failure="no") if key[0] == "good" else found for key, found in results.answers.items()}
    told = ranks(Results(results.plan, without, {}))
    assert told["poor"] == 1.0 and math.isnan(told["good"])
    assert overview(Results(results.plan, without, {})).rows[0][0] == "poor"


def test_equals_share_a_rank(results: Results) -> None:
    same = {key: Found({"probe_r2": 0.5}) for key in results.answers if key[3] == "probing"}
    assert ranks(Results(results.plan, same, {})) == {"good": 1.5, "poor": 1.5}


def test_every_gap_is_named(results: Results) -> None:
    rows = gaps(results).rows
    assert ["poor", "paddle", "1", "probing", "failed", "ValueError: a | b"] in rows
    assert ["good", "two_rooms", "0, 1", "consistency", "skipped", "it draws no pictures"] in rows and len(rows) == 3
    open_ones = gaps(Results(results.plan, {}, {})).rows
    assert len(open_ones) == 8 and all(row[4] == "open" for row in open_ones)


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({"energy": 1.0}, "it has no probe_r2 here, only numbers beside it"),
        ({"probe_r2": math.nan}, "its probe_r2 is not a finite number"),
    ],
)
def test_an_answer_without_the_number_that_ranks_is_a_gap(results: Results, metrics: dict, why: str) -> None:
    """Or a run that went astray would leave the mean to those that did not, and nobody would see it."""
    along = Along("steps", "error", ((1.0, 0.5), (2.0, 0.7)))
    found = Found(metrics, curves={"Errors": along})
    changed = Results(results.plan, {**results.answers, ("good", "paddle", 1, "probing"): found}, results.runs)
    assert ["good", "paddle", "1", "probing", "not ranked", why] in gaps(changed).rows
    assert sum(row.metric in metrics for row in changed.rows() if (row.entry, row.seed) == ("good", 1)) == (
        1 if "energy" in metrics else 2
    )
    alone = Results(results.plan, {("good", "paddle", 1, "probing"): found}, {})
    assert "Errors: paddle" in render(page(alone, Path()))  # what it drew is shown all the same


def test_what_few_seeds_are_worth_is_told(results: Results) -> None:
    assert "about half" in overview(results).note
    assert "three of four" in sure(3) and "too narrow" in sure(5) and sure(10) == INTERVALS


def test_who_waited_and_who_was_interrupted_is_told(results: Results) -> None:
    assert spent(results).note == ""
    runs = {
        key: {**run} | ({"waits": True, "interrupted": True} if key[0] == "poor" else {})
        for key, run in results.runs.items()
    }
    table = spent(Results(results.plan, results.answers, runs))
    assert table.note.startswith("Of poor a part has learnt nothing")
    assert [row[5].startswith("at least ") for row in table.rows] == [False, False, True, True]


def test_steps_of_different_length_are_told(results: Results, small: Small) -> None:
    assert "Beware" not in overview(results).note
    entries = small(["good=jepa", "poor=rssm frame_skip=2"]).entries
    plan = results.plan.model_copy(update={"entries": entries})
    assert "good 1, poor 2" in overview(Results(plan, results.answers, results.runs)).note


def test_tables_hold_the_numbers_and_their_intervals(results: Results) -> None:
    table = overview(results)
    assert table.rows[0][:2] == ["good", "1"] and table.rows[0][2].startswith("0.75 [") and table.rows[0][3] == "–"
    assert by_world(results, "probing").columns == ["who", "two_rooms", "paddle", "all worlds", "random weights"]
    assert spent(results).rows[0] == ["good", "two_rooms", "1,234", "3", "1", "2.5", "2 of 2"]
    duel = duels(results, "probing")
    assert duel is not None and duel.rows[0][2].startswith("0.75 [")


def test_a_bar_in_a_cell_is_no_bar_of_the_table(results: Results) -> None:
    text = markdown("t", "lead", [("Gaps", "", [gaps(results)])])
    assert "a \\| b" in text and text.startswith("# t\n\nlead\n\n## Gaps\n\n### What was not answered\n\n| who |")


def test_a_command_repeats_a_run_alone(results: Results) -> None:
    command = commands(results).rows[1][1]
    assert command.startswith(
        "innerworld compare poor=rssm --worlds two_rooms --questions probing consistency --seed 0"
    )
    assert "--budget 3updates" in command and "exam.goals=2" in command and "'exam.horizons=[1, 2]'" in command


def test_rows_are_written_for_others_to_read(results: Results, tmp_path: Path) -> None:
    names = [file.name for file in write_rows(results.rows(), tmp_path)]
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert names[:2] == ["results.jsonl", "results.csv"] and len(lines) == len(table) == len(results.rows())
    headline = [line for line in lines if line["headline"] and line["question"] == "probing"]
    assert [line["value"] for line in headline[:2]] == [0.8, 0.1] and headline[0]["family"] == "jepa"
    failed = next(line for line in lines if line["status"] == "failed")
    assert failed["value"] is None and failed["reason"] == "ValueError: a | b"


def test_parquet_holds_the_same(results: Results, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(results.rows(), tmp_path)
    read = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert read == [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]


def test_the_page_shows_every_question(results: Results, tmp_path: Path) -> None:
    files = [file.name for file in write_all(results, tmp_path)]
    assert files[-2:] == ["results.md", "compare.html"]
    text = (tmp_path / "compare.html").read_text()
    for words in ("What does it know?", "Errors: two_rooms", "What was not answered", "0.05", "random weights"):
        assert words in text
    assert "nan" not in text.lower().replace("finance", "")


def test_a_page_without_an_answer_says_so(results: Results, tmp_path: Path) -> None:
    text = render(page(Results(results.plan, {}, {}), tmp_path))
    assert "Nobody has an answer" in text and "not asked yet" in text
