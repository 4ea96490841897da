"""Goals lie in the future of their own clip, as far as their kind says, and belong to its row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from innerworld.data import Clips, Store
from innerworld.data.clips.goals import ELSEWHERE, Goals
from innerworld.data.clips.mixture import Mixture
from innerworld.errors import UserError

Numbered = Callable[..., Store]
LENGTHS = [40, 30, 35, 7]


@pytest.mark.parametrize("kind", ["near", "future", "final"])
@pytest.mark.parametrize("skip", [1, 3])
def test_a_goal_lies_in_the_future_of_its_clip(numbered: Numbered, kind: str, skip: int):
    store = numbered(LENGTHS)
    clips = Clips(store, None, length=2, batch=400, frame_skip=skip, history=1)
    goals = Goals(clips, kind, mean=3)
    obs, steps = goals.batch(5)
    last = clips.batch(5).obs["state"][:, -1]
    assert torch.equal(obs["state"][:, 0], last[:, 0])  # the same episode
    ahead = obs["state"][:, 1] - last[:, 1]
    if kind == "final":
        assert torch.equal(obs["state"][:, 1], torch.from_numpy(store.lengths)[last[:, 0].long()].float())
    else:
        assert torch.equal(ahead, steps * float(skip))
    assert int(steps.min()) >= 0
    assert torch.equal(obs["pixels"][:, 0, 0, 0], (10 * obs["state"][:, 0] + obs["state"][:, 1]).to(torch.uint8))


def test_how_far_goals_are(numbered: Numbered):
    clips = Clips(numbered([99]), None, length=1, batch=20000)
    last = clips.batch(0).obs["state"][:, -1, 1]
    steps = Goals(clips, "near", mean=4).batch(0)[1]
    early = last < 60
    assert float(steps[early].float().mean()) == pytest.approx(4, rel=0.05)
    assert float((steps[early] == 0).float().mean()) == pytest.approx(0.2, abs=0.015)
    part = Goals(clips, "future").batch(0)[1] / (99 - last).clamp(min=1)
    assert float(part[early].mean()) == pytest.approx(0.5, abs=0.02) and int(part.max()) <= 1


def test_goals_from_elsewhere_and_shares(numbered: Numbered):
    clips = Clips(numbered(LENGTHS), None, length=2, batch=2000)
    obs, steps = Goals(clips, {"random": 0.3, "final": 0.7}).batch(0)
    assert float((steps == ELSEWHERE).float().mean()) == pytest.approx(0.3, abs=0.04)
    other = obs["state"][steps == ELSEWHERE, 0] != clips.batch(0).obs["state"][steps == ELSEWHERE, 0, 0]
    assert float(other.float().mean()) > 0.5


def test_goals_are_pure_and_come_in_parts(numbered: Numbered):
    parts = [Clips(numbered([9, 8], "a"), None, 2, 12), Clips(numbered([30], "b"), None, 2, 12)]
    goals = Goals(Mixture(parts), {"near": 0.5, "random": 0.5})
    obs, steps = goals.batch(3)
    part, near = goals.rows(3, 4, 9)
    assert torch.equal(part["pixels"], obs["pixels"][4:9]) and torch.equal(near, steps[4:9])
    assert not torch.equal(
        Goals(Mixture(parts), "future", seed=1).batch(3)[1], Goals(Mixture(parts), "future").batch(3)[1]
    )


def test_one_clip_has_goals_too_and_mistakes_are_told(numbered: Numbered):
    clips = Clips(numbered([2]), None, length=2, batch=1)
    assert Goals(clips, "near").batch(0)[1].tolist() == [0]
    assert Goals(clips, "random").batch(0)[1].tolist() == [ELSEWHERE]
    with pytest.raises(UserError, match="'future'"):
        Goals(clips, "futur")
    for shares, mean in (({}, 1.0), ({"near": 0.0}, 1.0), ({"near": -1.0, "final": 2.0}, 1.0), ({"near": 1.0}, -1.0)):
        with pytest.raises(UserError, match="goals need shares"):
            Goals(clips, shares, mean)
