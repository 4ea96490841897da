"""Is everything still there when one turns around and comes back? Asked where the world itself says that it would be.

Beginning at a moment of a held-out episode, the true world does an action k times and then another one k times, as left
and then right. Pixels that were different at the turn and are again as they were at the start have provably returned:
there, and nowhere else, the frame that a model imagines at the end is compared with the start. So a ball that flies on
meanwhile does not matter, and a world of which nothing returns is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from innerworld.data.stepping import to_env
from innerworld.errors import UserError
from innerworld.evaluate.bootstrap import ratio_with_interval
from innerworld.types import Spec

PAIRS = 12  # of actions, tried in the true world
SAME, OTHER = 2, 16  # grey levels of 255: at most so far apart are the same, at least so far are another thing
FEWEST = 4  # pixels that must have returned for a clip to count


@dataclass(frozen=True)
class Tape:
    """Actions that lead away and back, `b h a`, and what of the picture they provably brought back, `b y x` bool.

    `turn` is the true frame at the turn, `b y x c` uint8, `share` how many of the pixels that had changed returned.
    """

    actions: Tensor
    returned: Tensor
    turn: Tensor
    share: float


def find_tape(
    worlds: VectorEnv,
    state: Tensor,
    start: Tensor,
    spec: Spec,
    sensor: str,
    k: int,
    frame_skip: int = 1,
    seed: int = 0,
) -> Tape:
    """Let the true worlds try pairs of actions from the states `b s`, whose frames are `start` `b y x c` uint8; keep
    for all clips the pair that brings most back.

    `spec` is that of the store, whose actions the worlds take; an action of the tape stands for `frame_skip` of them.
    Raises `UserError` for worlds that cannot begin at a state, or show another picture there.
    """
    best: Tape | None = None
    for there, back in _pairs(spec, seed):
        frame = _begin(worlds, state, start, sensor)
        turn = _go(worlds, there, k * frame_skip, spec, sensor)
        end = _go(worlds, back, k * frame_skip, spec, sensor)
        changed, returned = _apart(turn, frame) >= OTHER, _apart(end, frame) <= SAME
        both = changed & returned
        if best is None or both.sum() > best.returned.sum():
            steps = torch.stack([there] * k + [back] * k).repeat(1, frame_skip)  # h (k a)
            actions = steps.expand(len(frame), *steps.shape)
            best = Tape(actions, both, turn, (both.sum() / changed.sum().clamp_min(1)).item())
    if best is None:
        raise UserError("there is but one action, so nothing leads back")
    return best


def returning(tape: Tape, turn: Tensor, end: Tensor, redrawn: Tensor, start: Tensor, seed: int = 0) -> dict[str, float]:
    """Squared errors of two imagined frames, each over that between the true start and the true turn, all on the pixels
    that returned, of frames `b y x c` uint8. Empty where nothing returned.

    `return_error`: the `end` against the start; 0 is a perfect return, 1 is as if one had stayed at the turn. Beside it
    what the codec draws of the start, `redrawn`. `turn_error`: the `turn` against the true one; 1 is a model that never
    left, which returns without merit, so read both.
    """
    counts = tape.returned.sum((1, 2)) >= FEWEST
    if int(counts.sum()) < 2:
        return {}
    pairs = (start, tape.turn), (turn, tape.turn), (end, start), (redrawn, start)
    away, gone, back, floor = (_error(a[counts], b[counts], tape.returned[counts]) for a, b in pairs)
    return (
        ratio_with_interval("turn_error", gone, away, seed)
        | ratio_with_interval("return_error", back, away, seed)
        | {"return_error_codec": (floor.mean() / away.mean()).item()}
        | {"return_share": tape.share, "return_clips": float(counts.sum())}
    )


def _pairs(spec: Spec, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Actions `a` and what may undo them; continuous ones are undone by their opposites."""
    if not spec.discrete:
        for i in range(min(spec.action, PAIRS)):
            one = torch.zeros(spec.action)
            one[i] = 1
            yield one, -one
        return
    choices = torch.eye(spec.action)
    pairs = list(permutations(range(spec.action), 2))
    order = np.random.default_rng([seed, 21]).permutation(len(pairs))[:PAIRS]
    for i, j in (pairs[n] for n in sorted(order.tolist())):
        yield choices[i], choices[j]


def _begin(worlds: VectorEnv, state: Tensor, start: Tensor, sensor: str) -> Tensor:
    obs, _ = worlds.reset(seed=0, options={"state": state.numpy()})
    told = obs.get("state")
    if told is None or told.shape != tuple(state.shape) or not np.allclose(told, state.numpy(), atol=1e-4):
        raise UserError("the world cannot begin at a given state, so there is no true way back to compare with")
    frame = torch.from_numpy(np.array(obs[sensor]))
    if frame.shape != start.shape or (_apart(frame, start) > SAME).float().mean() > 0.01:
        raise UserError("the world shows another picture at a stored state, so its way back cannot be compared with")
    return frame


def _go(worlds: VectorEnv, action: Tensor, steps: int, spec: Spec, sensor: str) -> Tensor:
    first: Any = worlds.single_action_space
    given = to_env(action.expand(worlds.num_envs, -1).numpy(), spec, int(first.start) if spec.discrete else 0)
    for _ in range(steps):
        obs, *_ = worlds.step(given)
    return torch.from_numpy(np.array(obs[sensor]))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """`b y x c` uint8 twice → how far pixels are apart, `b y x`, in grey levels of the channel that differs most."""
    return (a.int() - b.int()).abs().amax(dim=-1)


def _error(a: Tensor, b: Tensor, pixels: Tensor) -> Tensor:
    """Mean squared error on some pixels: `b`."""
    away = (a.float() - b.float()).square().mean(dim=-1) * pixels
    return away.sum((1, 2)) / pixels.sum((1, 2))
