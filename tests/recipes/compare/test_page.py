"""The films of answers are kept as they were, and shown once where they are the same for everybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld.errors import UserError
from innerworld.evaluate.exam import Answer, Exam, Question
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.compare.cell import answer_file, read_films
from innerworld.recipes.compare.contest import compete
from innerworld.recipes.compare.entry import read_entries
from innerworld.recipes.compare.page import page
from innerworld.recipes.compare.plan import Plan, settle
from innerworld.recipes.compare.results import read_results
from innerworld.recipes.compare.terms import Teaching
from innerworld.report import Movie

FILM = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


@pytest.mark.slow
def test_films_come_back(
    small: Callable[..., Plan], here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(exam: Exam) -> Answer:
        own = np.full_like(FILM, 9 if exam.model.card.decodes else 7)
        return Answer({"score": 1.0}, films={"Alike": [("a", FILM), ("b", FILM)], "Own": [("a", own)]})

    monkeypatch.setitem(QUESTIONS, "show", Question("show", "What is seen?", "score", True, "a score", show))
    plan = settle(small(questions=["show"], seeds=1), tmp_path)
    compete(plan, tmp_path, here())
    films = read_films(tmp_path, plan.cells()[0], "show")
    assert [title for title, _ in films["Alike"]] == ["a", "b"] and np.array_equal(films["Alike"][1][1], FILM)
    shown = page(read_results(plan, tmp_path), tmp_path).sections[1].blocks
    captions = [block.caption for block in shown if isinstance(block, Movie)]
    assert captions == ["Alike: two_rooms", "Own: two_rooms", "Own: two_rooms"]


def test_films_that_cannot_be_read_are_named(small: Callable[..., Plan], tmp_path: Path) -> None:
    one = small(seeds=1).model_copy(
        update={"updates": {"jepa": {"two_rooms": 1}}, "entries": read_entries(["jepa"], Teaching())}
    )
    path = answer_file(tmp_path, one.cells()[0], "probing")
    path.parent.mkdir(parents=True)
    told = {"metrics": {}, "skipped": "", "failure": "", "curves": {}, "films": {"a": ["b"]}, "seconds": 0.0}
    path.write_text(json.dumps(told))
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"cannot read .*probing.npz .* delete probing.json to ask again"):
        read_films(tmp_path, one.cells()[0], "probing")
