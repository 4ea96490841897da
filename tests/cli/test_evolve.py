"""`innerworld evolve`: from a store to a controller, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerworld.cli import main

pytest.importorskip("cma")
WORDS = ["generations=1", "cma.population=4", "rollouts=2", "horizon=3", "context=2"]


def test_collect_train_evolve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    collect = f"collect CartPole-v1 --out {data} --episodes 6 --envs 3 --sensors state --quiet"
    train = f"train world_models --data {data} --out {run} --batch 4 --length 4 --no-page --quiet --preset none"
    tiny = "model.z=4 model.hidden=8 model.units=8 model.bins=41 train.steps=2 train.device=cpu"
    assert main(collect.split()) == 0
    assert main([*train.split(), *tiny.split()]) == 0
    capsys.readouterr()
    evolve = ["evolve", str(run), "--episodes", "2", "--max-steps", "30", "--device", "cpu", "--quiet"]
    assert main([*evolve, *WORDS, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["parameters"] == (4 + 8 + 1) * 2 and values["controller"] == str(run / "evolved-dream")
    assert 1 <= values["world"]["controller"]["return"] <= 30
    assert main([*evolve, *WORDS]) == 0
    shown = capsys.readouterr().out
    assert "random" in shown and "controller, in dreams" in shown and "26 parameters" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--preset", "papper"], "paper"),
        (["--episodes", "0"], "--episodes is at least 1"),
        (["generation=3"], "generations"),
        (["--where", "sea"], "where"),
        ([], "holds no run"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evolve", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_help_lists_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evolve", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--where" in shown and "cma.population" in shown and "horizon" in shown
