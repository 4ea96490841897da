"""There and back: only what provably returned counts, who never left is told apart, who cannot say is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.data import Clips, Store
from innerworld.envs import make
from innerworld.envs.paddle import PaddleConfig, PaddleVector
from innerworld.errors import UserError
from innerworld.evaluate.turning import Tape, find_tape, returning
from innerworld.types import Clip, Spec

N = 12


@pytest.fixture
def moment(films: Store) -> Clip:
    return Clips(films, np.arange(24), 1, N).batch(0)


def found(films: Store, moment: Clip, k: int = 3) -> Tape:
    worlds = make("paddle", N, size=16)
    return find_tape(worlds, moment.obs["state"][:, 0], moment.obs["pixels"][:, 0], films.spec, "pixels", k)


def test_a_paddle_comes_back_and_a_ball_does_not(films: Store, moment: Clip) -> None:
    tape = found(films, moment)
    chosen = tape.actions.argmax(-1)
    assert chosen.shape == (N, 6) and (chosen[:, :3] == chosen[0, 0]).all() and (chosen[:, 3:] == chosen[0, 3]).all()
    assert {int(chosen[0, 0]), int(chosen[0, 3])} == {0, 2}  # left and right, not to stay
    assert tape.returned[:, 12:].any() and 0.3 < tape.share < 1  # the paddle's rows, and not all that changed
    world = PaddleVector(N, PaddleConfig(size=16))
    obs, _ = world.reset(options={"state": moment.obs["state"][:, 0].numpy()})
    start = obs["pixels"]
    for action in chosen.T.numpy():
        obs, *_ = world.step(action)
    pixels = tape.returned.numpy()
    apart = np.abs(obs["pixels"].astype(int) - start).max(-1)
    assert (apart[pixels] <= 2).all()


def test_who_returns_who_stays_and_who_never_left(films: Store, moment: Clip) -> None:
    tape, start = found(films, moment), moment.obs["pixels"][:, 0]
    good = returning(tape, tape.turn, start, start, start)
    assert (good["turn_error"], good["return_error"], good["return_error_codec"]) == (0, 0, 0)
    stayed = returning(tape, tape.turn, tape.turn, start, start)
    assert (stayed["turn_error"], stayed["return_error"]) == (0, 1)
    never = returning(tape, start, start, start, start)
    assert (never["turn_error"], never["return_error"]) == (1, 0)
    assert 2 <= good["return_clips"] <= N and good["return_share"] == tape.share


def test_where_nothing_returns_nothing_is_told() -> None:
    frames = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    tape = Tape(torch.zeros(3, 2, 1), torch.zeros(3, 4, 4, dtype=torch.bool), frames, 0.0)
    assert returning(tape, frames, frames, frames, frames) == {}


def test_continuous_actions_are_undone_by_their_opposites() -> None:
    worlds = make("two_rooms", 4, size=32)
    state = np.array([[6.0, 16], [8, 8], [26, 20], [6, 26]], np.float32)
    obs, _ = worlds.reset(options={"state": state})
    spec = Spec({"pixels": (32, 32, 3), "state": (2,), "layout": (4,)}, 2)
    tape = find_tape(worlds, torch.from_numpy(state), torch.from_numpy(obs["pixels"]), spec, "pixels", 2, frame_skip=2)
    assert tape.actions.shape == (4, 4, 4) and torch.equal(tape.actions[:, :2], -tape.actions[:, 2:])
    assert tape.returned.any((1, 2)).sum() >= 2


def test_worlds_that_cannot_say_are_refused(films: Store, moment: Clip) -> None:
    state, pixels = moment.obs["state"][:, 0], moment.obs["pixels"][:, 0]
    with pytest.raises(UserError, match="shows another picture"):
        find_tape(make("paddle", N, size=16), state, pixels.flip(0), films.spec, "pixels", 2)
    pole = make("CartPole-v1", 2, size=16, sensors=["state"])
    with pytest.raises(UserError, match="cannot begin at a given state"):
        find_tape(pole, torch.full((2, 4), 0.9), pixels[:2], Spec({"state": (4,)}, 2, discrete=True), "pixels", 2)
    with pytest.raises(UserError, match="cannot begin at a given state"):  # of another world
        find_tape(pole, torch.zeros(2, 3), pixels[:2], Spec({"state": (3,)}, 2, discrete=True), "pixels", 2)
    one = Spec(films.spec.obs, 1, discrete=True)
    with pytest.raises(UserError, match="but one action"):
        find_tape(make("paddle", N, size=16), state, pixels, one, "pixels", 2)
