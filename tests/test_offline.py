"""Working with local paths makes no network call: collect, train, track, resume, load, list, with the network cut."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from innerworld import checkpoint, models
from innerworld.data import About, Clips, Store, Uniform, collect
from innerworld.envs import make, spec_of
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.runs import find_runs
from innerworld.training import TrainConfig


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that were tried; each fails as on a machine without a network."""
    tried: list[str] = []

    def refuse(name: str) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            tried.append(f"{name} {given}")
            raise OSError("the network is cut")

        return call

    for name in ("create_connection", "getaddrinfo", "gethostbyname", "getfqdn"):
        monkeypatch.setattr(socket, name, refuse(name))
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    return tried


def test_the_cut_is_felt(cut: list[str]) -> None:
    with pytest.raises(OSError, match="cut"):
        socket.create_connection(("127.0.0.1", 9))
    assert len(cut) == 1


def test_nothing_calls_home(tmp_path: Path, cut: list[str]) -> None:
    worlds = make("two_rooms", 4, 32, max_steps=6)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="two_rooms", policy="uniform", seed=0))
    collect(worlds, Uniform(spec), 30, store)
    assert Clips(Store.open(tmp_path / "data"), range(30), 2, 4).batch(0).length == 2

    config = models.config("jepa", "small", ["channels=4", "latent=8", "hidden=16", "rollout=2"])
    for steps in (2, 3):
        train = TrainConfig(steps=steps, check_every=100, device="cpu", threads=1)
        lesson = Lesson(
            data=str(tmp_path / "data"), batch=4, length=2, model=config.model_dump(mode="json"), train=train
        )
        model = teach(lesson, tmp_path / "run", quiet=True, resume=steps > 2, track=("tensorboard",))
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    loaded = checkpoint.load(tmp_path / "run")
    assert type(loaded) is type(model)
    assert find_runs(tmp_path)[0].step == 3
    assert cut == []
