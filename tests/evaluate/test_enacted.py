"""Films of given actions: what the world shows, begun where it should, and rows that end too early are told."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from innerworld.envs.two_rooms import TwoRoomsVector
from innerworld.errors import UserError
from innerworld.evaluate.enacted import enact
from innerworld.types import Spec

ROOMS = Spec({"pixels": (64, 64, 3), "state": (2,), "layout": (4,)}, 2)


class Short(gymnasium.Env):
    """Ends after two steps in every other world; each step brings 1."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"state": spaces.Box(-9, 9, (1,), np.float32)})
        self.action_space = spaces.Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.steps, self.short = 0, seed is None or seed % 2 == 0
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert action in (1, 2), "choices of this world begin at 1"
        self.steps += 1
        return {"state": np.full(1, self.steps, np.float32)}, 1.0, self.short and self.steps == 2, False, {}


def test_actions_are_done_from_the_states() -> None:
    state = torch.tensor([[10.0, 12.0], [50.0, 40.0]])
    actions = torch.tensor([[0.5, 0.0], [0.0, -1.0]]).repeat(2, 1, 1)
    film, lasted = enact(TwoRoomsVector(2), actions, ROOMS, state=state)
    expected = torch.stack([state, state + torch.tensor([2.0, 0]), state + torch.tensor([2.0, -4])], dim=1)
    torch.testing.assert_close(film.obs["state"], expected)
    assert film.obs["pixels"].shape == (2, 3, 64, 64, 3) and lasted.all()
    joined, _ = enact(TwoRoomsVector(2), actions.flatten(1)[:, None], ROOMS, frame_skip=2, state=state)
    torch.testing.assert_close(joined.obs["state"], expected[:, ::2])


def test_a_seed_begins_where_no_state_is_given() -> None:
    actions = torch.zeros(3, 2, 2)
    one, again, other = (enact(TwoRoomsVector(3), actions, ROOMS, seed=seed)[0] for seed in (1, 1, 5))
    assert torch.equal(one.obs["pixels"], again.obs["pixels"])
    assert not torch.equal(one.obs["state"], other.obs["state"])


def test_rows_that_end_too_early_are_told_and_rewards_of_a_block_added() -> None:
    worlds = SyncVectorEnv([Short] * 4, autoreset_mode=AutoresetMode.DISABLED)
    spec = Spec({"state": (1,)}, 2, discrete=True)
    actions = torch.eye(2)[torch.zeros(4, 3, dtype=torch.long)]
    film, lasted = enact(worlds, actions, spec)
    assert lasted.tolist() == [False, True, False, True]
    assert film.obs["state"][1, :, 0].tolist() == [0, 1, 2, 3] and film.reward[1].tolist() == [1, 1, 1]
    assert enact(worlds, actions[:, :2], spec)[1].all()  # ending with the last action is not too early


def test_a_world_that_does_not_begin_there_is_refused() -> None:
    worlds = SyncVectorEnv([Short] * 2, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(UserError, match="cannot begin at a given state"):
        enact(
            worlds, torch.eye(2)[None].repeat(2, 1, 1), Spec({"state": (1,)}, 2, discrete=True), state=torch.ones(2, 1)
        )
