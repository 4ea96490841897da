"""`innerworld sweep` and `cost`: what reaches the recipes, the table, and mistakes told before anything begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerworld.cli import main
from innerworld.data import Store
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
SMALL = ["--preset", "none", "--batch", "4", "--length", "3", "model.channels=2", "model.hidden=8", "train.steps=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("store") / "data"
    store = Store.create(path, SPEC)
    for seed in range(10):
        store.add(random_clip(SPEC, 1, 9, seed))
    return str(path)


@pytest.mark.slow
def test_a_sweep_makes_runs_and_a_table(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "jepa", "--data", data, "--out", str(tmp_path), *SMALL, "model.latent=4,8", "--quiet"]
    assert main([*words, "--workers", "2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["model.latent", "loss", "±", "runs"]
    assert {line.split()[0] for line in table[1:3]} == {"4", "8"} and table[1].endswith("1 of 1")
    assert main([*words, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["combinations"][0]
    assert (Path(best["runs"][0]["run"]) / "run.json").exists()


@pytest.mark.slow
def test_eyes_are_compared_by_what_tells_how_far_they_are(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model.vit.depth=1", "model.global_size=16", "model.local_size=8", "model.slices=16", "train.steps=2"]
    words = ["sweep", "lejepa", "--data", data, "--out", str(tmp_path), "--batch", "4", "--length", "2", *small]
    assert main([*words, "model.weight=0.1,0.5", "--quiet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "effective_rank"
    assert found["combinations"][0]["mean"] >= found["combinations"][1]["mean"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep", "lejpa", "--data", "x", "--out", "y"], "unknown family 'lejpa'. Did you mean 'lejepa'?"),
        (["sweep", "vjepa2", "--data", "x", "--out", "y", "model.vit.dpeth=3"], "Did you mean 'model.vit.depth'?"),
        (["cost", "lejpa"], "Did you mean 'lejepa'?"),
        (["cost", "vjepa2", "--length", "1"], "eyes learn from clips of 2 frames or more"),
        (["sweep", "jepa", "--data", "x", "--out", "y", "model.latnt=3"], "Did you mean 'model.latent'?"),
        (["sweep", "jepa", "--data", "x", "--out", "y", "--seeds", "0"], "--seeds is at least 1"),
        (["sweep", "jepa", "--data", "x", "--out", "y", "--seeds", "2", "train.seed=1,2"], "not by both"),
        (["sweep", "jepa", "--data", "x", "--out", "y", "--workers", "0"], "--workers is at least 1"),
        (["sweep", "jepa", "--data", "x", "--out", "y", "--cluster", "rya"], "Did you mean 'ray'?"),
        (["cost", "jepa", "--batch", "0"], "--batch"),
        (["cost", "jepa", "latnt=3"], "Did you mean 'latent'?"),
    ],
)
def test_mistakes(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_cost_is_shown_and_given(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cost", "jepa", "--preset", "none", "--data", data, "--batch", "2", "--length", "3", "channels=2"]
    assert main([*words, "--processes", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["flops"] == told["flops_forward"] + told["flops_backward"]
    assert told["ddp"]["bytes_sent"] == 4 * 2 * told["parameters"] * 3 // 4
    assert main(words) == 0
    assert "of 2 processes, sent by each under fsdp" in capsys.readouterr().out
    assert main(["cost", "ijepa", "--data", data, "--batch", "1", "--length", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)  # of the tiny preset
    assert told["parameters_still"] > 600_000 and told["bytes_read"] > 2 * 16 * 16 * 3
