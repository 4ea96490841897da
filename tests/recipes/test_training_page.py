"""The page of a training: of eyes and of world models, with neighbours, drawings and films; it teaches nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld import checkpoint, families
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.evaluate import latents
from innerworld.recipes.foresight import movies
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.single import evaluate_run
from innerworld.recipes.training_page import show_training
from innerworld.recipes.two_rooms import Control
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (16, 16, 3), "state": (2,)}, 2)
TRAIN = TrainConfig(steps=4, log_every=1, check_every=2, save_every=2, device="cpu")
WORDS = {
    "jepa": ["image_size=16", "channels=2", "latent=8", "hidden=16", "slices=16", "rollout=2"],
    "vjepa2": [
        *("vit.depth=1", "vit.dim=24", "vit.heads=2", "vit.mlp=24", "vit.patch=4"),
        *("predictor.dim=24", "predictor.heads=2", "predictor.depth=1", "predictor.mlp=24"),
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and a run of each family."""
    home = tmp_path_factory.mktemp("home")
    store = Store.create(home / "data", SPEC)
    for seed in range(8):
        store.add(random_clip(SPEC, 1, 9, seed))
    for family in WORDS:
        teach(lesson(home / "data", family), home / family, quiet=True)
    return home


@pytest.fixture(autouse=True)
def few_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "LEARNT", 60)
    monkeypatch.setattr(latents, "HELD", 30)


def lesson(data: Path, family: str, **other: Any) -> Lesson:
    settings = families.config(family, families.first_preset(family), WORDS[family]).model_dump(mode="json")
    plain = {"family": family, "data": str(data), "batch": 4, "length": 4, "model": settings, "workers": 0}
    return Lesson.model_validate(plain | {"train": TRAIN.model_dump(), "sensors": ["pixels"]} | other)


def titles(page: Path) -> list[str]:
    return [part.partition("<")[0] for part in page.read_text(encoding="utf-8").split('-h">')[1:] if part[0] != "\n"]


def test_eyes_have_curves_neighbours_and_drawings(runs: Path) -> None:
    page = show_training(runs / "vjepa2", quiet=True, command="innerworld train vjepa2")
    assert page == runs / "vjepa2" / "train.html"
    assert titles(page) == [
        *("What was taught from what", "How it learnt", "What it takes for alike"),
        *("What its latents keep", "How it was made"),
    ]
    text = page.read_text(encoding="utf-8")
    for chart in ("effective rank", "spread", "alignment", "uniformity", "can the state be read off?"):
        assert f"Collapse watch: {chart}" in text
    assert "did not ring in 3 looks" in text and "innerworld train vjepa2" in text and "R² over all held-out" in text
    assert "The collapse alarm rang" not in text


def test_a_world_model_without_a_decoder_has_films_of_what_it_imagines(runs: Path) -> None:
    page = show_training(runs / "jepa", quiet=True)
    assert "What it imagines" in titles(page)
    text = page.read_text(encoding="utf-8")
    assert "jepa, imagined (nearest seen)" in text and "jepa, imagined (small decoder)" in text


def test_nothing_is_taught_by_looking(runs: Path) -> None:
    files = [path for path in (runs / "jepa").rglob("*") if path.is_file() and path.name != "train.html"]
    before = {path: path.read_bytes() for path in files}
    state = torch.get_rng_state()
    show_training(runs / "jepa", quiet=True)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_alarm_is_said_at_the_top(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    teach(lesson(runs / "data", "vjepa2"), run, quiet=True)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows[-1] |= {"effective_rank": 1.01, "alarm": 1.0}
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = show_training(run, quiet=True).read_text(encoding="utf-8")
    assert "The collapse alarm rang." in text and "RANG at step 3" in text


def test_where_there_are_no_pictures_the_curves_are_the_page(tmp_path: Path) -> None:
    spec = SPEC.only("state")
    store = Store.create(tmp_path / "data", spec)
    for seed in range(4):
        store.add(random_clip(spec, 1, 9, seed))
    teach(lesson(tmp_path / "data", "jepa", sensors=["state"]), tmp_path / "run", quiet=True)
    page = show_training(tmp_path / "run", quiet=True)
    assert titles(page) == ["What was taught from what", "How it learnt", "How it was made"]


def test_eyes_are_evaluated_by_what_they_keep(runs: Path, tmp_path: Path) -> None:
    made = evaluate_run(runs / "vjepa2", None, Control(), seed=0, quiet=True)
    found = made["results"]["vjepa2"]
    assert {"effective_rank", "probe_r2", "neighbour_distance", "decoded_r2"} <= set(found)
    assert made["untried"] == "eyes only see" and Path(made["report"]) == runs / "vjepa2" / "report.html"
    assert json.loads((runs / "vjepa2" / "results.json").read_text())["results"]["vjepa2"] == found
    other = Store.create(tmp_path / "other", SPEC)
    for seed in range(20, 26):
        other.add(random_clip(SPEC, 1, 9, seed))
    assert evaluate_run(runs / "vjepa2", tmp_path / "other", Control(), 0, True)["results"]["vjepa2"] != found


def test_a_report_shows_latents_unless_told_not_to(runs: Path) -> None:
    shown = evaluate_run(runs / "jepa", None, Control(), seed=0, quiet=True)
    assert "What its latents keep" in titles(runs / "jepa" / "report.html")
    plain = evaluate_run(runs / "jepa", None, Control(), seed=0, quiet=True, latents=False)
    assert "What its latents keep" not in titles(runs / "jepa" / "report.html")
    more = set(shown["results"]["jepa"]) - set(plain["results"]["jepa"])
    assert more == {"neighbour_distance", "neighbour_distance_pixels", "decoded_r2"}


def test_films_skip_frames_as_the_lesson_did(runs: Path) -> None:
    store = Store.open(runs / "data")
    config = families.config("jepa", "small", WORDS["jepa"])
    skipped = lesson(runs / "data", "jepa", frame_skip=3)
    model = families.build("jepa", config, Spec({"pixels": (16, 16, 3)}, 6)).eval()
    assert isinstance(model, WorldModel)
    films = movies({"jepa": model}, {}, {"jepa": skipped}, store, 0)
    assert len(films) == 3 and {len(frames) for _, frames in films[0].panels} == {4}
    plain = checkpoint.load(runs / "jepa", kind=WorldModel)
    both = {"a": model, "b": plain}
    assert movies(both, {}, {"a": skipped, "b": lesson(runs / "data", "jepa")}, store, 0) == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        show_training(tmp_path, quiet=True)
