"""Two rooms, a wall, a door: a small world of pixels in which the straight way is often the wrong one.

The task goes back to PLDM's Wall environment (Sobal et al. 2025, arXiv 2502.14819); physics and drawing are our own and
run for many worlds at once. Positions are in pixels of the picture: x to the right, y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.envs.backdrop import BACKDROPS
from innerworld.envs.drawing import paint_disc
from innerworld.envs.rows import Single, begun_anew
from innerworld.errors import UserError, nearest
from innerworld.types import Obs

BORDER = 2.0  # pixels of wall around the world
WALL_THICKNESS = 4.0  # pixels; with the agent's radius it is more than any single step, so nothing tunnels
SLACK = 1e-3  # pixels: an agent that touches the wall is beside it, whatever the rounding says
VARIATIONS = {  # factor: (low, high), uniform; lengths are shares of the world's side
    "wall": (0.375, 0.625),  # x of the wall's middle
    "door": (0.22, 0.78),  # y of the door's middle
    "door_width": (0.16, 0.28),
    "radius": (0.032, 0.055),  # of the agent
    "agent_color": (0.6, 1.0),  # of 1, per channel
    "wall_color": (0.25, 0.55),
    "floor_color": (0.0, 0.15),
}


class TwoRoomsConfig(Config):
    size: int = Field(default=64, description="side of the picture and of the world, pixels", ge=32)
    speed: float = Field(default=4.0, description="way of a full action along one axis, pixels per step", gt=0, le=8)
    wall: float = Field(default=32.0, description="x of the wall's middle, pixels")
    door: float = Field(default=20.0, description="y of the door's middle, pixels")
    door_width: float = Field(default=14.0, description="opening of the door, pixels", gt=0)
    radius: float = Field(default=2.5, description="of the agent, pixels", gt=0)
    agent_color: tuple[float, float, float] = Field(
        default=(0.95, 0.35, 0.25), description="red, green, blue in [0, 1]"
    )
    wall_color: tuple[float, float, float] = Field(default=(0.45, 0.5, 0.6), description="red, green, blue in [0, 1]")
    floor_color: tuple[float, float, float] = Field(default=(0.06, 0.07, 0.1), description="red, green, blue in [0, 1]")
    variation: tuple[str, ...] = Field(
        default=(), description=f"factors drawn anew at each reset: {', '.join(VARIATIONS)}"
    )
    backdrop: Literal["still", "noise", "blobs"] = Field(
        default="still", description="what moves behind: nothing, a flickering floor, or blue discs that wander"
    )
    backdrop_strength: float = Field(default=0.4, description="brightness of what moves behind, of 1", ge=0, le=1)
    steps: int = Field(default=50, description="length of an episode, steps", ge=1)
    tolerance: float = Field(default=2.0, description="a goal counts as reached within this distance, pixels", gt=0)

    @classmethod
    def of_size(cls, size: int) -> TwoRoomsConfig:
        """The same world drawn larger or smaller: all lengths in proportion."""
        plain = cls()
        lengths = ("speed", "wall", "door", "door_width", "radius", "tolerance")
        return plain.model_copy(
            update={"size": size} | {key: getattr(plain, key) * size / plain.size for key in lengths}
        )


@dataclass
class Layout:
    """What differs between worlds: each `n` or `n 3`."""

    wall: NDArray[np.float32]
    door: NDArray[np.float32]
    door_width: NDArray[np.float32]
    radius: NDArray[np.float32]
    agent_color: NDArray[np.float32]
    wall_color: NDArray[np.float32]
    floor_color: NDArray[np.float32]

    def rows(self, index: Any) -> Layout:
        return Layout(*(getattr(self, field.name)[index] for field in fields(self)))


class TwoRoomsVector(VectorEnv):
    """Many two-room worlds, stepped and drawn as one array.

    Sensors: `pixels` (y, x, 3) uint8; `state` (x, y) of the agent and `layout` (x of the wall, y and width of the door,
    radius of the agent), in pixels. The last two are for probes and the oracle: whoever learns to see leaves them out.

    With a `backdrop` something moves behind the agent, unforeseeably; what happens and the other sensors stay the same.

    Never terminates; truncates after `steps`. `reset` takes options `reset_mask` (n booleans), `state` (n 2: where to
    begin), `variation` (names of factors to draw) and `variation_values` ({factor: value or n values}).
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    Config = TwoRoomsConfig

    def __init__(self, num_envs: int = 1, config: TwoRoomsConfig | None = None) -> None:
        self.config = config = config or TwoRoomsConfig()
        _check(config)
        self.num_envs = num_envs
        self.render_mode = "rgb_array"
        size = config.size
        self.single_observation_space = spaces.Dict(
            {
                "pixels": spaces.Box(0, 255, (size, size, 3), np.uint8),
                "state": spaces.Box(0, size, (2,), np.float32),
                "layout": spaces.Box(0, size, (4,), np.float32),
            }
        )
        self.single_action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.position = np.zeros((num_envs, 2), np.float32)
        self.layout = _plain(config, num_envs)
        self._background = np.zeros((num_envs, size, size, 3), np.uint8)
        self._floor = np.zeros_like(self._background, np.uint16)  # how many 256ths of it are floor
        moving = BACKDROPS.get(config.backdrop)
        self._backdrop = moving(num_envs, size, config.backdrop_strength) if moving else None
        self._elapsed = np.zeros(num_envs, np.int64)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin anew where `reset_mask` says (everywhere by default). An integer `seed` gives world i `seed + i`."""
        options = options or {}
        rows = begun_anew(self._rngs, seed, options)
        self._draw_layout(rows, options.get("variation", self.config.variation), options.get("variation_values", {}))
        if "state" in options:
            self.position[rows] = np.asarray(options["state"], np.float32).reshape(self.num_envs, 2)[rows]
            _check_free(self.position[rows], self.layout.rows(rows), self.config.size)
        else:
            self.position[rows] = self._free_positions(rows)
        self._background[rows], self._floor[rows] = _draw_background(self.layout.rows(rows), self.config.size)
        if self._backdrop:
            self._backdrop.begin(rows, [self._rngs[i].spawn(1)[0] for i in rows])
        self._elapsed[rows] = 0
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Move each agent by `actions` (n 2) in [-1, 1] times the speed. The reward is 0: goals give the meaning."""
        actions = np.asarray(actions, np.float32)
        if actions.shape != self.position.shape:
            raise UserError(f"two_rooms: actions have shape {actions.shape}, expected {self.position.shape}")
        if not np.all(np.abs(actions) <= 1 + 1e-6):
            raise UserError("two_rooms: an action lies outside [-1, 1] (or is NaN): scale or clip it first")
        at = {"state": torch.from_numpy(self.position), "layout": torch.from_numpy(self._layout_sensor())}
        self.position = self.dynamics()(at, torch.from_numpy(actions))["state"].numpy()
        if self._backdrop:
            self._backdrop.move()
        self._elapsed += 1
        nothing = np.zeros(self.num_envs, bool)
        return self._observe(), np.zeros(self.num_envs, np.float64), nothing, self._elapsed >= self.config.steps, {}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        return tuple(self._draw())

    def dynamics(self) -> Dynamics:
        """The law of motion as a function of sensors and action, for the oracle."""
        return Dynamics(self.config.size, self.config.speed)

    def success(self, state: NDArray[Any], goal: NDArray[Any]) -> NDArray[np.bool_]:
        """Is the agent at the goal? `state`, `goal`: n 2, as the `state` sensor gives them → n."""
        return np.linalg.norm(np.asarray(state) - np.asarray(goal), axis=-1) <= self.config.tolerance

    def room(self, state: NDArray[Any]) -> NDArray[np.int64]:
        """Which room: 0 left, 1 right of the wall's middle. `state`: n 2 → n."""
        return (np.asarray(state)[..., 0] > self.layout.wall).astype(np.int64)

    def _observe(self) -> dict[str, NDArray[Any]]:
        return {"pixels": self._draw(), "state": self.position.copy(), "layout": self._layout_sensor()}

    def _layout_sensor(self) -> NDArray[np.float32]:
        layout = self.layout
        return np.stack([layout.wall, layout.door, layout.door_width, layout.radius], axis=-1)

    def _draw(self) -> NDArray[np.uint8]:
        behind = self._backdrop.paint(self._background, self._floor) if self._backdrop else self._background
        return paint_disc(behind, self.position, self.layout.radius, self.layout.agent_color)

    def _draw_layout(self, rows: NDArray[Any], variation: Sequence[str], values: Mapping[str, Any]) -> None:
        for factor in (*variation, *values):
            if factor not in VARIATIONS:
                known = list(VARIATIONS)
                raise UserError(f"two_rooms: unknown variation {factor!r}.{nearest(factor, known)} Known: {known}")
        plain = _plain(self.config, self.num_envs)
        for field in fields(Layout):
            getattr(self.layout, field.name)[rows] = getattr(plain, field.name)[rows]
        for i in rows:
            for factor in sorted(set(variation)):  # sorted: the draw must not depend on the order of the names
                target = getattr(self.layout, factor)
                unit = 1 if factor.endswith("color") else self.config.size
                target[i] = self._rngs[i].uniform(*VARIATIONS[factor], size=target[i].shape) * unit
        for factor, value in values.items():
            target = getattr(self.layout, factor)
            target[rows] = np.broadcast_to(np.asarray(value, np.float32), target.shape)[rows]

    def _free_positions(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        found = np.zeros((len(rows), 2), np.float32)
        for k, i in enumerate(rows):
            layout = self.layout.rows(slice(i, i + 1))
            low, high = BORDER + layout.radius[0], self.config.size - BORDER - layout.radius[0]
            while True:
                point = self._rngs[i].uniform(low, high, 2).astype(np.float32)
                if _free(point[None], layout, self.config.size)[0]:
                    found[k] = point
                    break
        return found


class TwoRooms(Single):
    """One two-room world, as a plain Gymnasium environment."""

    Config = TwoRoomsConfig

    def __init__(self, config: TwoRoomsConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(TwoRoomsVector(1, config), render_mode)


@dataclass(frozen=True)
class Dynamics:
    """How the agent moves, in torch so that a planner may differentiate it."""

    size: int
    speed: float

    def __call__(self, obs: Obs, action: Tensor) -> Obs:
        """Sensors `state` `b 2` and `layout` `b 4`, actions `b 2` → the same sensors one step later."""
        wall, door, width, radius = obs["layout"].unbind(-1)
        low, high = BORDER + radius, self.size - BORDER - radius
        reach = WALL_THICKNESS / 2 + radius  # the agent's middle cannot come closer to the wall's middle
        gap = width / 2 - radius  # nor, inside the door, farther from the door's middle
        x0, y0 = obs["state"].unbind(-1)
        dx, dy = (action * self.speed).unbind(-1)

        x = torch.minimum(torch.maximum(x0 + dx, low), high)
        in_door = (y0 - door).abs() <= gap
        left = x0 <= wall
        blocked = torch.where(left, torch.minimum(x, wall - reach), torch.maximum(x, wall + reach))
        beside_wall = (x0 - wall).abs() >= reach - SLACK
        x = torch.where(~in_door & beside_wall, blocked, x)

        y = torch.minimum(torch.maximum(y0 + dy, low), high)
        inside = (x - wall).abs() < reach - SLACK
        y = torch.where(inside, torch.minimum(torch.maximum(y, door - gap), door + gap), y)
        return {"state": torch.stack([x, y], dim=-1), "layout": obs["layout"]}


def _check(config: TwoRoomsConfig) -> None:
    for factor in config.variation:
        if factor not in VARIATIONS:
            known = list(VARIATIONS)
            raise UserError(f"two_rooms: unknown variation {factor!r}.{nearest(factor, known)} Known: {known}")
    low, high = BORDER + 2 * config.radius + WALL_THICKNESS, config.size - BORDER - 2 * config.radius - WALL_THICKNESS
    if not (low < config.wall < high and BORDER < config.door < config.size - BORDER):
        raise UserError(
            f"two_rooms: wall {config.wall} and door {config.door} do not fit a world of size {config.size}: "
            "both rooms must hold the agent (size 64 is what the defaults are made for)"
        )
    if config.door_width <= 2 * config.radius:
        raise UserError(f"two_rooms: the agent (radius {config.radius}) does not fit the door ({config.door_width})")
    if config.speed >= WALL_THICKNESS + 2 * config.radius:
        raise UserError(f"two_rooms: speed {config.speed} would jump over the wall")


def _plain(config: TwoRoomsConfig, n: int) -> Layout:
    def spread(value: Any) -> NDArray[np.float32]:
        return np.repeat(np.asarray(value, np.float32)[None], n, axis=0)

    return Layout(*(spread(getattr(config, field.name)) for field in fields(Layout)))


def _free(position: NDArray[np.float32], layout: Layout, size: int) -> NDArray[np.bool_]:
    """Can the agent's middle be here? `n 2` → `n`."""
    x, y = position[:, 0], position[:, 1]
    low, high = BORDER + layout.radius, size - BORDER - layout.radius
    within = (x >= low) & (x <= high) & (y >= low) & (y <= high)
    in_wall = np.abs(x - layout.wall) < WALL_THICKNESS / 2 + layout.radius
    in_door = np.abs(y - layout.door) <= layout.door_width / 2 - layout.radius
    return within & (~in_wall | in_door)


def _check_free(position: NDArray[np.float32], layout: Layout, size: int) -> None:
    bad = np.flatnonzero(~_free(position, layout, size))
    if len(bad):
        raise UserError(f"two_rooms: state {position[bad[0]].tolist()} of world {bad[0]} lies in a wall or outside")


def _draw_background(layout: Layout, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Floor, wall with its door, border, edges anti-aliased; and how many 256ths of it are floor: each `n y x 3`."""
    middle = np.arange(size, dtype=np.float32) + 0.5
    beside = np.abs(middle[None] - layout.wall[:, None])
    wall_x = np.clip(WALL_THICKNESS / 2 + 0.5 - beside, 0, 1)  # n x
    door_y = np.clip(layout.door_width[:, None] / 2 + 0.5 - np.abs(middle[None] - layout.door[:, None]), 0, 1)  # n y
    border = (middle < BORDER) | (middle > size - BORDER)
    wall = wall_x[:, None, :] * (1 - door_y[:, :, None])
    wall = np.maximum(wall, (border[None, :, None] | border[None, None, :]).astype(np.float32))[..., None]
    picture = wall * layout.wall_color[:, None, None] + (1 - wall) * layout.floor_color[:, None, None]
    return np.round(picture * 255).astype(np.uint8), np.repeat(np.round((1 - wall) * 256).astype(np.uint16), 3, axis=-1)
