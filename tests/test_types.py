"""Shapes that cannot be right fail where a clip or a spec is made, with a sentence."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import Generator

from innerworld.errors import UserError
from innerworld.types import Clip, Spec, each, random_actions

SPEC = Spec({"pixels": (8, 6, 3), "speed": (2,)}, action=3)


def numbered(b: int = 2, t: int = 5) -> Clip:
    """A clip in which every value tells its time."""
    time = torch.arange(t + 1.0)
    pixels = time.byte()[None, :, None, None, None].expand(b, -1, 8, 6, 3)
    return Clip(
        {"pixels": pixels, "speed": time[None, :, None].expand(b, -1, 2)},
        time[None, :t, None].expand(b, -1, 3),
        time[:t].expand(b, -1),
        torch.zeros(b, t, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("obs", "action", "sentence"),
    [
        ({}, 1, "at least one sensor"),
        ({"a": (2,)}, -1, "action size of at least 0"),
        ({"a": (2, 3, 4, 5)}, 1, "neither an image"),
        ({"a": ()}, 1, "neither an image"),
        ({"a": (0,)}, 1, "neither an image"),
        ({"a": (8, 8, 5)}, 1, "c in 1, 3, 4"),
        ({"a": (3, 64, 64)}, 1, "c in 1, 3, 4"),
    ],
)
def test_a_wrong_spec_is_refused(obs: dict, action: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Spec(obs, action)


def test_a_spec_tells_images_from_vectors_and_can_be_narrowed() -> None:
    assert SPEC.images() == ["pixels"] and SPEC.vectors() == ["speed"]
    assert SPEC.only("speed") == Spec({"speed": (2,)}, 3)
    assert list(SPEC.only("speed", "pixels").obs) == ["speed", "pixels"]
    with pytest.raises(UserError, match=r"no sensor 'pixel' here\. Did you mean 'pixels'"):
        SPEC.only("pixel")


def test_time_is_in_the_shape() -> None:
    clip = numbered()
    assert clip.length == 5
    with pytest.raises(UserError, match="one observation more than actions"):
        replace(clip, obs={"speed": clip.obs["speed"][:, :-1]})
    with pytest.raises(UserError, match=r"reward has shape \(2, 4\), expected \(2, 5\)"):
        replace(clip, reward=clip.reward[:, :-1])
    with pytest.raises(UserError, match="terminated has shape"):
        replace(clip, terminated=clip.terminated[:1])
    with pytest.raises(UserError, match=r"expected \(b, t, a\)"):
        replace(clip, action=clip.action[0])
    with pytest.raises(UserError, match="no sensor"):
        replace(clip, obs={})
    with pytest.raises(FrozenInstanceError):
        clip.reward = clip.reward  # pyright: ignore


def test_a_cut_keeps_each_action_between_its_observations() -> None:
    cut = numbered().cut(2, 3)
    assert cut.obs["speed"][0, :, 0].tolist() == [2, 3, 4, 5]
    assert cut.obs["pixels"][0, :, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert cut.action[0, :, 0].tolist() == cut.reward[0].tolist() == [2, 3, 4]
    for start, length in ((-1, 2), (3, 3)):
        with pytest.raises(UserError, match="cannot cut"):
            numbered().cut(start, length)


def test_rows_moments_and_devices() -> None:
    clip = numbered(b=3)
    assert clip.rows(torch.tensor([2, 0])).action.shape == (2, 5, 3)
    assert clip.rows(slice(1, 2)).obs["pixels"].shape == (1, 6, 8, 6, 3)
    assert {name: tuple(value.shape) for name, value in clip.at(4).items()} == {"pixels": (3, 8, 6, 3), "speed": (3, 2)}
    assert clip.at(4)["speed"].unique().tolist() == [4]
    assert clip.to("meta").terminated.device.type == "meta"
    assert each(torch.neg, {"a": torch.ones(2)})["a"].tolist() == [-1, -1]


def test_marks_and_past_of_a_clip_go_with_its_rows_and_times() -> None:
    clip = numbered(b=3, t=4)
    first = torch.zeros(3, 5, dtype=torch.bool)
    first[2, 3] = True
    joined = replace(clip, first=first, past={"z": torch.arange(3.0)})
    row = joined.rows(slice(2, 3))
    assert row.first is not None and row.first.tolist() == [[False, False, False, True, False]]
    assert row.past is not None and row.past["z"].tolist() == [2.0]
    later = joined.cut(2, 2)
    assert later.first is not None and later.first[2].tolist() == [False, True, False] and later.past is None
    assert joined.cut(0, 2).past is joined.past
    with pytest.raises(UserError, match="first has shape"):
        replace(clip, first=first[:, 1:])


def test_a_blank_sight_is_of_the_kinds_that_a_model_is_shown() -> None:
    blank = Spec({"pixels": (8, 6, 3), "speed": (2,), "tokens": (4, 5)}, action=3).blank()
    assert {name: (tuple(value.shape), value.dtype) for name, value in blank.items()} == {
        "pixels": ((1, 8, 6, 3), torch.uint8),
        "speed": ((1, 2), torch.float32),
        "tokens": ((1, 4, 5), torch.float16),
    }


def test_random_actions_are_of_the_world_s_kind() -> None:
    choices = random_actions(Spec({"x": (1,)}, 4, discrete=True), (400, 3), Generator().manual_seed(0))
    assert choices.shape == (400, 3, 4) and (choices.sum(-1) == 1).all()
    assert choices.mean((0, 1)).tolist() == pytest.approx([0.25] * 4, abs=0.05)
    free = random_actions(Spec({"x": (1,)}, 2), (400, 3), Generator().manual_seed(0))
    assert free.min() < -0.9 and free.max() > 0.9 and abs(float(free.mean())) < 0.05
