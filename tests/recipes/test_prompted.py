"""Worlds that begin with a sentence: the sentence decides them, they go on by actions, a page shows them, keys too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from innerworld import checkpoint, envs
from innerworld.cli import main
from innerworld.config import build
from innerworld.data import About, Smooth, Store, collect
from innerworld.errors import UserError
from innerworld.models import Video
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.playing import Watching, driven, play_run
from innerworld.recipes.prompted import begun, wandered
from innerworld.training import TrainConfig
from innerworld.world import WorldModel

BODY = {"dim": 16, "depth": 1, "heads": 2, "mlp": 1.0, "window": 4}
TINY = {"codec": {"width": 4, "image_size": 16}, "backbone": BODY, "steps": 2}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told where its goal is as a film's prompt, and one that was told nothing."""
    folder = tmp_path_factory.mktemp("prompted")
    worlds = envs.make("two_rooms", 4, size=32, max_steps=8)
    spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
    vector = spec.vectors()[0]
    store = Store.create(folder / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), 6, store)
    shared = {"data": str(folder / "data"), "batch": 2, "length": 3, "train": TrainConfig(steps=2, device="cpu")}
    for name, prompt in (("told", vector), ("untold", "")):
        lesson = {"family": "video", "model": TINY | {"prompt": prompt}, "sensors": ["pixels", vector], **shared}
        teach(build(Lesson, lesson), folder / name, True)
    return folder


def loaded(run: Path) -> Video:
    """With weights large enough that a sentence shows after two updates."""
    model = checkpoint.load(run, kind=WorldModel)
    assert isinstance(model, Video)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.net.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return model.eval()


def test_a_sentence_and_a_seed_decide_the_worlds(taught: Path) -> None:
    model = loaded(taught / "told")
    one, again, other = (begun(model, words, 3)["z"] for words in ("go left", "Go, left!", "go right"))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert not torch.equal(one[0], one[1]) and not torch.equal(one, begun(model, "go left", 3, seed=1)["z"])


def test_films_begin_with_what_was_drawn_and_go_on(taught: Path) -> None:
    model = loaded(taught / "told")
    worlds = begun(model, "go left", 3)
    films = wandered(model, worlds, 5)["pixels"]
    assert films.shape == (3, 6, 32, 32, 3)
    torch.testing.assert_close(films[:, 0], model.decode(worlds)["pixels"])
    assert not torch.equal(films[:, 1], films[:, 0]) and not torch.equal(films[:, 5], films[:, 1])


def test_the_page_and_the_films(taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, page = taught / "told", tmp_path / "page.html"
    values = play_run(run, page, Watching(prompt="go <left>", horizon=3), films=tmp_path / "films")
    assert values["prompt"] == "go <left>" and values["steps"] == 3
    assert [Path(film).name for film in values["films"]] == ["begun-with-a-sentence.webp", "each-action-held.webp"]
    text = page.read_text(encoding="utf-8")
    assert "go &lt;left&gt;" in text and "world 4" in text and "each action is done again" in text
    assert main(["play", str(run), "--prompt", "go left", "--horizon", "2", "--out", str(page)]) == 0
    assert "page:" in capsys.readouterr().out
    assert "--prompt &#x27;go left&#x27; --horizon" in page.read_text(encoding="utf-8")  # a shell takes it so


def test_how_it_draws_may_change_and_what_it_learnt_with_may_not(taught: Path, tmp_path: Path) -> None:
    run = taught / "told"
    with driven(run, Watching(prompt="go left", changes=("steps=5", "context=0.8"))) as drive:
        assert isinstance(drive.model, Video) and drive.model.settings.steps == 5
        assert drive.model.settings.context == 0.8 and drive.model.settings.codec.width == 4
    said = main(
        ["play", str(run), "--prompt", "go left", "--horizon", "2", "--out", str(tmp_path / "p"), "model.steps=3"]
    )
    assert said == 0
    with pytest.raises(UserError, match=r"of a taught video 'stps' stays as it is\. Did you mean 'steps'\?"):
        checkpoint.load(run, changes=["stps=3"])
    with pytest.raises(UserError, match=r"of a taught video 'codec\.width' stays as it is\. May change: steps"):
        checkpoint.load(run, changes=["codec.width=8"])
    assert main(["play", str(run), "steps=3"]) == 2


def test_keys_drive_on_from_a_sentence(taught: Path) -> None:
    with driven(taught / "told", Watching(prompt="go left")) as drive:
        first = drive.picture()
        assert drive.lives is None and first.shape == (32, 32, 3)
        drive.press(torch.tensor([1.0, 0.0]))
        drive.restart()
        assert drive.steps == 0 and (drive.picture() == first).all()


def test_what_cannot_begin_is_told_in_a_line(taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="was told no sentences: leave out --prompt"):
        play_run(taught / "untold", watching=Watching(prompt="go left"))
    with pytest.raises(UserError, match="has no words in it"):
        play_run(taught / "told", watching=Watching(prompt=" ?! "))
    assert main(["play", str(taught / "told"), "--prompt", "go", "--by", "uniform"]) != 0
    assert "begins out of nothing: leave out --by" in capsys.readouterr().err
