"""Watching a run: the episode is the world's, imagination follows its actions, the page shows what there is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from innerworld import envs
from innerworld.cli import main
from innerworld.config import build
from innerworld.data import About, Smooth, Store, collect
from innerworld.errors import UserError
from innerworld.models import RSSM, Dreamer
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.policy import ActorConfig, ActorCriticConfig, CriticConfig
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.online import practise
from innerworld.recipes.playing import Watching, dream, driven, play_episode, play_run
from innerworld.recipes.playing_page import sections
from innerworld.recipes.practice import Online, Practice
from innerworld.report import Movie
from innerworld.training import TrainConfig
from innerworld.types import Spec
from innerworld.world import flatten

WORLD = RSSM.Config(deter=16, hidden=8, stoch=4, classes=4, units=8, layers=1, depth=2, image="strided", mults=(1, 2))
HEADS = ActorCriticConfig(actor=ActorConfig(units=8, layers=1), critic=CriticConfig(units=8, layers=1), horizon=3)
TINY = DreamerConfig(world=WORLD, actor_critic=HEADS)
BODY = {"dim": 16, "depth": 1, "heads": 2, "mlp": 1.0, "window": 4}
CODES = {
    "codec": {"width": 4, "image_size": 16},
    "levels": 4,
    "labels": {"count": 6, "length": 3},
    "dynamics": {"backbone": BODY | {"steering": "token"}, "steps": 2},
    "actions": {"book": {"codes": 3}, "width": 4, "pixels": 8, "backbone": BODY | {"steering": "none"}},
}
EYES = {"channels": 2, "latent": 4, "hidden": 8}
DIAL = {"generative": 0.0, "reward": 0.0, "continues": 0.0, "jepa": EYES}  # the end that is a JEPA
VAE = {"z": 4, "hidden": 8, "mixtures": 2, "image": "strided", "depth": 2, "stages": 2, "units": 8, "bins": 9}


def tiny(spec: Spec) -> Dreamer:
    torch.manual_seed(0)
    return Dreamer(TINY, spec)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    online = Online(env="CartPole-v1", sensors=("state",), prefill=40, batch=2, length=8, eval_every=0)
    train = TrainConfig(steps=2, device="cpu")
    practise(Practice(model=TINY.model_dump(mode="json"), online=online, train=train), folder, quiet=True)
    return folder


def test_an_episode_is_what_the_world_showed(run: Path) -> None:
    model = tiny(Spec({"state": (4,)}, 2, discrete=True))
    with closing(envs.make("CartPole-v1", 1, sensors=["state", "pixels"])) as world:
        episode = play_episode(model, world, steps=300, seed=3)
        again = play_episode(model, world, steps=300, seed=3)
    clip = episode.clip
    assert list(clip.obs) == ["state"] and episode.pictures is not None
    assert episode.pictures.shape == (clip.length + 1, 64, 64, 3)
    assert bool(clip.terminated[0, -1]) and not clip.terminated[0, :-1].any() and not episode.truncated
    assert episode.score == clip.length
    watched = flatten(model.watch(clip), 2)
    torch.testing.assert_close(episode.beliefs["deter"], watched["deter"], atol=1e-5, rtol=0)
    assert torch.equal(clip.action, again.clip.action) and np.array_equal(episode.pictures, again.pictures)


def test_it_stops_at_the_step_that_was_asked_for() -> None:
    model = tiny(Spec({"state": (4,)}, 2, discrete=True))
    with closing(envs.make("CartPole-v1", 1, sensors=["state"])) as world:
        episode = play_episode(model, world, steps=4)
    assert episode.clip.length == 4 and not episode.truncated and episode.pictures is None


def test_imagination_follows_the_episodes_actions_and_the_dream_its_own() -> None:
    model = tiny(Spec({"state": (4,)}, 2, discrete=True))
    with closing(envs.make("CartPole-v1", 1, sensors=["state"])) as world:
        episode = play_episode(model, world, steps=9)
    found = dream(model, episode, start=3, horizon=5)
    state = {name: value[3:4] for name, value in episode.beliefs.items()}
    for t in range(5):
        state = model.predict(state, episode.clip.action[:, 3 + t])
        torch.testing.assert_close(found.told["state"][t], model.decode(state)["state"][0])
    assert found.dreamt["state"].shape == (5, 4) and found.dreamt["reward"].shape == (5,)
    assert not torch.allclose(found.dreamt["state"], found.told["state"])


def test_who_sees_pictures_dreams_in_pictures() -> None:
    model = tiny(Spec({"pixels": (16, 16, 3)}, 2, discrete=True))
    with closing(envs.make("CartPole-v1", 1, 16, sensors=["pixels"])) as world:
        episode = play_episode(model, world, steps=8)
    shown = sections(model, episode, [dream(model, episode, 2, 4)], {})
    (real,) = (block for block in shown[0].blocks if isinstance(block, Movie))
    assert [title for title, _ in real.panels] == ["the world", "what it believes to see (pixels)"]
    (blind,) = (block for block in shown[1].blocks if isinstance(block, Movie))
    assert [title for title, _ in blind.panels] == ["real", "imagined", "difference", "dream"]
    assert all(frames.shape == (4, 16, 16, 3) for _, frames in blind.panels)
    told, real_frames, apart = blind.panels[1][1].astype(int), blind.panels[0][1].astype(int), blind.panels[2][1]
    assert np.abs(128 + (told - real_frames) / 2 - apart).max() <= 1


def test_the_page_of_a_run(run: Path, tmp_path: Path) -> None:
    values = play_run(run, tmp_path / "watch.html", Watching(steps=20, horizon=5))
    assert values["env"] == "CartPole-v1" and values["return"] == values["steps"]
    text = (tmp_path / "watch.html").read_text(encoding="utf-8")
    assert "With eyes shut from step" in text and "Going on" in text and "image/webp" in text


def test_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", str(run), "--steps", "10", "--horizon", "4", "--terminal"]) == 0
    assert (run / "play.html").exists() and "CartPole-v1" in capsys.readouterr().out
    assert main(["play", str(run), "--steps", "0"]) != 0
    assert "--steps is at least 1" in capsys.readouterr().err
    assert main(["play", str(run), "--seed", "-1"]) == 2
    assert "--seed is at least 0" in capsys.readouterr().err


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        play_run(tmp_path)


# ---------------------------------------------------------------------- who learnt from a store


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of two rooms and two runs taught from it, of which one decodes and one does not."""
    folder = tmp_path_factory.mktemp("taught")
    worlds = envs.make("two_rooms", 4, size=32, max_steps=12)
    spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(folder / "data", spec, About(env="two_rooms"))
    collect(worlds, Smooth(spec), 8, store)
    train = TrainConfig(steps=2, device="cpu")
    shared = {"data": str(folder / "data"), "held_out": 0.3, "batch": 2, "length": 4, "train": train}
    for family, model in (("world_models", VAE), ("jepa", EYES), ("glp", DIAL), ("genie", CODES)):
        teach(build(Lesson, {"family": family, "model": model, "sensors": ["pixels"], **shared}), folder / family, True)
    return folder


def test_a_held_out_episode_is_followed(taught: Path, tmp_path: Path) -> None:
    run = taught / "world_models"
    values = play_run(run, tmp_path / "watch.html", Watching(horizon=4), films=tmp_path / "films")
    assert (values["by"], values["env"], values["steps"]) == ("recorded", "two_rooms", 12)
    text = (tmp_path / "watch.html").read_text(encoding="utf-8")
    assert "As it was recorded" in text and "Each action held" in text and "action 1 at -1" in text
    assert "dream is its own" not in text  # nobody has a policy
    names = [Path(film).name for film in values["films"]]
    assert names == [
        "as-it-was-recorded.webp",
        "with-eyes-shut-from-step-5.webp",
        "with-eyes-shut-from-step-6.webp",
        "each-action-held.webp",
    ]
    with Image.open(tmp_path / "films" / names[1]) as film:
        assert film.format == "WEBP" and len(list(ImageSequence.Iterator(film))) == 4
    other = play_run(run, tmp_path / "other.html", Watching(horizon=4, episode=1, steps=5))
    assert other["steps"] == 5


def test_chance_acts_in_the_world_of_the_store(taught: Path, tmp_path: Path) -> None:
    shown: list[tuple[int, ...]] = []
    values = play_run(
        taught / "world_models",
        tmp_path / "watch.html",
        Watching(by="uniform", steps=9, horizon=3, seed=4),
        onlooker=lambda picture, score: shown.append(picture.shape),
    )
    assert values["steps"] == 9 and shown == [(32, 32, 3)] * 10
    assert "Chance acts, the model looks" in (tmp_path / "watch.html").read_text(encoding="utf-8")


def test_who_found_actions_itself_is_steered_by_them(taught: Path, tmp_path: Path) -> None:
    play_run(taught / "genie", tmp_path / "both.html", Watching(horizon=2, steps=6))
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "Each action held" in text and "Each latent action held" in text and "latent action 2" in text
    play_run(taught / "genie", tmp_path / "codes.html", Watching(horizon=2, steps=6, codes=True))
    text = (tmp_path / "codes.html").read_text(encoding="utf-8")
    assert "Each latent action held" in text and "Each action held" not in text
    with driven(taught / "genie", Watching(codes=True)) as drive:
        assert drive.lives is None and drive.model.spec.action == 3
        drive.press(torch.tensor([0.0, 1.0, 0.0]))
        assert drive.picture().shape == (32, 32, 3)


def test_chance_may_act_where_a_policy_learnt(run: Path, tmp_path: Path) -> None:
    values = play_run(run, tmp_path / "watch.html", Watching(by="uniform", steps=5, horizon=2))
    assert (values["by"], values["steps"]) == ("uniform", 5)
    assert "Chance acts" in (tmp_path / "watch.html").read_text(encoding="utf-8")


def test_what_cannot_be_watched_is_told_in_a_line(taught: Path, run: Path) -> None:
    for blind in ("jepa", "glp"):
        with pytest.raises(UserError, match="decodes nothing, there is no dream to see"):
            play_run(taught / blind)
    with pytest.raises(UserError, match="has learnt no policy"):
        play_run(taught / "world_models", watching=Watching(by="policy"))
    with pytest.raises(UserError, match=r"unknown policy 'unifrom'\. Did you mean 'uniform'"):
        play_run(taught / "world_models", watching=Watching(by="unifrom"))
    with pytest.raises(UserError, match="no held-out episode 2: they go from 0 to 1"):
        play_run(taught / "world_models", watching=Watching(episode=2))
    with pytest.raises(UserError, match="found no actions of its own"):
        play_run(taught / "world_models", watching=Watching(codes=True))
    with pytest.raises(UserError, match="learnt in a world and has no recordings"):
        play_run(run, watching=Watching(by="recorded"))


def test_a_dream_is_driven_beside_the_world_or_alone(taught: Path) -> None:
    with driven(taught / "world_models", Watching(seed=2)) as drive:
        before = drive.picture()
        assert before.shape == (32, 66, 3)
        drive.press(torch.tensor([1.0, 0.0]))
        after = drive.picture()
        assert not np.array_equal(before[:, :32], after[:, :32])  # the world moved
        assert drive.steps == 1 and drive.blind == 1
    with driven(taught / "world_models", Watching(by="recorded")) as drive:
        assert drive.lives is None and drive.picture().shape == (32, 32, 3)
