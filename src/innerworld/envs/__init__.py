"""The worlds there are: our own by name, those of suites by `suite:task`, and any other Gymnasium id."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import ArrayLike

from innerworld.envs.adapter import Adapted, adapt, shrink, spec_of
from innerworld.envs.named import ENVS, World
from innerworld.envs.registered import make_registered
from innerworld.envs.repeat import Repeat, RepeatRows, check_times, counted
from innerworld.envs.suites import SUITES, in_suite, make_in_suite
from innerworld.envs.workers import Workers
from innerworld.errors import UserError

__all__ = ["ENVS", "SUITES", "Adapted", "World", "adapt", "make", "make_one", "shrink", "spec_of"]


def make(
    id: str,
    n: int = 1,
    size: int = 64,
    seed: int | None = None,
    max_steps: int | None = None,
    sensors: Sequence[str] | None = None,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
    parallel: bool = False,
    timeout_s: float = 60.0,
    restarts: int = 3,
    action_repeat: int = 1,
) -> VectorEnv:
    """Make `n` worlds that are stepped together: a name in `ENVS`, a world of `SUITES`, or any Gymnasium id, adapted
    (see `adapt`).

    A world that has ended waits until `reset(options={"reset_mask": …})` begins it anew. `size` is the side of the
    pictures, `max_steps` the length of an episode (by default the world's own) in the world's steps. `action_repeat`
    does each action so many times, or until the episode ends, and sums the rewards; `metadata["frames_per_step"]` is
    this times the world's own frame skip (an Atari game's 4, otherwise 1). `seed` makes world i begin from
    `seed + i`, and seeds `action_space.sample()`. `parallel` gives each world a process of its own; one that does
    not answer for `timeout_s` seconds, crashes or is killed is then begun again, at most `restarts` times (see
    `Workers`). Settings of a suite's world, and arguments of a Gymnasium one, follow its id behind commas, as in
    "atari:pong,gray=true" and "CarRacing-v3,continuous=false". Ids of packages that must be imported first are written
    `module:id`.

    Raises `UserError` for an unknown id, a missing package and a world that has no place in the convention.
    """
    if n < 1:
        raise UserError(f"cannot make {n} worlds: n is at least 1")
    check_times(action_repeat)
    if id in ENVS:
        _check_plain(id, sensors, action_low, action_high, parallel)
        _go_headless()
        envs = ENVS[id].many(n, size, max_steps)
        envs.metadata = counted(envs.metadata, 1)
        envs = RepeatRows(envs, action_repeat) if action_repeat > 1 else envs
    else:
        one = partial(make_one, id, size, None, max_steps, sensors, action_low, action_high, action_repeat)
        if parallel:
            one().close()  # here, so that a wrong id is told in one line and not by n processes
            envs = Workers([one] * n, timeout_s, restarts)
        else:
            envs = SyncVectorEnv([one] * n, autoreset_mode=AutoresetMode.DISABLED)
    if seed is not None:
        envs.reset(seed=seed)
        envs.action_space.seed(seed)
    return envs


def make_one(
    id: str,
    size: int = 64,
    seed: int | None = None,
    max_steps: int | None = None,
    sensors: Sequence[str] | None = None,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
    action_repeat: int = 1,
) -> gymnasium.Env:
    """Make a single world, as a plain Gymnasium environment; everything else is as in `make`."""
    check_times(action_repeat)
    _go_headless()
    if id in ENVS:
        _check_plain(id, sensors, action_low, action_high, parallel=False)
        env = ENVS[id].one(size, max_steps)
        env.metadata = counted(env.metadata, 1)
        env = Repeat(env, action_repeat) if action_repeat > 1 else env
    else:
        env = _world(id, size, max_steps, drawn=sensors is None or "pixels" in sensors)
        # Within, so that what is seen is drawn and resized once a step.
        env = Repeat(env, action_repeat) if action_repeat > 1 else env
        env = adapt(env, size, sensors, action_low, action_high)
    if seed is not None:
        env.reset(seed=seed)
        env.action_space.seed(seed)
    return env


def _check_plain(
    id: str, sensors: Sequence[str] | None, low: ArrayLike | None, high: ArrayLike | None, parallel: bool
) -> None:
    if low is not None or high is not None:
        raise UserError(f"{id} has action bounds of its own: leave out action_low and action_high")
    if sensors is not None:
        raise UserError(f"{id} always gives all its sensors: choose among them in the spec, with Spec.only")
    if parallel:
        raise UserError(f"{id} steps all its worlds in one process: leave out parallel")


def _go_headless() -> None:
    """Let pygame and MuJoCo draw without a screen where there is none. A setting of the user's is left alone."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("MUJOCO_GL", "egl")


def _world(id: str, size: int, max_steps: int | None, drawn: bool) -> gymnasium.Env:
    if known := in_suite(id):
        return make_in_suite(known, size, max_steps, drawn)
    return make_registered(id, size, max_steps, drawn, names=[*ENVS, *(f"{name}:…" for name in SUITES)])
