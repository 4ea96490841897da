"""MinAtar (Young and Tian 2019, arXiv 1903.03176): five games of Atari's kind on 10 × 10 cells."""

from __future__ import annotations

import colorsys
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from innerworld.envs.suites import SuiteConfig, SuiteWorld

GAMES = ["asterix", "breakout", "freeway", "seaquest", "space_invaders"]


class MinAtarConfig(SuiteConfig):
    sticky: float = Field(default=0.1, description="probability that a step repeats the action before", ge=0, lt=1)
    ramping: bool = Field(default=True, description="the game gets harder with time")
    buttons: Literal["needed", "all"] = Field(default="needed", description="those the game knows, or all 6")


class MinAtar(SuiteWorld):
    """A game. `state`: 0 or 1 for each cell and kind of thing, rows first (10 y, 10 x, kinds). The picture gives each
    kind a colour. An episode terminates when the game is over; without `max_steps` a good player may go on for ever.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    Config = MinAtarConfig

    def __init__(self, config: MinAtarConfig, size: int = 64, render_mode: str | None = None) -> None:
        import minatar  # pyright: ignore[reportMissingImports]

        super().__init__(config, size, render_mode)
        self._game = minatar.Environment(config.task, config.sticky, config.ramping)
        self._buttons = self._game.minimal_action_set() if config.buttons == "needed" else list(range(6))
        self._elapsed = 0
        self._colors = _colors(self._game.n_channels)
        self.observation_space = spaces.Box(0, 1, tuple(self._game.state_shape()), np.float32)
        self.action_space = spaces.Discrete(len(self._buttons))

    @classmethod
    def tasks(cls) -> list[str]:
        return GAMES

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        fresh = self._np_random is None
        super().reset(seed=seed)
        if seed is not None or fresh:
            self._game.seed(int(self.np_random.integers(2**31)))
        self._game.last_action = 0
        self._game.reset()
        self._elapsed = 0
        return self._game.state().astype(np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        reward, terminated = self._game.act(self._buttons[int(action)])
        self._elapsed += 1
        longest = self.config.max_steps
        truncated = not terminated and longest is not None and self._elapsed >= longest
        return self._game.state().astype(np.float32), float(reward), bool(terminated), truncated, {}

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        state = self._game.state()
        highest = np.where(state.any(-1), state.shape[-1] - state[..., ::-1].argmax(-1), 0)  # y x, 0 for nothing
        return self._colors[highest].repeat(8, 0).repeat(8, 1)


def _colors(kinds: int) -> NDArray[np.uint8]:
    """Black for nothing, then a colour for each kind, evenly around the circle: `kinds+1 3`."""
    colors = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(k / kinds, 0.8, 1.0) for k in range(kinds))]
    return np.round(np.array(colors) * 255).astype(np.uint8)
