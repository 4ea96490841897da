"""Recent experience: whole stretches of one world each, bounded, exact after a restart."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent.experience import Experience
from innerworld.errors import UserError
from innerworld.types import Obs, Spec

SPEC = Spec({"at": (2,)}, 1)
PLENTY = 64.0  # MiB


def sight(step: int, worlds: list[int], episode: int = 0) -> Obs:
    """Which world it is of, and when."""
    return {"at": torch.tensor([[100.0 * episode + world, step] for world in worlds])}


def lived(experience: Experience, steps: int, worlds: list[int], first: int = 0, episode: int = 0) -> None:
    for step in range(first, first + steps):
        if step == 0:
            experience.begin(sight(0, worlds, episode))
        else:
            b = len(worlds)
            experience.add(sight(step, worlds, episode), _told(step, b), torch.full((b,), float(step)), _never(b))


def _told(step: int, b: int) -> Tensor:
    return torch.full((b, 1), float(step))


def _never(b: int) -> Tensor:
    return torch.zeros(b, dtype=torch.bool)


def test_a_clip_is_of_one_world_and_one_episode() -> None:
    experience = Experience(SPEC, 100, PLENTY)
    lived(experience, 6, [0, 1, 2])
    lived(experience, 5, [0, 1, 2], episode=1)
    assert experience.windows(3) == 3 * (6 - 3) + 3 * (5 - 3)
    clip = experience.clips(3, 500, Generator().manual_seed(0))
    who, when = clip.obs["at"].unbind(-1)  # b t+1
    assert (who == who[:, :1]).all() and (when.diff(dim=1) == 1).all()
    assert torch.equal(clip.action[..., 0], when[:, 1:]) and torch.equal(clip.reward, when[:, 1:])
    assert len(torch.stack([who[:, 0], when[:, 0]], dim=1).unique(dim=0)) == experience.windows(3)  # all are drawn


def test_it_goes_on_with_some_worlds() -> None:
    experience = Experience(SPEC, 100, PLENTY)
    lived(experience, 4, [0, 1, 2])
    experience.keep(torch.tensor([2, 0]))
    lived(experience, 3, [2, 0], first=4)
    clip, rows = experience.lately(32)
    assert rows.tolist() == [0, 1] and clip.length == 6
    assert clip.obs["at"][..., 0].tolist() == [[2.0] * 7, [0.0] * 7]
    assert experience.lately(2)[0].obs["at"][0, :, 1].tolist() == [4, 5, 6]


def test_it_is_bounded_and_forgets_the_oldest() -> None:
    experience = Experience(SPEC, 10, PLENTY)
    lived(experience, 40, [0, 1])
    assert len(experience) == 10 and experience.count == 80
    assert experience.windows(4) == 2 and experience.windows(5) == 0
    clip = experience.clips(4, 20, Generator().manual_seed(0))
    assert clip.obs["at"][..., 1].unique().tolist() == [35, 36, 37, 38, 39]
    assert experience.lately(32)[0].length == 4
    row = 4 * 2 + 4 + 4 + 1 + 8  # bytes of a sight
    assert Experience(SPEC, 10**9, 1.0).room == 2**20 // row
    with pytest.raises(UserError, match="8 worlds"):
        experience.begin(sight(0, list(range(8))))


def test_a_broken_sight_parts_a_stretch() -> None:
    experience = Experience(SPEC, 100, PLENTY)
    lived(experience, 4, [0, 1])
    broken = sight(4, [0, 1])
    broken["at"][0] = torch.nan
    experience.add(broken, _told(4, 2), torch.zeros(2), _never(2))
    clip, rows = experience.lately(32)
    assert rows.tolist() == [1] and clip.length == 4
    lived(experience, 2, [0, 1], first=5)
    assert experience.windows(3) == 1 + 4
    assert experience.lately(32)[0].length == 1  # as much as all of them saw
    experience.add({}, _told(7, 2), torch.zeros(2), _never(2))
    clip, rows = experience.lately(32)
    assert not len(rows) and clip.length == 0
    assert experience.clips(1, 300, Generator().manual_seed(0)).obs["at"].isfinite().all()


def test_it_is_the_same_after_a_restart() -> None:
    first, second = (Experience(SPEC, 10, PLENTY) for _ in range(2))
    lived(first, 17, [0, 1])
    second.restore({name: value.clone() for name, value in first.tensors().items()})
    for each in (first, second):
        lived(each, 3, [0, 1], first=17)
    clips = [each.clips(3, 16, Generator().manual_seed(1)) for each in (first, second)]
    assert torch.equal(clips[0].obs["at"], clips[1].obs["at"]) and first.count == second.count
    with pytest.raises(UserError, match="room for 5"):
        Experience(SPEC, 5, PLENTY).restore(first.tensors())
    with pytest.raises(UserError, match="shape"):
        Experience(Spec({"at": (3,)}, 1), 10, PLENTY).restore(first.tensors())
