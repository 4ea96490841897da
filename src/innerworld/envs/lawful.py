"""`Lawful`: many worlds stepped as one array, of which a state of a few numbers says all that is seen and follows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from innerworld.envs.rows import begun_anew
from innerworld.errors import UserError
from innerworld.types import Obs

CHANCES = 1 << 24
"""float32 keeps so many numbers in [0, 1) exactly; one, drawn at a reset, decides all that is left to chance."""
COLORS = np.array(
    [
        (230, 60, 50),
        (60, 110, 240),
        (70, 200, 80),
        (240, 200, 40),
        (190, 80, 220),
        (60, 210, 220),
        (250, 140, 40),
        (150, 95, 50),
    ],
    np.uint8,
)
"""Which nobody takes for one another."""


class Lawful(VectorEnv):
    """Subclass it with `begin`, `after`, `look`, `check`, and where it applies `reward` and `over`.

    Sensors: those of `look`, and `state` (s numbers, the first of which is the time, in steps), which is for probes,
    the oracle and `reset(options={"state": ...})`: what follows from a state is always the same. Truncates after
    `steps` (None: never); one who has ended stays where it is.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        num_envs: int,
        sensors: Mapping[str, spaces.Box],
        state: spaces.Box,
        choices: int,
        steps: int | None,
    ) -> None:
        self.name, self.num_envs, self.steps = name, num_envs, steps
        self.sensors, self.states = list(sensors), state
        self.render_mode = "rgb_array"
        self.single_observation_space = spaces.Dict({**sensors, "state": state})
        self.single_action_space = spaces.Discrete(choices)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.choices = choices
        self.state = np.zeros((num_envs, *state.shape), np.float32)  # n s
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]

    # ------------------------------------------------------------------ the law

    @abstractmethod
    def begin(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A state to begin in: `s`."""

    @abstractmethod
    def after(self, state: NDArray[np.float32], choice: NDArray[np.int64]) -> NDArray[np.float32]:
        """States `n s` and actions `n` → the states one step later."""

    @abstractmethod
    def look(self, state: NDArray[np.float32], sensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What is seen in states `n s` by some of the sensors, each `n ...`."""

    @abstractmethod
    def check(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Are these, `n s`, states of this world?"""

    def reward(self, before: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the step from `before` to `state`, each `n s`, brings: `n`."""
        return np.zeros(len(state), np.float64)

    def over(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Has the world ended in these states, `n s`?"""
        return np.zeros(len(state), bool)

    # ------------------------------------------------------------------ what follows from it

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin anew where `reset_mask` says (everywhere by default). An integer `seed` gives world i `seed + i`.

        The option `state` (n s) says where to begin. Raises `UserError` for one that is none of this world's.
        """
        options = options or {}
        rows = begun_anew(self._rngs, seed, options)
        if "state" in options:
            given = np.asarray(options["state"], np.float32)
            if given.shape != self.state.shape:
                raise UserError(f"{self.name}: state has shape {given.shape}, expected {self.state.shape}")
            bad = rows[~self.check(given[rows])]
            if len(bad):
                raise UserError(f"{self.name}: {given[bad[0]].tolist()}, given for world {bad[0]}, is no state of it")
            self.state[rows] = given[rows]
        else:
            for i in rows:
                self.state[i] = self.begin(self._rngs[i])
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act in every world, `actions` `n` ints. Raises `UserError` for what is no action."""
        choice = np.asarray(actions)
        if choice.shape != (self.num_envs,) or choice.dtype.kind not in "iu":
            raise UserError(
                f"{self.name}: actions are {choice.dtype} of shape {choice.shape}, expected {self.num_envs} integers"
            )
        if not np.all((choice >= 0) & (choice < self.choices)):
            raise UserError(f"{self.name}: an action lies outside 0 to {self.choices - 1}")
        before, ended = self.state, self.ended(self.state)
        self.state = np.where(ended[:, None], before, self.after(before, choice.astype(np.int64)))
        reward = np.where(ended, 0.0, self.reward(before, self.state))
        over = self.over(self.state)
        return self._observe(), reward, over, self.ended(self.state) & ~over, {}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        return tuple(self.look(self.state, ["pixels"])["pixels"])

    def ended(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Is an episode over in these states, `n s`, because the world has ended or time has run out? `n`."""
        late = np.zeros(len(state), bool) if self.steps is None else state[:, 0] >= self.steps
        return self.over(state) | late

    def dynamics(self) -> Law:
        """The law as a function of sensors and action, for the oracle; of `state` and any vectors, not of pictures."""
        return Law(self)

    def _observe(self) -> dict[str, NDArray[Any]]:
        seen = self.look(self.state, self.sensors)
        return {**seen, "state": self.state.copy()}


class Law:
    """What follows, in tensors: sensors `b ...`, among them `state`, and one-hot actions `b a` → one step later."""

    def __init__(self, worlds: Lawful) -> None:
        self.worlds = worlds

    def __call__(self, obs: Obs, action: Tensor) -> Obs:
        state = obs["state"].detach().cpu().numpy().astype(np.float32)
        after = self.worlds.after(state, action.argmax(-1).cpu().numpy())
        ended = self.worlds.ended(state)[:, None]
        after = np.where(ended, state, after)
        seen = {"state": after, **self.worlds.look(after, [name for name in obs if name != "state"])}
        return {name: torch.from_numpy(seen[name]).to(obs[name]) for name in obs}


def drawn(rng: np.random.Generator) -> float:
    """One of the numbers in [0, 1) that a state can keep exactly."""
    return int(rng.integers(CHANCES)) / CHANCES


def one_hot(index: NDArray[np.integer], n: int) -> NDArray[np.float32]:
    """`...` ints → `... n`; -1, which stands for nothing, gives zeros."""
    return np.eye(n + 1, n, dtype=np.float32)[index]  # -1 is the last row, which is empty
