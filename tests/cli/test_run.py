"""`innerworld demo` and `evaluate`: what reaches the recipes, and how their numbers are shown."""

from __future__ import annotations

import json

import pytest

from innerworld.cli import main, run
from innerworld.training import Interrupted

RESULTS = {
    "results": {"a": {"x": 1.0, "x_low": 0.5, "x_high": 2.0, "y": 2.0, "z_low": 3.0}, "b": {"x": 3.5}},
    "report": "there.html",
    "untried": "no goals here",
}


@pytest.fixture
def called(monkeypatch):
    calls = []
    monkeypatch.setattr(run, "demo", lambda *given: calls.append(given) or RESULTS)
    monkeypatch.setattr(run, "evaluate_run", lambda *given: calls.append(given) or RESULTS)
    return calls


def test_demo_passes_its_settings_on(called, tmp_path, capsys):
    words = ["demo", "--out", str(tmp_path), "--seed", "3", "episodes=40", "schools.jepa.train.steps=7", "--quiet"]
    assert main([*words, "--json"]) == 0
    settings, folder, quiet, command = called[0]
    assert (settings.seed, settings.episodes, settings.schools["jepa"].train.steps) == (3, 40, 7)
    assert (folder, quiet) == (tmp_path, True)
    assert command.startswith("innerworld demo --out")
    assert json.loads(capsys.readouterr().out) == RESULTS


def test_numbers_are_shown_side_by_side(called, capsys):
    assert main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["x", "y", "z_low"]
    assert lines[0].split() == ["a", "b"]
    assert lines[1].split() == ["x", "1", "[0.5,", "2]", "3.5"] and lines[2].split() == ["y", "2", "-"]
    assert "report: there.html" in lines and "goals were not tried: no goals here" in lines


def test_evaluate_passes_its_settings_on(called, tmp_path):
    assert main(["evaluate", str(tmp_path), "--episodes", "7", "planner.horizon=4"]) == 0
    folder, data, control, seed, quiet, _, place, latents, drawings, changes = called[0]
    assert (folder, data, seed, quiet, place, latents, drawings) == (tmp_path, None, 0, False, None, True, True)
    assert changes == ()
    assert (control.episodes, control.planner["horizon"]) == (7, 4)
    assert main(["evaluate", str(tmp_path), "--no-latents"]) == 0
    assert called[1][-3:] == (False, True, ())
    assert main(["evaluate", str(tmp_path), "--no-drawings"]) == 0
    assert called[2][-3:] == (True, False, ())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demo", "episods=3"], "unknown key 'episods'. Did you mean 'episodes'?"),
        (["demo", "episodes=3"], "episodes: input should be greater than or equal to 20"),
        (["demo", "--seed", "-1"], "--seed is at least 0"),
        (["evaluate", "nowhere"], "nowhere holds no run"),
        (["evaluate", "nowhere", "planner.horizn=3"], "Did you mean 'planner.horizon'?"),
        (["evaluate"], "missing from innerworld evaluate"),
    ],
)
def test_mistakes(words, told, capsys):
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_an_interrupted_demo_says_how_to_go_on(monkeypatch, capsys):
    def stops(*given):
        raise Interrupted(3, True, 2)

    monkeypatch.setattr(run, "demo", stops)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "innerworld: interrupted at step 3: the same command goes on from there\n"
