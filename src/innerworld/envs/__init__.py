"""The worlds there are. To add one: write its file, add its line. Any other Gymnasium id works, too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import ArrayLike

from innerworld.config import build
from innerworld.envs.adapter import Adapted, adapt, shrink, spec_of
from innerworld.envs.workers import Workers
from innerworld.errors import UserError, nearest

if TYPE_CHECKING:
    from innerworld.envs.two_rooms import TwoRoomsConfig

__all__ = ["ENVS", "Adapted", "World", "adapt", "make", "make_one", "shrink", "spec_of"]


@dataclass(frozen=True)
class World:
    """A world with a name of its own: made from (size, max_steps) and (n, size, max_steps)."""

    about: str
    one: Callable[[int, int | None], gymnasium.Env]
    many: Callable[[int, int, int | None], VectorEnv]


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
) -> VectorEnv:
    """Make `n` worlds that are stepped together: a name in `ENVS`, or any Gymnasium id, adapted (see `adapt`).

    A world that has ended waits until `reset(options={"reset_mask": …})` begins it anew. `size` is the side of the
    pictures, `max_steps` the length of an episode (by default the world's own). `seed` makes world i begin from
    `seed + i`, and seeds `action_space.sample()`. `parallel` gives each world a process of its own; one that does
    not answer for `timeout_s` seconds, crashes or is killed is then begun again, at most `restarts` times (see
    `Workers`). Ids of packages that must be imported first are written `module:id`, as in
    "minigrid:MiniGrid-Empty-5x5-v0".

    Raises `UserError` for an unknown id, a missing package and a world that has no place in the convention.
    """
    if n < 1:
        raise UserError(f"cannot make {n} worlds: n is at least 1")
    if id in ENVS:
        _check_plain(id, sensors, action_low, action_high, parallel)
        _go_headless()
        envs = ENVS[id].many(n, size, max_steps)
    else:
        one = partial(make_one, id, size, None, max_steps, sensors, action_low, action_high)
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
) -> gymnasium.Env:
    """Make a single world, as a plain Gymnasium environment; everything else is as in `make`."""
    _go_headless()
    if id in ENVS:
        _check_plain(id, sensors, action_low, action_high, parallel=False)
        env = ENVS[id].one(size, max_steps)
    else:
        drawn = sensors is None or "pixels" in sensors
        env = adapt(_gymnasium(id, max_steps, drawn), size, sensors, action_low, action_high)
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


def _gymnasium(id: str, max_steps: int | None, drawn: bool) -> gymnasium.Env:
    mode = "rgb_array" if drawn else None
    try:
        # Its checker only warns; the adapter raises what matters here.
        return gymnasium.make(id, max_episode_steps=max_steps, render_mode=mode, disable_env_checker=True)
    except gymnasium.error.UnregisteredEnv:
        known = [*ENVS, *gymnasium.registry]
        raise UserError(
            f"unknown environment {id!r}.{nearest(id, known)} Known: {', '.join(ENVS)}, every Gymnasium id, "
            "and module:id where a package must be imported first"
        ) from None
    except ModuleNotFoundError as error:
        missing = error.name or id.partition(":")[0]  # Gymnasium drops the name of a module that it was told to import
        raise UserError(f"{id} needs the module {missing!r}: pip install the package that holds it") from None
    except gymnasium.error.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot make {id!r}: {reason}") from None


def _two_rooms(size: int, max_steps: int | None) -> gymnasium.Env:
    from innerworld.envs.two_rooms import TwoRooms

    return TwoRooms(_two_rooms_config(size, max_steps))


def _two_rooms_vector(n: int, size: int, max_steps: int | None) -> VectorEnv:
    from innerworld.envs.two_rooms import TwoRoomsVector

    return TwoRoomsVector(n, _two_rooms_config(size, max_steps))


def _two_rooms_config(size: int, max_steps: int | None) -> TwoRoomsConfig:
    from innerworld.envs.two_rooms import TwoRoomsConfig

    steps = {} if max_steps is None else {"steps": max_steps}
    return build(TwoRoomsConfig, TwoRoomsConfig.of_size(size).model_dump() | steps, "two_rooms")


def _maze(layout: str) -> World:
    def config(size: int, max_steps: int | None) -> Any:
        from innerworld.envs.maze import MazeConfig

        return build(MazeConfig, _settings(size, "steps", max_steps) | {"layout": layout}, f"maze_{layout}")

    def one(size: int, max_steps: int | None) -> gymnasium.Env:
        from innerworld.envs.maze import Maze

        return Maze(config(size, max_steps))

    def many(n: int, size: int, max_steps: int | None) -> VectorEnv:
        from innerworld.envs.maze import MazeVector

        return MazeVector(n, config(size, max_steps))

    return World(f"a maze, {layout}: go where a picture shows", one, many)


def _pusht(size: int, max_steps: int | None) -> gymnasium.Env:
    _need("gym_pusht", "pusht")
    from innerworld.envs.pusht import PushT

    return PushT(build(PushT.Config, _settings(size, "max_steps", max_steps), "pusht"))


def _pusht_vector(n: int, size: int, max_steps: int | None) -> VectorEnv:
    _need("gym_pusht", "pusht")
    from innerworld.envs.pusht import PushTVector

    return PushTVector(n, build(PushTVector.Config, _settings(size, "max_steps", max_steps), "pusht"))


def _mujoco(name: str, kind: str, module: str, extra: str, about: str) -> World:
    def config(size: int, max_steps: int | None) -> Any:
        _need(module, extra)
        from innerworld.envs.mujoco import MuJoCoConfig

        return build(MuJoCoConfig, _settings(size, "max_steps", max_steps), name)

    def one(size: int, max_steps: int | None) -> Any:
        settings = config(size, max_steps)
        from innerworld.envs import mujoco

        return {"Reacher": mujoco.Reacher, "FetchPush": mujoco.FetchPush}[kind](settings)

    def many(n: int, size: int, max_steps: int | None) -> VectorEnv:
        from innerworld.envs.rows import Rows

        return Rows(name, [one(size, max_steps) for _ in range(n)])

    return World(f"{about} (extra: {extra})", one, many)


def _settings(size: int, length: str, max_steps: int | None) -> dict[str, Any]:
    return {"size": size} if max_steps is None else {"size": size, length: max_steps}


def _need(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise UserError(f'{extra} needs a package that is not installed: pip install "innerworld[{extra}]"')


ENVS = {
    "maze_u": _maze("u"),
    "maze_medium": _maze("medium"),
    "maze_spiral": _maze("spiral"),
    "two_rooms": World("an agent, a wall, a door: go where a picture shows", _two_rooms, _two_rooms_vector),
    "reacher": _mujoco(
        "reacher", "Reacher", "dm_control", "dmc", "two links and two torques: be where a picture shows"
    ),
    "fetch_push": _mujoco(
        "fetch_push", "FetchPush", "gymnasium_robotics", "robotics", "a robot arm pushes a block over a table, in 3-D"
    ),
    "pusht": World("push a T-shaped block onto its mark (extra: pusht)", _pusht, _pusht_vector),
}
