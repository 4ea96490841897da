"""A paddle and a ball: a small world for video, in which the action moves much of what changes and the law is exact.

Lengths are in thirty-seconds of the picture's side, whatever its size: pixels at the default of 32. x goes to the
right, y downwards. Drawn by us, for many worlds at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from innerworld.config import Config
from innerworld.envs.drawing import paint_disc
from innerworld.envs.lawful import Lawful
from innerworld.envs.rows import Single

SIDE = 32.0  # of the world, and what lengths are counted in
FLOOR, PADDLE, BALL = np.array([(16, 20, 34), (70, 170, 250), (255, 190, 60)], np.uint8)
TIME, AT, X, Y, VX, VY = range(6)
"""What a state's numbers are: steps, the paddle's middle, the ball's middle and its way in one step."""
LEFT, STAY, RIGHT = range(3)


class PaddleConfig(Config):
    size: int = Field(default=32, description="side of the picture, pixels", ge=8)
    width: float = Field(default=8.0, description="of the paddle, thirty-seconds of the side", gt=0, le=24)
    height: float = Field(default=3.0, description="of the paddle, thirty-seconds of the side", gt=0, le=8)
    speed: float = Field(default=2.0, description="of the paddle, thirty-seconds of the side a step", gt=0, le=8)
    radius: float = Field(default=2.0, description="of the ball, thirty-seconds of the side", gt=0, le=4)
    fall: float = Field(
        default=1.5, description="of the ball up or down, thirty-seconds of the side a step", gt=0, le=4
    )
    drift: float = Field(default=1.5, description="most to the side, thirty-seconds of the side a step", ge=0, le=4)
    ends: bool = Field(default=False, description="a miss ends the episode; else the ball comes in again at the top")
    steps: int = Field(default=200, description="truncates after so many steps", ge=1)


class PaddleVector(Lawful):
    """Many paddles and balls, stepped and drawn as one array.

    Actions: left, stay, right. The ball bounces from both sides and the top. The paddle returns it, which brings 1, and
    turns it towards the side on which it was hit: at the paddle's edge by `drift`. A miss brings -1; the ball then
    comes in again at the top, where it fell and as fast, so that two pictures tell all that follows (unless `ends`).

    Sensors: `pixels` (y, x, 3) uint8; `state`, which tells all exactly and is for probes and the oracle.
    """

    Config = PaddleConfig

    def __init__(self, num_envs: int = 1, config: PaddleConfig | None = None) -> None:
        self.config = config = config or PaddleConfig()
        half, r = config.width / 2, config.radius
        most = SIDE + r + (config.fall if config.ends else 0)  # below that it is out of sight
        low = np.array([0, half, r, -r, -config.drift, -config.fall], np.float32)
        high = np.array([config.steps, SIDE - half, SIDE - r, most, config.drift, config.fall], np.float32)
        sensors = {"pixels": spaces.Box(0, 255, (config.size, config.size, 3), np.uint8)}
        super().__init__("paddle", num_envs, sensors, spaces.Box(low, high, dtype=np.float32), 3, config.steps)

    def begin(self, rng: np.random.Generator) -> NDArray[np.float32]:
        config = self.config
        half, r = config.width / 2, config.radius
        at, x = rng.uniform(half, SIDE - half), rng.uniform(r, SIDE - r)
        y, vx = rng.uniform(r, SIDE / 2), rng.uniform(-config.drift, config.drift)
        return np.array([0, at, x, y, vx, config.fall * rng.choice([-1, 1])], np.float32)

    def after(self, state: NDArray[np.float32], choice: NDArray[np.int64]) -> NDArray[np.float32]:
        config = self.config
        half, r = config.width / 2, config.radius
        time, at, x, y, vx, vy = state.T
        at = np.clip(at + (choice - STAY) * config.speed, half, SIDE - half)
        x, vx = _bounced(x + vx, vx, r, SIDE - r)
        moved = y + vy
        aloft = np.where((vy < 0) & (moved < r), 2 * r - moved, moved)
        vy = np.where((vy < 0) & (moved < r), -vy, vy)
        lowest = SIDE - config.height - r  # where the ball lies on the paddle
        beside = (x - at) / (half + r)  # -1 to 1 where they touch
        hit = (vy > 0) & (y <= lowest) & (aloft >= lowest) & (np.abs(beside) <= 1)
        vx = np.where(hit, np.clip(vx + beside * config.drift, -config.drift, config.drift), vx)
        y = np.where(hit, 2 * lowest - aloft, aloft)
        if not config.ends:
            y = np.where(y > SIDE + r, y - (SIDE + 2 * r), y)
        return np.stack([time + 1, at, x, y, vx, np.where(hit, -vy, vy)], axis=1).astype(np.float32)

    def over(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        return state[:, Y] > SIDE + self.config.radius

    def reward(self, before: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[np.float64]:
        falling = before[:, VY] > 0
        returned = falling & (state[:, VY] < 0)
        missed = falling & (state[:, VY] > 0) & ((state[:, Y] < before[:, Y]) | self.over(state))
        return returned.astype(np.float64) - missed

    def check(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        within = np.array([self.states.contains(row) for row in state], bool)
        even = np.abs(state[:, VY]) == np.float32(self.config.fall)
        return within & even & (state[:, TIME] == np.round(state[:, TIME]))

    def look(self, state: NDArray[np.float32], sensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        return {name: _draw(state, self.config) for name in sensors}


class Paddle(Single):
    """One paddle and ball, as a plain Gymnasium environment."""

    Config = PaddleConfig

    def __init__(self, config: PaddleConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(PaddleVector(1, config), render_mode)


def _bounced(
    at: NDArray[np.float32], way: NDArray[np.float32], low: float, high: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places `n` beyond a wall are reflected in it, and their ways with them."""
    out = (at < low) | (at > high)
    return np.where(at < low, 2 * low - at, np.where(at > high, 2 * high - at, at)), np.where(out, -way, way)


def _draw(state: NDArray[np.float32], config: PaddleConfig) -> NDArray[np.uint8]:
    """Pictures `n y x 3`, edges anti-aliased. A margin around them holds what of the ball is out of sight."""
    n, size, scale = len(state), config.size, config.size / SIDE
    middle = (np.arange(size, dtype=np.float32) + 0.5) / scale
    edge = scale * (config.width / 2 - np.abs(middle[None] - state[:, AT, None])) + 0.5  # n x
    top = scale * (middle - (SIDE - config.height)) + 0.5  # y
    cover = np.clip(edge, 0, 1)[:, None, :, None] * np.clip(top, 0, 1)[None, :, None, None]  # n y x 1
    margin = int(np.ceil((config.radius * 2 + config.fall) * scale)) + 2
    picture = np.empty((n, size + 2 * margin, size + 2 * margin, 3), np.uint8)
    picture[:] = FLOOR
    inside = (slice(None), slice(margin, -margin), slice(margin, -margin))
    picture[inside] = np.round(cover * PADDLE + (1 - cover) * FLOOR).astype(np.uint8)
    ball = (state[:, [X, Y]] * scale + margin).astype(np.float32)
    radius = np.full(n, config.radius * scale, np.float32)
    color = np.broadcast_to(BALL.astype(np.float32) / 255, (n, 3))
    return paint_disc(picture, ball, radius, color)[inside].copy()
