"""What codes mean by labelled transitions: choices are counted, continuous actions averaged."""

from __future__ import annotations

import torch

from innerworld.models.genie_config import LabelsConfig
from innerworld.models.genie_labels import Labels, Meaning
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (8, 8, 3)}, 3, discrete=True)


def test_continuous_actions_are_the_codes_whose_mean_is_nearest() -> None:
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    codes = torch.tensor([0, 0, 2, 2])
    actions = torch.tensor([[1.0, 0.0], [0.8, 0.2], [-1.0, -1.0], [-1.0, -0.8]])
    meaning = Meaning(codes, actions, 4, spec)
    assert meaning.code(torch.tensor([[0.5, 0.5], [0.0, -1.0]])).tolist() == [0, 2]
    told = meaning.real(torch.tensor([0, 2, 3]))  # of 3 nothing is known: the mean of what is
    assert torch.allclose(told, torch.tensor([[0.9, 0.1], [-1.0, -0.9], [-0.05, -0.4]]))


def test_a_choice_is_played_as_the_code_that_is_most_its_own() -> None:
    """Not as the one that is most frequent with it: standing still is what every action comes to at a wall."""
    still, left = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    codes = torch.tensor([0] * 9 + [0] * 3 + [1] * 2)
    meaning = Meaning(codes, torch.stack([still] * 9 + [left] * 5), 3, SPEC)
    assert meaning.code(torch.stack([left, still])).tolist() == [1, 0]
    assert meaning.real(torch.tensor([0, 1])).argmax(dim=-1).tolist() == [1, 0]


def test_codes_that_no_label_shows_stand_for_what_is_most_frequent() -> None:
    meaning = Meaning(torch.tensor([0, 0, 0, 2]), torch.eye(3)[[1, 1, 0, 2]], 4, SPEC)
    assert meaning.real(torch.arange(4)).argmax(dim=-1).tolist() == [1, 1, 2, 1]


def test_steps_that_do_not_count_are_no_labels() -> None:
    """Of two clips of 5 steps, in pieces of 3: only those before the last of each piece."""
    labels = Labels(LabelsConfig(count=100, length=3), SPEC, 1)

    def counted(clip: Clip) -> torch.Tensor:
        return (torch.arange(clip.length) < clip.length - 1).expand(clip.action.shape[:2])

    clip = random_clip(SPEC, 2, 5)
    labels.take(clip, counted)
    codes, actions = labels.pairs(lambda obs: obs["pixels"][:, 1:, 0, 0, 0].long())
    assert torch.equal(actions, clip.action[:, :2].flatten(0, 1))
    assert torch.equal(codes, clip.obs["pixels"][:, 1:3, 0, 0, 0].flatten().long())
