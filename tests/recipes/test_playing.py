"""Watching a policy: the episode is the world's, imagination follows its actions, the page shows what there is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld import envs
from innerworld.cli import main
from innerworld.errors import UserError
from innerworld.models import RSSM, Dreamer
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.policy import ActorConfig, ActorCriticConfig, CriticConfig
from innerworld.recipes.online import practise
from innerworld.recipes.playing import dream, moments, play_episode, play_run, sections
from innerworld.recipes.practice import Online, Practice
from innerworld.report import Movie
from innerworld.training import TrainConfig
from innerworld.types import Spec
from innerworld.world import flatten

WORLD = RSSM.Config(deter=16, hidden=8, stoch=4, classes=4, units=8, layers=1, depth=2, image="strided", mults=(1, 2))
HEADS = ActorCriticConfig(actor=ActorConfig(units=8, layers=1), critic=CriticConfig(units=8, layers=1), horizon=3)
TINY = DreamerConfig(world=WORLD, actor_critic=HEADS)


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


@pytest.mark.parametrize(("length", "expected"), [(1, [0]), (4, [2]), (12, [5, 6]), (400, [5, 200])])
def test_eyes_are_shut_where_enough_is_left(length: int, expected: list[int]) -> None:
    model = tiny(Spec({"state": (4,)}, 2, discrete=True))
    with closing(envs.make("CartPole-v1", 1, sensors=["state"])) as world:
        episode = play_episode(model, world, steps=5)
    long = type(episode)(
        type(episode.clip)(
            {"state": torch.zeros(1, length + 1, 4)},
            torch.zeros(1, length, 2),
            torch.zeros(1, length),
            torch.zeros(1, length, dtype=torch.bool),
        ),
        episode.beliefs,
        None,
        False,
    )
    assert moments(long, 45) == expected


def test_who_sees_pictures_dreams_in_pictures() -> None:
    model = tiny(Spec({"pixels": (16, 16, 3)}, 2, discrete=True))
    with closing(envs.make("CartPole-v1", 1, 16, sensors=["pixels"])) as world:
        episode = play_episode(model, world, steps=8)
    shown = sections(model, episode, [dream(model, episode, 2, 4)])
    (real,) = (block for block in shown[0].blocks if isinstance(block, Movie))
    assert [title for title, _ in real.panels] == ["the world", "what it believes to see (pixels)"]
    (blind,) = (block for block in shown[1].blocks if isinstance(block, Movie))
    assert [title for title, _ in blind.panels] == ["real", "imagined", "difference", "dream"]
    assert all(frames.shape == (4, 16, 16, 3) for _, frames in blind.panels)
    told, real_frames, apart = blind.panels[1][1].astype(int), blind.panels[0][1].astype(int), blind.panels[2][1]
    assert np.abs(128 + (told - real_frames) / 2 - apart).max() <= 1


def test_the_page_of_a_run(run: Path, tmp_path: Path) -> None:
    values = play_run(run, tmp_path / "watch.html", steps=20, horizon=5)
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
    with pytest.raises(UserError, match="holds no run"):
        play_run(tmp_path)
