"""CoinRun, by Procgen (Cobbe et al. 2020, arXiv 1912.01588): run and jump to the coin, in another level each time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pydantic import Field

from innerworld.config import Config
from innerworld.envs.adapter import shrink
from innerworld.envs.rows import Single, begun_anew
from innerworld.errors import UserError

DRAWN = 64  # side of the pictures that Procgen draws, pixels
LONGEST = 1000  # steps after which Procgen itself ends an episode
BUTTONS = {"needed": 9, "all": 15}  # left, nothing, right, each down, level, up; and six keys that do nothing here
MISSING = (
    "coinrun needs the package procgen2, which by itself would bring an old numpy: pip install cffi imageio && "
    "pip install --no-deps procgen2 gym3 gym==0.26.2"
)


class CoinRunConfig(Config):
    size: int = Field(default=DRAWN, description="side of the picture, pixels; drawn at 64, then resized", ge=8)
    steps: int = Field(default=LONGEST, description="truncates after so many steps", ge=1, le=LONGEST)
    mode: Literal["easy", "hard"] = Field(default="hard", description="Procgen's two kinds of levels")
    levels: int = Field(default=0, description="how many levels there are; 0: without end", ge=0)
    first_level: int = Field(default=0, description="number of the first of them", ge=0)
    backgrounds: bool = Field(default=True, description="pictures behind; false: black")
    velocity: bool = Field(default=False, description="two squares in the corner tell the agent's velocity")
    buttons: Literal["needed", "all"] = Field(default="needed", description="the 9 that do something, or all 15")
    threads: int = Field(default=0, description="of Procgen's own, for many worlds; 0: the caller's", ge=0)


class CoinRunVector(VectorEnv):
    """Many games, stepped and drawn by Procgen as one array. `pixels` (y, x, 3) is the only sensor.

    The coin brings 10 and terminates, as do saws, enemies and holes; time truncates. A seed decides the level, and
    levels are drawn from `levels` of them. Procgen begins the next level in the very step that ends one and never draws
    how it ended: the last picture of an episode that terminated is the one before it, once more.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    Config = CoinRunConfig

    def __init__(self, num_envs: int = 1, config: CoinRunConfig | None = None) -> None:
        self.config = config = config or CoinRunConfig()
        self.num_envs = num_envs
        self.render_mode = "rgb_array"
        shape = (config.size, config.size, 3)
        self.single_observation_space = spaces.Dict({"pixels": spaces.Box(0, 255, shape, np.uint8)})
        self.single_action_space = spaces.Discrete(BUTTONS[config.buttons])
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._games = _games(config, num_envs, seed=0)
        self._frames = np.zeros((num_envs, DRAWN, DRAWN, 3), np.uint8)
        self._elapsed = np.zeros(num_envs, np.int64)
        self._terminated, self._truncated = np.zeros(num_envs, bool), np.zeros(num_envs, bool)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin anew where `reset_mask` says (everywhere by default). An integer `seed` gives world i `seed + i`."""
        rows = begun_anew(self._rngs, seed, options or {})
        for i in rows:
            self._begin(i, int(self._rngs[i].integers(2**31 - 1)))
        self._frames[rows] = self._drawn()[rows]
        self._elapsed[rows] = 0
        self._terminated[rows] = self._truncated[rows] = False
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Press a button for each game, `n`. One that has ended shows its last picture until it is begun anew."""
        actions = np.asarray(actions)
        whole = actions.shape == (self.num_envs,) and np.issubdtype(actions.dtype, np.integer)
        if not whole or not self.action_space.contains(actions.astype(np.int64)):
            most = BUTTONS[self.config.buttons] - 1
            raise UserError(f"coinrun: actions are {self.num_envs} whole numbers from 0 to {most}, got {actions}")
        live = ~(self._terminated | self._truncated)
        self._games.act(actions.astype(np.int32))
        reward, _, first = self._games.observe()
        self._elapsed[live] += 1
        over = live & first
        self._terminated |= over & ((self._elapsed < LONGEST) | (reward > 0))
        self._truncated |= live & ~self._terminated & (self._elapsed >= self.config.steps)
        goes_on = live & ~over
        self._frames[goes_on] = self._drawn()[goes_on]
        gained = np.where(live, reward, 0).astype(np.float64)
        return self._observe(), gained, self._terminated.copy(), self._truncated.copy(), {}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        return tuple(self._observe()["pixels"])

    def close_extras(self, **kwargs: Any) -> None:  # Gymnasium's signature
        self._games.close()

    def _begin(self, i: int, seed: int) -> None:
        """Put a game that was begun with `seed` into row i: Procgen takes a seed only when games are made."""
        fresh = _games(self.config, 1, seed)
        state = fresh.get_state()[0]
        fresh.close()
        self._games.call_c_func("set_state", int(i), state, len(state))

    def _drawn(self) -> NDArray[np.uint8]:
        return self._games.observe()[1]["rgb"]

    def _observe(self) -> dict[str, NDArray[Any]]:
        if self.config.size == DRAWN:
            return {"pixels": self._frames.copy()}
        return {"pixels": np.stack([shrink(frame, self.config.size) for frame in self._frames])}


class CoinRun(Single):
    """One game, as a plain Gymnasium environment."""

    Config = CoinRunConfig

    def __init__(self, config: CoinRunConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(CoinRunVector(1, config), render_mode)


def _games(config: CoinRunConfig, n: int, seed: int) -> Any:
    """`n` of Procgen's games. Raises `UserError` where it, or what it stands on, is not installed."""
    try:
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it leaves a file of its own open
            from procgen import ProcgenGym3Env  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"{MISSING} ({error})") from None
    return ProcgenGym3Env(
        num=n,
        env_name="coinrun",
        rand_seed=seed,
        num_threads=config.threads,
        distribution_mode=config.mode,
        num_levels=config.levels,
        start_level=config.first_level,
        use_backgrounds=config.backgrounds,
        paint_vel_info=config.velocity,
    )
