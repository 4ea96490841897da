"""`innerworld agent run`: what reaches the recipe, how it is shown, and what is refused before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerworld.cli import agent, main

EPISODE = {
    "reached": True, "return": 1.5, "steps": 7, "surprise": 0.25, "degraded": 2, "ms_per_action": 12.34, "closest": 0.1,
    "note": "'left' means 'upper left'", "trouble": ["step 3: ValueError: x"], "first": "Step 0.", "explanations": [],
}  # fmt: skip
BLIND = {**EPISODE, "reached": None, "surprise": float("nan"), "trouble": []}
MODULES = {"search": "cem", "cost": "goal", "guardrail": "no plan there"}
FOUND = {"episodes": [EPISODE, BLIND], "modules": MODULES, "page": "there.html", "films": ["a.webp"]}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(agent, "run_agent", lambda *given: calls.append(given) or FOUND)
    return calls


def test_flags_and_keys_reach_the_recipe(called: list[tuple[Any, ...]]) -> None:
    words = "--model r --goal 1,2 --env e --steps 9 --episodes 4 --planner cem --monitors stuck milestone --guard 1,2,3"
    more = "--habit h --futures 5 --deadline 0.5 --out o --films f --seed 6 --quiet planner.samples=32 agent.execute=3"
    assert main(["agent", "run", *words.split(), *more.split()]) == 0
    errand, control, episodes, out, films, quiet, command = called[0]
    assert (errand.model, errand.goal, errand.env, errand.seed) == ("r", "1,2", "e", 6)
    assert errand.furnishing.monitors == ("stuck", "milestone") and errand.furnishing.guard == "1,2,3"
    assert (errand.furnishing.habit, errand.furnishing.futures, errand.furnishing.deadline_s) == (Path("h"), 5, 0.5)
    assert (control.budget, control.search, control.planner["samples"], control.agent.execute) == (9, "cem", 32, 3)
    assert (episodes, out, films, quiet) == (4, Path("o"), Path("f"), True)
    assert command.startswith("innerworld agent run --model r")


def test_how_it_learns_reaches_the_recipe(called: list[tuple[Any, ...]]) -> None:
    words = '--model r --learn --critic --freeze-after 2 --resume --out o learning.every=5 learning.only=["law"]'
    assert main(["agent", "run", *words.split()]) == 0
    errand, control = called[0][:2]
    assert errand.critic and errand.learning.freeze_after == 2 and errand.learning.resume
    assert (errand.learning.config.every, errand.learning.config.only) == (5, ("law",))
    assert "learning" not in control.model_dump()
    assert main(["agent", "run", "--model", "r"]) == 0 and called[1][0].learning is None


def test_what_it_learnt_is_shown(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"reached": True, "return": 0.0, "steps": 5, "surprise": 0.5, "updates": 3, "taken_back": 0, "frozen": True}
    learnt = {
        "run": "there", "updates": 3, "taken_back": 0, "why": [], "optimiser_steps": 60, "frozen": True,
        "frozen_after": 0, "sights": 7, "critic": "none", "rows": [row], "knows": {"old": {"loss": [1.5, 2.5]}},
    }  # fmt: skip
    monkeypatch.setattr(agent, "run_agent", lambda *given: FOUND | {"learnt": learnt})
    assert main(["agent", "run", "--model", "r", "--learn", "--out", "o"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0", "1", "of", "1", "0", "5.0", "0.5", "3", "0", "yes"] in lines
    assert ["old", "loss", "1.5", "2.5"] in lines
    assert any(line[:4] == ["The", "changed", "run", "is"] for line in lines)


def test_a_table_an_explanation_and_where_the_page_is(called: list[tuple[Any, ...]], capsys: Any) -> None:
    assert main(["agent", "run", "--model", "r"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "episode" and lines[1].split() == ["0", "yes", "1.5", "7", "0.25", "2", "12.3"]
    assert lines[2].split() == ["1", "-", "1.5", "7", "-", "2", "12.3"]
    for line in (
        "guardrail: no plan there",
        "Step 0.",
        "page: there.html",
        "film: a.webp",
        "'left' means 'upper left'",
    ):
        assert line in lines
    assert "episode 0 went wrong at step 3: ValueError: x" in lines and "cost: goal" not in lines


def test_json_has_all_of_it(called: list[tuple[Any, ...]], capsys: Any) -> None:
    assert main(["agent", "run", "--model", "r", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["episodes"][0] == EPISODE and found["episodes"][1]["surprise"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "--model"),
        (["fly", "--model", "r"], "run"),
        (["run", "--model", "r", "--episodes", "0"], "--episodes is at least 1"),
        (["run", "--model", "r", "--steps", "0"], "--steps is at least 1"),
        (["run", "--model", "r", "--futures", "0"], "--futures is at least 1"),
        (["run", "--model", "r", "--seed", "-1"], "--seed is at least 0"),
        (["run", "--model", "r", "episodes=3"], "--episodes"),
        (["run", "--model", "r", "--planner", "icm"], "Did you mean 'icem'"),
        (["run", "--model", "r", "--monitors", "stack"], "stuck"),
        (["run", "--model", "r", "--guards", "1,2,3"], "Did you mean '--guard'"),
        (["run", "--model", "r", "planner.smaples=3"], "smaples"),
        (["run", "--model", "r", "--learn"], "--out"),
        (["run", "--model", "r", "--resume"], "give --learn, too"),
        (["run", "--model", "r", "--freeze-after", "1"], "give --learn, too"),
        (["run", "--model", "r", "learning.every=3"], "give --learn, too"),
        (["run", "--model", "r", "--learn", "--out", "o", "--freeze-after", "-1"], "--freeze-after is at least 0"),
        (["run", "--model", "r", "--learn", "--out", "o", "learning.evry=3"], "Did you mean 'learning.every'"),
    ],
)
def test_mistakes_are_one_line(called: list[tuple[Any, ...]], words: list[str], told: str, capsys: Any) -> None:
    assert main(["agent", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and len(err.splitlines()) == 1 and not called
