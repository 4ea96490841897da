"""Ids of suites: which belong to one, what is said of a wrong one, and of a package that is not there."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from pydantic import Field

from innerworld.envs import SUITES, make, make_one
from innerworld.envs.suites import Suite, SuiteConfig, SuiteWorld, in_suite
from innerworld.errors import UserError


class ToyConfig(SuiteConfig):
    strength: float = Field(default=1.0, description="what a step adds", gt=0)
    colored: bool = Field(default=True, description="pictures of three channels")


class Toy(SuiteWorld):
    """Shows the sum of its steps."""

    metadata = {"render_modes": ["rgb_array"], "frames_per_step": 4}  # noqa: RUF012
    Config = ToyConfig

    def __init__(self, config: ToyConfig, size: int = 64, render_mode: str | None = None) -> None:
        super().__init__(config, size, render_mode)
        self.observation_space = spaces.Box(-99, 99, (1,), np.float64)
        self.action_space = spaces.Discrete(2)
        self.at, self.t = 0.0, 0

    @classmethod
    def tasks(cls) -> list[str]:
        return ["walk", "run"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.at, self.t = 0.0, 0
        return np.array([self.at]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.at, self.t = self.at + self.config.strength, self.t + 1
        return np.array([self.at]), self.config.strength, False, self.t == self.config.max_steps, {}

    def render(self) -> Any:
        return np.full((self.size, self.size, 3), 7, np.uint8)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "toy", Suite("a toy", "toys", "numpy", lambda: Toy))


def test_the_task_and_its_settings_are_read_from_the_id() -> None:
    env = make_one("toy:run,strength=2.5", sensors=["state"], max_steps=2)
    env.reset()
    assert env.step(0)[0]["state"] == 2.5 and env.step(0)[3]
    assert make("toy:walk,strength=2.5,colored=false", 2, sensors=["state"]).num_envs == 2


def test_pictures_are_drawn_only_when_they_are_asked_for() -> None:
    assert list(make_one("toy:run", size=16).reset()[0]) == ["pixels", "state"]
    assert make_one("toy:run", sensors=["state"]).render_mode is None
    assert make_one("toy:run", size=16, sensors=["pixels"]).reset()[0]["pixels"].shape == (16, 16, 3)


def test_frames_are_those_of_the_world_times_the_repeats() -> None:
    assert make("toy:run", 2, action_repeat=3).metadata["frames_per_step"] == 12
    assert make_one("toy:run", action_repeat=3).metadata["frames_per_step"] == 12


@pytest.mark.parametrize(
    ("id", "says"),
    [
        ("toy:runn", "toy has no world 'runn'. Did you mean 'run'. It has 2: walk, run"),
        ("toy:", "toy has no world ''"),
        ("toy:run,strenght=2", "unknown key 'strenght'. Did you mean 'strength'"),
        ("toy:run,strength=-1", "strength: input should be greater than 0"),
        ("toy:run,strength", "write overrides as key=value"),
    ],
)
def test_a_wrong_id_is_told_in_one_line(id: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        make(id)
    assert says.replace("'run'.", "'run'?") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("id", "extra"),
    [
        ("dmc:walker-walk", "dmc"),
        ("atari:pong", "atari"),
        ("ALE/Pong-v5", "atari"),
        ("minigrid:MiniGrid-Empty-5x5-v0", "grid"),
        ("MiniGrid-Empty-5x5-v0", "grid"),
        ("BabyAI-GoToRedBall-v0", "grid"),
        ("crafter:reward", "crafter"),
        ("minatar:breakout", "minatar"),
    ],
)
def test_a_missing_package_is_told_with_its_pip_line(monkeypatch: pytest.MonkeyPatch, id: str, extra: str) -> None:
    monkeypatch.setattr("innerworld.envs.suites.find_spec", lambda module: None)
    for build in (make, make_one):
        with pytest.raises(UserError, match=rf'not installed: pip install "innerworld\[{extra}\]"$'):
            build(id)


def test_other_ids_belong_to_no_suite() -> None:
    assert in_suite("CartPole-v1") is None and in_suite("some_module:Thing-v0") is None
    assert in_suite("MiniGrid-Empty-5x5-v0") == "minigrid:MiniGrid-Empty-5x5-v0"


def test_arguments_of_a_gymnasium_world_follow_its_id() -> None:
    loose = make_one("Pendulum-v1,g=1.5", sensors=["state"])
    world: Any = loose.unwrapped
    assert world.g == 1.5
    with pytest.raises(UserError, match="unexpected keyword argument 'gravity'"):
        make("Pendulum-v1,gravity=1.5", sensors=["state"])
    with pytest.raises(UserError, match="cannot read 'g' in 'Pendulum-v1,g'"):
        make("Pendulum-v1,g", sensors=["state"])


def test_a_world_of_gymnasium_that_lacks_its_package_names_our_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*args: Any, **kwargs: Any) -> gymnasium.Env:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gymnasium, "make", lacking)
    for id, extra in (("LunarLander-v3", "box2d"), ("HalfCheetah-v5", "mujoco")):
        with pytest.raises(UserError, match=rf'{id} needs a package .* pip install "innerworld\[{extra}\]"'):
            make(id)


def test_a_module_that_mujoco_s_worlds_need_names_our_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*args: Any, **kwargs: Any) -> gymnasium.Env:
        raise ModuleNotFoundError("No module named 'imageio'", name="imageio")

    monkeypatch.setattr(gymnasium, "make", lacking)
    with pytest.raises(
        UserError, match=r"HalfCheetah-v5 needs the module 'imageio': pip install .innerworld\[mujoco\]"
    ):
        make("HalfCheetah-v5")


def test_pictures_that_need_pygame_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_one("CartPole-v1")

    def lacking() -> None:
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(env.unwrapped, "render", lacking)
    with pytest.raises(UserError, match=r'innerworld\[envs\]".*sensors='):
        env.reset()
