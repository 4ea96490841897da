"""`innerworld compare`: what reaches the recipes, what it prints, and mistakes told in one line beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerworld.cli import main
from innerworld.data import Store
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

TINY = "tiny=jepa:none channels=2 latent=4 hidden=8 slices=8"
WIDE = "jepa:none channels=2 latent=6 hidden=8 slices=8"
SETTINGS = ["teaching.batch=4", "teaching.length=3", "exam.clips=8", "exam.horizons=[1,2]"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("store") / "noise"
    store = Store.create(path, Spec({"pixels": (16, 16, 3), "state": (2,)}, 2))
    for seed in range(10):
        store.add(random_clip(store.spec, 1, 9, seed))
    return str(path)


@pytest.mark.slow
def test_it_compares_and_goes_on(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    words = ["compare", TINY, WIDE, "--worlds", data, "--questions", "probing", "control", "--budget", "2updates"]
    assert main([*words, "--seeds", "1", "--out", out, *SETTINGS, "--quiet"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["who", "mean", "rank", "probing", "↑", "control", "↑"]
    assert sum(line.startswith("skipped: ") and "control" in line for line in told) == 2
    page = Path(told[-1].removeprefix("page: "))
    assert page == Path(out) / "compare.html" and "tiny" in page.read_text(encoding="utf-8")
    assert f"innerworld compare &#x27;{TINY}&#x27; " in page.read_text(
        encoding="utf-8"
    )  # can be said again as it stands
    before = (page.parent / "results.csv").read_bytes()
    assert main(["compare", "--resume", "--out", out, "--json", "--quiet"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["updates"]["tiny"] == {"noise": 2} and values["headlines"]["tiny"]["probing"]["runs"] == 1
    assert (page.parent / "results.csv").read_bytes() == before
    assert main(["compare", TINY, WIDE, "--worlds", data, "--out", out, "--budget", "3updates"]) == 2
    assert "holds a plan with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "who is compared?"),
        (["jeppa"], "unknown family of world models 'jeppa'. Did you mean 'jepa'?"),
        (["a=jepa", "a=rssm"], "two entries are called 'a'"),
        (["jepa", "--questions", "probbing"], "unknown question 'probbing'. Did you mean 'probing'?"),
        (["jepa", "--worlds", "two_roms"], "two_roms"),
        (["jepa", "--budget", "long"], "cannot read the budget 'long'"),
        (["jepa", "--sensors", "depth"], "two_rooms: no sensor 'depth' here"),
        (["jepa", "--seeds", "0"], "--seeds is at least 1"),
        (["jepa", "exam.golas=3"], "Did you mean 'exam.goals'?"),
        (["jepa", "--resume"], "leave out entries"),
        (["--resume", "--budget", "3s"], "leave out budget"),
        (["--resume"], "holds no plan to go on with"),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("innerworld: ") and says in told[0]
    assert not (tmp_path / "out").exists()


def test_help_lists_the_questions_and_the_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    told = capsys.readouterr().out
    for words in ("--budget", "controllability", "shuffled_energy_ratio", "control.planner.samples", "exam.goals"):
        assert words in told
    assert "teaching.train.steps" not in told  # the budget decides
