"""Any Gymnasium environment in the convention: sensors, actions, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from innerworld.envs import ENVS, adapt, make, make_one, shrink, spec_of
from innerworld.errors import UserError

CONTINUOUS = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)


class Fake(gymnasium.Env):
    """Shows what it is told to show, and remembers the action."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        space: spaces.Space,
        value: Any,
        action: spaces.Space = CONTINUOUS,
        mode: str | None = None,
        reward: Any = 0,
    ) -> None:
        self.observation_space, self.action_space, self.render_mode = space, action, mode
        self.value, self.reward, self.did = value, reward, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.value, {"options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.did = action
        return self.value, self.reward, True, False, {"extra": 7}

    def render(self) -> np.ndarray:
        return np.full((40, 60, 3), 9, np.uint8)


VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float64)


def vector_env(action: spaces.Space = CONTINUOUS, value: Any = (1.0, 2.0, 3.0), reward: Any = 0) -> Fake:
    return Fake(VECTOR, np.array(value), action, reward=reward)


def test_vectors_become_float32_and_info_passes():
    env = adapt(vector_env())
    obs, info = env.reset(seed=0, options={"a": 1})
    assert list(obs) == ["state"] and obs["state"].dtype == np.float32
    assert obs["state"].tolist() == [1, 2, 3]
    assert info == {"options": {"a": 1}}
    obs, reward, terminated, truncated, info = env.step(np.zeros(2))
    assert (reward, terminated, truncated, info) == (0.0, True, False, {"extra": 7})


def test_actions_are_scaled_to_the_environments_own_bounds():
    inner = vector_env()
    env = adapt(inner)
    assert env.action_space == spaces.Box(-1, 1, (2,), np.float32)
    for unit, own in (([-1, -1], [-2, 0]), ([0, 0], [0, 5]), ([1, 1], [2, 10]), ([0.5, -0.5], [1, 2.5])):
        env.step(np.array(unit))
        np.testing.assert_allclose(inner.did, own)
        assert inner.did.dtype == np.float64


def test_an_action_within_rounding_stays_within_the_bounds():
    inner = vector_env()
    adapt(inner).step(np.array([1 + 5e-7, -1 - 5e-7]))
    assert inner.action_space.contains(inner.did)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ([0.0, 1.5], "dimension 1 is 1.5, its bound is 1"),
        ([-1.01, 0.0], "dimension 0 is -1.01, its bound is -1"),
        ([0.0, np.nan], "dimension 1 is nan"),
        ([0.0], r"shape \(1,\), expected \(2,\)"),
    ],
)
def test_an_action_out_of_bounds_is_refused(action: list[float], says: str):
    inner = vector_env()
    with pytest.raises(UserError, match=says):
        adapt(inner).step(np.array(action))
    assert inner.did is None


def test_action_axes_are_flattened():
    inner = vector_env(spaces.Box(-3, 3, (2, 2), np.float32))
    env = adapt(inner)
    assert env.action_space.shape == (4,)
    env.step(np.array([-1, 0, 1, 1]))
    assert inner.did.tolist() == [[-3, 0], [3, 3]]


def test_unbounded_actions_need_bounds():
    inner = vector_env(spaces.Box(-np.inf, np.inf, (2,), np.float32))
    with pytest.raises(UserError, match=r"dimension 0 has no bounds.*action_low and action_high"):
        adapt(inner)
    adapt(inner, action_low=-2, action_high=[2, 6]).step(np.array([1, 0]))
    assert inner.did.tolist() == [2, 2]
    for far in (1e10, np.finfo(np.float32).max):  # what some write for no bounds
        with pytest.raises(UserError, match="dimension 0 has no bounds"):
            adapt(vector_env(spaces.Box(-far, far, (1,), np.float32)))


@pytest.mark.parametrize(("low", "high"), [(-3, 2), (1, 0.5), ([0, 0, 0], 1)])
def test_bounds_that_do_not_fit_are_refused(low: Any, high: Any):
    with pytest.raises(UserError, match="action_low"):
        adapt(vector_env(), action_low=low, action_high=high)


def test_discrete_actions_pass_unchanged():
    inner = vector_env(spaces.Discrete(4))
    env = adapt(inner)
    assert env.action_space == spaces.Discrete(4)
    env.step(np.int64(3))
    assert inner.did == 3
    with pytest.raises(UserError, match="not one of the 4 choices"):
        env.step(4)
    with pytest.raises(UserError, match="Discrete"):
        adapt(inner, action_low=0)


@pytest.mark.parametrize(
    "action", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2), spaces.Box(0, 5, (1,), np.int64)]
)
def test_other_actions_are_refused(action: spaces.Space):
    with pytest.raises(UserError, match="neither Discrete nor a Box of floats"):
        adapt(vector_env(action))


def test_nested_observations_become_sensors_by_key():
    space = spaces.Dict(
        {
            "arm": spaces.Dict({"angle": spaces.Box(-1, 1, (2, 2), np.float64), "grip": spaces.MultiBinary(2)}),
            "room": spaces.Discrete(3),
            "pair": spaces.Tuple((spaces.Box(0, 9, (1,), np.float32), spaces.MultiDiscrete([2, 3]))),
        }
    )
    value = {
        "arm": {"angle": np.array([[0.1, 0.2], [0.3, 0.4]]), "grip": np.array([1, 0], np.int8)},
        "room": 2,
        "pair": (np.array([5], np.float32), np.array([1, 2])),
    }
    env = adapt(Fake(space, value))
    obs, _ = env.reset()
    assert {name: x.tolist() for name, x in obs.items() if name != "arm.angle"} == {
        "arm.grip": [1, 0],
        "pair.0": [5],
        "pair.1": [0, 1, 0, 0, 1],
        "room": [0, 0, 1],
    }
    np.testing.assert_allclose(obs["arm.angle"], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert env.observation_space.contains(obs)


def test_discrete_observations_are_one_hot_from_their_start():
    obs, _ = adapt(Fake(spaces.Discrete(3, start=5), 6)).reset()
    assert obs["state"].tolist() == [0, 1, 0]


def test_without_images_the_rendered_picture_is_pixels():
    env = adapt(Fake(VECTOR, np.zeros(3), mode="rgb_array"), size=16)
    obs, _ = env.reset()
    assert list(obs) == ["pixels", "state"]
    assert obs["pixels"].shape == (16, 16, 3) and obs["pixels"].dtype == np.uint8
    assert np.all(obs["pixels"] == 9)


@pytest.mark.parametrize(("shape", "channels"), [((84, 84, 3), 3), ((84, 100, 1), 1), ((84, 84), 1), ((8, 8, 4), 4)])
def test_own_images_are_resized_without_rendering(shape: tuple[int, ...], channels: int):
    env = adapt(Fake(spaces.Box(0, 255, shape, np.uint8), np.full(shape, 40, np.uint8), mode="rgb_array"), size=32)
    obs, _ = env.reset()
    assert list(obs) == ["pixels"] and obs["pixels"].shape == (32, 32, channels)
    assert np.all(obs["pixels"] == 40)


def test_images_with_strange_channels_are_refused():
    with pytest.raises(UserError, match=r"c in \(1, 3, 4\)"):
        adapt(Fake(spaces.Box(0, 255, (4, 84, 84), np.uint8), np.zeros((4, 84, 84), np.uint8)))


def test_bytes_in_a_row_are_numbers():
    obs, _ = adapt(Fake(spaces.Box(0, 255, (128,), np.uint8), np.arange(128, dtype=np.uint8))).reset()
    assert obs["state"].dtype == np.float32 and obs["state"][127] == 127


def test_sensors_are_chosen_by_name():
    space = spaces.Dict({"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "mission": spaces.Text(9)})
    inner = Fake(space, {"image": np.zeros((7, 7, 3), np.uint8), "mission": "go"}, mode="rgb_array")
    with pytest.raises(UserError, match="'mission' is a Text space"):
        adapt(inner)
    obs, _ = adapt(inner, size=8, sensors=["pixels", "image"]).reset()
    assert list(obs) == ["pixels", "image"] and np.all(obs["pixels"] == 9) and np.all(obs["image"] == 0)
    with pytest.raises(UserError, match=r"no sensor 'imag' here\. Did you mean 'image'"):
        adapt(inner, sensors=["imag"])
    inner.render_mode = None
    with pytest.raises(UserError, match="render_mode=None"):
        adapt(inner, sensors=["pixels"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(bad: float):
    with np.errstate(over="ignore"), pytest.raises(UserError, match=r"'state' the value (nan|inf) in dimension 1"):
        adapt(vector_env(value=(0, bad, 0))).reset()


@pytest.mark.parametrize("reward", [np.nan, -np.inf, None, "much", [1, 2]])
def test_a_reward_that_is_no_finite_number_is_refused(reward: Any):
    with pytest.raises(UserError, match=r"the reward .*: rewards must be finite numbers"):
        adapt(vector_env(reward=reward)).step(np.zeros(2))


def test_a_reward_may_be_an_array_of_one():
    assert adapt(vector_env(reward=np.array([2.5]))).step(np.zeros(2))[1] == 2.5  # pyright: ignore[reportArgumentType]


BYTES = spaces.Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("space", "value", "says"),
    [
        (VECTOR, np.zeros(4), r"'state' as float64 \(4,\), its space promises float64 \(3,\)"),
        (VECTOR, np.zeros((3, 1)), r"'state' as float64 \(3, 1\)"),
        (BYTES, np.zeros((8, 9, 3), np.uint8), r"'pixels' as uint8 \(8, 9, 3\), its space promises uint8 \(8, 8, 3\)"),
        (BYTES, np.zeros((8, 8, 3)), r"'pixels' as float64 \(8, 8, 3\), its space promises uint8"),
        (spaces.Discrete(3), 3, r"'state' the value 3, its space promises Discrete\(3\)"),
        (spaces.Discrete(3), -1, "'state' the value -1"),
        (spaces.MultiDiscrete([2, 2]), np.array([0, 2]), "'state' the value"),
        (spaces.Dict({"arm": VECTOR, "leg": VECTOR}), {"arm": np.zeros(3)}, "did not give sensor 'leg'"),
    ],
)
def test_an_observation_that_is_not_what_its_space_promises_is_refused(space: spaces.Space, value: Any, says: str):
    with pytest.raises(UserError, match=says):
        adapt(Fake(space, value)).reset()


def test_several_vectors_are_joined_when_state_is_asked_for():
    space = spaces.Dict({"arm": spaces.Box(-1, 2, (2,)), "picture": BYTES, "room": spaces.Discrete(3)})
    value = {"arm": np.array([0.5, 1], np.float32), "picture": np.zeros((8, 8, 3), np.uint8), "room": 1}
    env = adapt(Fake(space, value), sensors=["state"])
    assert env.reset()[0]["state"].tolist() == [0.5, 1, 0, 1, 0]
    assert env.observation_space["state"].low.tolist() == [-1, -1, 0, 0, 0]  # pyright: ignore
    assert list(adapt(Fake(space, value)).reset()[0]) == ["arm", "picture", "room"]
    with pytest.raises(UserError, match="no sensor 'state'"):
        adapt(Fake(BYTES, value["picture"]), sensors=["state"])


def test_environments_made_for_gym_before_gymnasium_are_told_apart():
    class Old(Fake):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return self.value

        def step(self, action: Any) -> Any:
            return self.value, 0.0, False, {}

    env = adapt(Old(VECTOR, np.zeros(3)))
    with pytest.raises(UserError, match=r"reset\(\) of .* must give \(observation, info\)"):
        env.reset()
    with pytest.raises(UserError, match=r"step\(\) of .* gave 4 things"):
        env.step(np.zeros(2))


@pytest.mark.parametrize(("old", "new"), [((8, 12), 4), ((10, 7), 4), ((3, 5), 7), ((64, 64), 64)])
def test_shrink_averages_over_areas(old: tuple[int, int], new: int):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    fine = image.repeat(new, 0).repeat(new, 1).astype(float)  # every old pixel in new x new parts: areas become counts
    exact = fine.reshape(new, old[0], new, old[1], 3).mean((1, 3))
    np.testing.assert_allclose(shrink(image, new), exact, atol=0.51)


def test_spec_of_both_kinds_of_action():
    env = adapt(Fake(VECTOR, np.zeros(3), mode="rgb_array"), size=16)
    spec = spec_of(env.observation_space, env.action_space)
    assert spec.obs == {"pixels": (16, 16, 3), "state": (3,)} and (spec.action, spec.discrete) == (2, False)
    spec = spec_of(env.observation_space, spaces.Discrete(5))
    assert (spec.action, spec.discrete) == (5, True)
    with pytest.raises(UserError, match="Dict space"):
        spec_of(VECTOR, CONTINUOUS)
    with pytest.raises(UserError, match="Discrete or a Box"):
        spec_of(env.observation_space, spaces.MultiDiscrete([2, 2]))


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_a_real_environment_follows_the_convention(id: str):
    pytest.importorskip("pygame")
    env = make_one(id, size=32, max_steps=4)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert np.ptp(obs["pixels"]) > 50  # something is drawn
    for step in range(1, 5):
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(obs)
        assert truncated == (step == 4) and not terminated
    env.close()


def test_make_steps_n_worlds_and_resets_those_that_ended():
    envs = make("CartPole-v1", n=3, sensors=["state"], max_steps=2, seed=5)
    assert envs.num_envs == 3 and envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    obs, _ = envs.reset(seed=1)
    assert obs["state"].shape == (3, 4)
    envs.step(np.array([0, 1, 0]))
    before, _, terminated, truncated, _ = envs.step(np.array([0, 1, 0]))
    assert truncated.all() and not terminated.any()
    after, _ = envs.reset(seed=1, options={"reset_mask": np.array([True, False, False])})
    assert np.array_equal(after["state"][0], obs["state"][0])
    assert np.array_equal(after["state"][1:], before["state"][1:])
    envs.close()


def test_the_seed_of_make_decides_worlds_and_sampled_actions():
    def run(seed: int) -> list[np.ndarray]:
        envs = make("Pendulum-v1", n=2, sensors=["state"], seed=seed)
        first, _ = envs.reset()
        action = envs.action_space.sample()
        after = envs.step(action)[0]["state"]
        envs.close()
        return [first["state"], action, after]

    for a, b, c in zip(run(1), run(1), run(2), strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.slow
def test_worlds_in_processes_of_their_own_do_the_same():
    together, apart = (make("Pendulum-v1", n=2, sensors=["state"], parallel=p) for p in (False, True))
    together.reset(seed=3)
    apart.reset(seed=3)
    action = np.array([[0.5], [-1.0]], np.float32)
    for a, b in zip(together.step(action)[:4], apart.step(action)[:4], strict=True):
        np.testing.assert_equal(a, b)
    together.close()
    apart.close()


@pytest.mark.parametrize(
    ("id", "says"),
    [
        ("pushtt", "unknown environment 'pushtt'. Did you mean 'pusht'"),
        ("CartPol-v1", "Did you mean 'CartPole-v1'"),
        ("CartPole-v9", "Did you mean 'CartPole-v1'"),
        ("no_such_module:Thing-v0", "needs the module 'no_such_module'"),
        ("a b", "cannot make 'a b': Malformed"),
    ],
)
def test_an_unknown_world_is_told_in_one_line(id: str, says: str):
    with pytest.raises(UserError, match=says) as error:
        make(id)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_told_with_its_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("innerworld.envs.named.find_spec", lambda module: None)
    for build in (make, make_one):
        with pytest.raises(UserError, match=r'pip install "innerworld\[pusht\]"'):
            build("pusht")


def test_settings_that_a_world_cannot_take_are_refused():
    with pytest.raises(UserError, match="action bounds of its own"):
        make("two_rooms", action_low=-1)
    with pytest.raises(UserError, match=r"Spec\.only"):
        make("two_rooms", sensors=["state"])
    with pytest.raises(UserError, match="parallel"):
        make("two_rooms", parallel=True)
    with pytest.raises(UserError, match="at least 1"):
        make("two_rooms", n=0)
    with pytest.raises(UserError, match=r"two_rooms\.size"):
        make("two_rooms", size=3)


def _skip_without_package(id: str) -> None:
    packages = {
        "pusht": "gym_pusht",
        "physics_2d": "pymunk",
        "physics_3d": "mujoco",
        "reacher": "dm_control",
        "fetch_push": "gymnasium_robotics",
        "coinrun": "procgen",
    }
    package = packages.get(id)
    if package is not None and find_spec(package) is None:  # importing MuJoCo here would choose how it draws
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("id", sorted(ENVS))
def test_every_named_world_keeps_gymnasiums_rules(id: str):
    _skip_without_package(id)
    env = make_one(id, size=48, max_steps=3)
    check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("id", sorted(ENVS))
def test_every_named_world_gives_what_its_spaces_promise(id: str):
    _skip_without_package(id)
    envs = make(id, n=2, size=48, max_steps=3, seed=0)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    if not isinstance(envs.single_action_space, spaces.Discrete):
        assert envs.single_action_space == spaces.Box(-1, 1, envs.single_action_space.shape, np.float32)
    spec = spec_of(envs.single_observation_space, envs.single_action_space)
    assert spec.obs["pixels"] == (48, 48, 3)
    obs, _ = envs.reset()
    for step in range(1, 4):
        assert envs.observation_space.contains(obs)
        obs, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert truncated.tolist() == [step == 3] * 2 and not terminated.any()
    envs.close()


def test_importing_the_worlds_is_light_and_sets_nothing():
    code = (
        "import os, sys; before = dict(os.environ); import innerworld.envs; "
        "assert dict(os.environ) == before; "
        "print([m for m in ('torch', 'pygame', 'cv2', 'pymunk') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_screen_or_a_setting_of_the_users_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    make_one("two_rooms")
    assert (os.environ["SDL_VIDEODRIVER"], os.environ["MUJOCO_GL"]) == ("dummy", "osmesa")
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setenv("DISPLAY", ":0")
    make_one("two_rooms")
    assert "SDL_VIDEODRIVER" not in os.environ
