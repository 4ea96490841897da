"""A whole comparison: it can be interrupted anywhere and gone on with, and one who fails stops nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.evaluate.exam import Answer, Exam, Question
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.compare import cell
from innerworld.recipes.compare.cell import answer_file, data_folder, gather, read_answer, read_run
from innerworld.recipes.compare.contest import collections, compete, open_cells
from innerworld.recipes.compare.plan import Plan, settle
from innerworld.recipes.compare.results import read_results

Small = Callable[..., Plan]


@pytest.mark.slow
def test_a_kill_changes_no_number(small: Small, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families, a world, two seeds: once in one go, once stopped after a run, and in the middle of another."""
    plan = settle(small(), tmp_path / "whole")
    compete(plan, tmp_path / "whole", here())
    pieces = tmp_path / "pieces"
    assert settle(small(), pieces) == plan
    with pytest.raises(UserError, match="1 of 4 runs are done; go on with innerworld compare --resume"):
        compete(plan, pieces, here(3))  # two collections and a run
    with monkeypatch.context() as patched, pytest.raises(UserError, match="2 of 4"):
        patched.setattr(cell, "_ask", _until(4, cell._ask))
        compete(plan, pieces, here())  # the third run has answered one of its two questions
    assert [cell.is_answered(pieces, plan.cells()[2], name) for name in plan.questions] == [True, False]
    compete(plan, pieces, here())
    one, other = (read_results(plan, folder).rows() for folder in (tmp_path / "whole", pieces))
    assert one == other and len(one) > 40 and all(row.status == "answered" for row in one)
    taught = [read_run(pieces, each) for each in plan.cells()]
    assert not any(run["interrupted"] or run["waits"] for run in taught)  # none was stopped while it was taught
    answer_file(pieces, plan.cells()[0], "probing").unlink()
    compete(plan, pieces, here())
    assert [read_run(pieces, each) for each in plan.cells()] == taught  # to load is not to train
    compete(plan, pieces, here(0))  # nothing is left to do


@pytest.mark.slow
def test_one_who_fails_stops_nobody(small: Small, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(exam: Exam) -> Answer:
        if exam.model.card.decodes:
            raise ValueError("no pictures, please")
        return Answer({"score": float(exam.seed)}, films={"a film": [("panel", _film())]})

    monkeypatch.setitem(QUESTIONS, "picky", Question("picky", "Is it?", "score", True, "score", picky))
    bad = "bad=jepa:none channels=2 latent=4 hidden=8 slices=8 length=90"  # longer than any episode
    plan = settle(
        small(entries=[*(entry.words for entry in small().entries), bad], questions=["picky"], seeds=1), tmp_path
    )
    compete(plan, tmp_path, here())
    jepa, rssm, long = (read_answer(tmp_path, each, "picky") for each in plan.cells())
    assert jepa is not None and jepa.metrics == {"score": 0.0} and jepa.films == {"a film": ["panel"]}
    assert rssm is not None and rssm.failure == "ValueError: no pictures, please"
    assert long is not None and long.failure.startswith("training: ") and "90" in long.failure
    assert "Traceback" in json.loads(answer_file(tmp_path, plan.cells()[1], "picky").read_text())["trace"]
    assert read_run(tmp_path, plan.cells()[0])["updates"] == 3
    assert [each.entry.name for each in open_cells(plan, tmp_path)] == [plan.entries[1].name, "bad"]  # tried again


def test_a_world_that_cannot_be_collected_is_told_by_all_its_runs(
    small: Small, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = settle(small(terms=["experience.policy=nobody"]), tmp_path)
    compete(plan, tmp_path, here())
    found = [read_answer(tmp_path, job, "probing") for job in plan.cells()]
    assert all(each is not None and "unknown policy 'nobody'" in each.failure for each in found)
    assert len(collections(plan, tmp_path)) == 2 and not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    ("world", "sensors", "kept"),
    [
        ("CartPole-v1", ("state",), {"state"}),
        ("CartPole-v1", ("pixels",), {"pixels", "state"}),
        ("paddle", ("state",), {"pixels", "state"}),
    ],
)
def test_pictures_that_nobody_looks_at_are_not_drawn(
    small: Small, tmp_path: Path, world: str, sensors: tuple[str, ...], kept: set[str]
) -> None:
    plan = small(worlds=[world])
    plan = plan.model_copy(update={"terms": plan.terms.model_copy(update={"sensors": sensors})})
    gather(tmp_path, plan, (plan.worlds[0], 0))
    store = Store.open(data_folder(tmp_path, plan.worlds[0], 0))
    assert set(store.spec.obs) == kept and len(store) == 8


def test_only_one_at_a_time(small: Small, here: Any, tmp_path: Path) -> None:
    from innerworld.lock import lock

    plan = settle(small(), tmp_path)
    with lock(tmp_path, "comparison"), pytest.raises(UserError, match="is being written by"):
        compete(plan, tmp_path, here())


def _until(count: int, ask: Callable[..., None]) -> Callable[..., None]:
    """Ctrl-C at the call of that number."""
    calls = iter(range(1, count))

    def asked(*words: Any) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        ask(*words)

    return asked


def _film() -> Any:
    return np.zeros((2, 4, 4, 3), np.uint8)
