"""Atari 2600 games by the Arcade Learning Environment (Bellemare et al. 2013), in the settings of Atari 100k.

The protocol is that of SimPLe (Kaiser et al. 2019, arXiv 1903.00374) as DreamerV3 plays it: 4 frames a step, no sticky
actions, the game's own buttons, up to 30 steps of doing nothing at first, whole games, scores unclipped.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from innerworld.envs.suites import SuiteConfig, SuiteWorld
from innerworld.errors import UserError, nearest

LONGEST = 108_000  # frames of a game: half an hour
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601
STICKY_V5 = 0.25  # what the ids ALE/…-v5 promise (Machado et al. 2018, arXiv 1709.06009)


class AtariConfig(SuiteConfig):
    frame_skip: int = Field(default=4, description="frames that a button is held for, one step", ge=1)
    sticky: float = Field(
        default=0.0,
        description="probability that a frame keeps the button before; 0.25 in 200M-frame results",
        ge=0,
        lt=1,
    )
    noops: int = Field(default=30, description="at most so many frames of doing nothing begin a game", ge=0)
    lives: Literal["ignored", "end"] = Field(
        default="ignored",
        description="end: losing a life ends the episode; a reset without a seed then plays on with the lives left",
    )
    gray: bool = Field(default=False, description="pictures of one channel")
    buttons: Literal["needed", "all"] = Field(default="needed", description="those the game knows, or all 18")


class Atari(SuiteWorld):
    """A game. `pixels`: the brighter of the last two frames, (210, 160, c), for some games draw half of their objects
    in each. `info["lives"]` says how many are left.

    An episode terminates when the game is over and truncates after 108,000 frames (`max_steps` times `frame_skip`).
    """

    Config = AtariConfig

    def __init__(self, config: AtariConfig, size: int = 64, render_mode: str | None = None) -> None:
        import ale_py  # pyright: ignore[reportMissingImports]

        super().__init__(config, size, render_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 60 / config.frame_skip} | {
            "frames_per_step": config.frame_skip
        }
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", config.sticky)
        self._load(0)
        needed = config.buttons == "needed"
        self._buttons = self._ale.getMinimalActionSet() if needed else self._ale.getLegalActionSet()
        self._nothing = ale_py.Action.NOOP
        y, x = self._ale.getScreenDims()
        self._frames = np.zeros((2, y, x, 3), np.uint8)  # the last two, the newest first
        self._longest = LONGEST if config.max_steps is None else config.max_steps * config.frame_skip
        self._elapsed, self._lives, self._life_lost = 0, 0, False
        self.observation_space = spaces.Box(0, 255, (y, x, 1 if config.gray else 3), np.uint8)
        self.action_space = spaces.Discrete(len(self._buttons))

    @classmethod
    def tasks(cls) -> list[str]:
        from ale_py import roms  # pyright: ignore[reportMissingImports]

        return sorted(roms.get_all_rom_ids())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None and self.config.sticky:
            self._load(int(self.np_random.integers(2**31)))
        if seed is None and self._life_lost:
            self._ale.act(self._nothing)
        if seed is not None or not self._life_lost or self._ale.game_over():
            self._begin()
        self._life_lost = False
        self._lives = self._ale.lives()
        self._ale.getScreenRGB(self._frames[0])
        self._frames[1] = self._frames[0]  # both, or the picture would show the last game's end
        return self._picture(), {"lives": self._lives}

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        button, skip = self._buttons[int(action)], self.config.frame_skip
        reward, terminated = 0.0, False
        for frame in range(1, skip + 1):
            reward += self._ale.act(button)
            self._elapsed += 1
            terminated = self._is_over()
            last = terminated or frame == skip or self._elapsed >= self._longest
            if last or frame == skip - 1:
                self._frames[1] = self._frames[0]
                self._ale.getScreenRGB(self._frames[0])
            if last:
                break
        if 1 < frame < skip:  # an early end, and the frame before it was not looked at
            self._frames[1] = self._frames[0]
        truncated = not terminated and self._elapsed >= self._longest
        return self._picture(), reward, terminated, truncated, {"lives": self._lives}

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        return self._frames[0].copy()

    def _load(self, seed: int) -> None:
        from ale_py import roms  # pyright: ignore[reportMissingImports]

        rom: Any = roms.get_rom_path(self.config.task)  # a Path, which the emulator takes, against its own types
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(rom)

    def _begin(self) -> None:
        self._ale.reset_game()
        self._elapsed = 0
        for _ in range(int(self.np_random.integers(self.config.noops + 1))):
            self._ale.act(self._nothing)
            if self._ale.game_over():
                self._ale.reset_game()

    def _is_over(self) -> bool:
        before, self._lives = self._lives, self._ale.lives()
        over = self._ale.game_over()
        self._life_lost = self.config.lives == "end" and self._lives < before and not over
        return over or self._life_lost

    def _picture(self) -> NDArray[np.uint8]:
        brighter = self._frames.max(0)
        return np.rint(brighter @ LUMINANCE).astype(np.uint8)[..., None] if self.config.gray else brighter


def of_ale(id: str) -> str:
    """`ALE/MsPacman-v5` → `atari:ms_pacman,sticky=0.25`. Raises `UserError` for no game, or another version."""
    name, *words = id.removeprefix("ALE/").split(",")
    known = {f"{game.title().replace('_', '')}-v5": game for game in Atari.tasks()}
    if name not in known:
        raise UserError(
            f"unknown environment {id!r}.{nearest(name, list(known))} Atari games are ALE/Pong-v5 and so on"
        )
    return ",".join([f"atari:{known[name]}", f"sticky={STICKY_V5}", *words])
