"""Films that a true world shows of given actions, begun at given states or by a seed: the truth of what is imagined."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from innerworld.data.stepping import to_env
from innerworld.errors import UserError
from innerworld.types import Clip, Obs, Spec

NEAR = 1e-3  # between the state that was asked for and the one that was shown, of 1 or of its size


def enact(
    worlds: VectorEnv, actions: Tensor, spec: Spec, frame_skip: int = 1, state: Tensor | None = None, seed: int = 0
) -> tuple[Clip, Tensor]:
    """Do the actions, `b t (k a)`, each a block of `frame_skip`; what was seen, and which rows lasted to the end, `b`.

    `spec` is that of the store, whose actions the worlds take. Worlds begin at `state` `b s`, or as `seed` says. A row
    that ended too early shows whatever came after. Raises `UserError` for worlds that cannot begin at a state.
    """
    seen, rewards = [_begin(worlds, state, seed)], []
    space: Any = worlds.single_action_space
    choices_from = int(space.start) if spec.discrete else 0
    over, lasted = np.zeros(worlds.num_envs, bool), np.ones(worlds.num_envs, bool)
    for block in actions.unbind(dim=1):
        gained = np.zeros(worlds.num_envs)
        for action in block.unflatten(-1, (frame_skip, -1)).unbind(dim=1):
            if over.any():  # before the end of the films: such a row says no more, and some worlds refuse to go on
                lasted &= ~over
                worlds.reset(options={"reset_mask": over})
            obs, reward, terminated, truncated, _ = worlds.step(to_env(action.cpu().numpy(), spec, choices_from))
            over = np.asarray(terminated | truncated, bool)
            gained += reward
        seen.append(_copied(obs))
        rewards.append(torch.from_numpy(gained).float())
    films: Obs = {name: torch.stack([frame[name] for frame in seen], dim=1) for name in seen[0]}
    earned = torch.stack(rewards, dim=1)
    return Clip(films, actions.cpu(), earned, torch.zeros_like(earned, dtype=torch.bool)), torch.from_numpy(lasted)


def _begin(worlds: VectorEnv, state: Tensor | None, seed: int) -> Obs:
    if state is None:
        obs, _ = worlds.reset(seed=seed)
        return _copied(obs)
    obs, _ = worlds.reset(seed=seed, options={"state": state.cpu().numpy()})
    told = obs.get("state")
    if told is None or told.shape != tuple(state.shape) or not np.allclose(told, state.cpu(), rtol=NEAR, atol=NEAR):
        raise UserError("the world cannot begin at a given state, so that nothing can be tried twice from there")
    return _copied(obs)


def _copied(obs: dict[str, Any]) -> Obs:
    """Worlds may show each frame in the same memory."""
    return {name: torch.from_numpy(np.array(value)) for name, value in obs.items()}
