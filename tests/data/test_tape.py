"""A tape keeps long episodes whole, and what it gave away stays when it is used again."""

from __future__ import annotations

import numpy as np
import torch

from innerworld.data.tape import ROOM, Tape
from innerworld.types import Spec

SPEC = Spec({"pixels": (2, 2, 1), "state": (1,)}, action=1)


def play(tape: Tape, t: int, first: int = 0) -> None:
    for time in range(t + 1):
        if time:
            tape.act(np.array([time / 1000], np.float32), time, time == t)
        value = first + time
        tape.look({"pixels": np.full((3, 2, 2, 1), value % 256, np.uint8), "state": np.full((3, 1), value)}, 1)


def test_an_episode_longer_than_the_room_at_first():
    tape, t = Tape(SPEC), 3 * ROOM + 1
    tape.begin(0, recorded=True)
    play(tape, t)
    clip = tape.clip()
    assert torch.equal(clip.obs["state"][0, :, 0], torch.arange(t + 1.0))
    assert torch.equal(clip.obs["pixels"][0, :, 1, 1, 0], (torch.arange(t + 1) % 256).to(torch.uint8))
    assert torch.equal(clip.reward[0], torch.arange(1.0, t + 1))
    torch.testing.assert_close(clip.action[0, :, 0], torch.arange(1.0, t + 1) / 1000)
    assert clip.terminated[0].tolist() == [False] * (t - 1) + [True]


def test_its_size_is_that_of_its_frames():
    tape = Tape(SPEC)
    tape.begin(0, recorded=True)
    play(tape, 5)
    assert tape.bytes == sum(frames.nbytes for frames in tape.clip().obs.values())


def test_a_tape_used_again_leaves_the_last_clip_alone():
    tape = Tape(SPEC)
    tape.begin(0, recorded=True)
    play(tape, 5)
    clip = tape.clip()
    tape.begin(1, recorded=True)
    play(tape, 3, first=50)
    assert torch.equal(clip.obs["state"][0, :, 0], torch.arange(6.0))
    assert tape.clip().obs["state"][0, :, 0].tolist() == [50, 51, 52, 53]
