"""Push-T: push a T-shaped block onto its mark. gym-pusht's physics and pictures (Chi et al. 2023, arXiv 2303.04137)."""

from __future__ import annotations

from typing import Any

import cv2
import gymnasium
import numpy as np
from gym_pusht.envs.pusht import PushTEnv
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from shapely import affinity
from shapely.geometry import Polygon

from innerworld.config import Config
from innerworld.envs.actions import check_unit
from innerworld.envs.adapter import shrink
from innerworld.envs.rows import Rows
from innerworld.errors import UserError

SIDE = 512.0  # of the table, pixels of the simulation
GOAL = (256.0, 256.0, np.pi / 4)  # x, y, angle of the mark
LOWEST = np.array(
    [-SIDE] * 4 + [0], np.float32
)  # the walls hold the block only roughly: a hard push squeezes it through
HIGHEST = np.array([2 * SIDE] * 4 + [2 * np.pi], np.float32)
COVERAGE = 0.95  # part of the mark that the block must cover
DEMO_SIZE = 96  # side of the pictures of the human demonstrations
TEE = Polygon(  # at position (0, 0), angle 0
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)]
)


class PushTConfig(Config):
    size: int = Field(default=DEMO_SIZE, description="side of the picture, pixels (human demonstrations: 96)", ge=8)
    max_steps: int = Field(default=300, description="length of an episode, steps of 0.1 s", ge=1)


class PushT(gymnasium.Env):
    """One Push-T table. Sensors: `pixels` (y, x, 3) uint8; `state`: agent x y, block x y (0…512), angle (0…2π).

    An action in [-1, 1]² is the target x y that the agent is drawn to, over the whole table. The reward is the coverage
    of the mark divided by 0.95, at most 1. Terminates when that is reached, truncates after `max_steps`. `reset` takes
    the option `state` (5 numbers, as the sensor gives them): where to begin, at rest. `info` is gym-pusht's.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    Config = PushTConfig

    def __init__(self, config: PushTConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        self.config = config = config or PushTConfig()
        self.render_mode = render_mode
        # Small pictures are shrunk from the demonstrations' size, so that demonstrations can be shrunk likewise.
        self._drawn = max(config.size, DEMO_SIZE)
        self._table = PushTEnv(observation_width=self._drawn, observation_height=self._drawn)
        self._elapsed = 0
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Box(0, 255, (config.size, config.size, 3), np.uint8),
                "state": spaces.Box(LOWEST, HIGHEST, dtype=np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        super().reset(seed=seed)
        _, info = self._table.reset(seed=seed)
        self._elapsed = 0
        if options and "state" in options:
            info |= self._place(np.asarray(options["state"], np.float64))
        return self._sense(), info

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        unit = np.asarray(action, np.float64)
        if unit.shape != (2,):
            raise UserError(f"pusht: an action has the shape {unit.shape}, expected (2,)")
        check_unit(unit)
        _, reward, terminated, _, info = self._table.step((np.clip(unit, -1, 1) + 1) / 2 * SIDE)
        self._elapsed += 1
        return self._sense(), float(reward), bool(terminated), self._elapsed >= self.config.max_steps, info

    def render(self) -> NDArray[np.uint8]:
        """Pixel for pixel what gym-pusht shows, without its detour: a copy of the screen, with x and y exchanged."""
        screen = self._table._draw()
        memory: Any = screen.get_buffer()  # rows of blue, green, red, nothing
        blue_green_red = np.frombuffer(memory, np.uint8).reshape(*screen.get_size(), screen.get_bytesize())
        small: Any = cv2.resize(blue_green_red, (self._drawn, self._drawn))
        return shrink(np.ascontiguousarray(small[..., 2::-1]), self.config.size)

    def success(self, state: ArrayLike, goal: ArrayLike | None = None) -> NDArray[np.bool_]:
        """See the function `success`."""
        return success(state, goal)

    def close(self) -> None:
        self._table.close()

    def _sense(self) -> dict[str, NDArray[Any]]:
        return {"pixels": self.render(), "state": np.asarray(self._table.get_obs(), np.float32)}

    def _place(self, state: NDArray[np.float64]) -> dict[str, Any]:
        """Put agent and block where `state` says, exactly.

        gym-pusht's own `reset_to_state` keeps a fault of the first version for the sake of old data: it turns the block
        about its centre of mass *after* moving it, so that the block ends elsewhere.
        """
        if state.shape != (5,) or not np.all(np.isfinite(state)):
            raise UserError(f"pusht: a state is 5 finite numbers (agent x y, block x y, angle), got {state.tolist()}")
        if not np.all((state[:4] >= LOWEST[:4]) & (state[:4] <= HIGHEST[:4])):
            raise UserError(f"pusht: state {state.tolist()} lies far off the table (0…{SIDE:g})")
        table = self._table
        table.agent.position = tuple(state[:2].tolist())
        table.agent.velocity = (0.0, 0.0)
        table.block.angle = float(state[4])
        table.block.position = tuple(state[2:4].tolist())
        table.block.velocity = (0.0, 0.0)
        table.block.angular_velocity = 0.0
        for body in (table.agent, table.block):
            table.space.reindex_shapes_for_body(body)  # pictures are drawn from the index
        return table._get_info()


class PushTVector(Rows):
    """Several tables, stepped one after another. `reset` takes the options `reset_mask` and `state` (n 5)."""

    Config = PushTConfig

    def __init__(self, num_envs: int = 1, config: PushTConfig | None = None) -> None:
        super().__init__("pusht", [PushT(config) for _ in range(num_envs)])


def success(state: ArrayLike, goal: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Is the task done? `state`, `goal`: `... 5` → `...`.

    Without a `goal`, the task's own question: is at least 95 % of the mark covered (Chi et al. 2023)? With one, that of
    DINO-WM (Zhou et al. 2024, arXiv 2411.04983, `eval_state` of its Push-T): agent and block together less than 20
    pixels away (the norm of all four coordinates), and the block turned by less than π/9.
    """
    state = np.asarray(state, np.float64)
    if goal is None:
        return coverage(state) > COVERAGE
    goal = np.asarray(goal, np.float64)
    away = np.linalg.norm(state[..., :4] - goal[..., :4], axis=-1)
    turned = np.abs((state[..., 4] - goal[..., 4] + np.pi) % (2 * np.pi) - np.pi)
    return (away < 20) & (turned < np.pi / 9)


def coverage(state: ArrayLike) -> NDArray[np.float64]:
    """The part of the mark that the block covers: `... 5` → `...` in [0, 1]."""
    states = np.asarray(state, np.float64)
    mark = _tee(*GOAL)
    parts = [_tee(x, y, angle).intersection(mark).area / mark.area for _, _, x, y, angle in states.reshape(-1, 5)]
    return np.asarray(parts).reshape(states.shape[:-1])


def _tee(x: float, y: float, angle: float) -> Polygon:
    return affinity.translate(affinity.rotate(TEE, angle, origin=(0, 0), use_radians=True), x, y)
