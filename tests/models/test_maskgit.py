"""MaskGIT: what is masked, what is learnt from it, and frames that are filled in by the surest guesses first."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from innerworld.models.genie_config import MaskGITConfig
from innerworld.models.maskgit import MaskGIT

BODY: dict[str, Any] = {"dim": 16, "depth": 1, "heads": 2, "mlp": 2.0, "window": 3, "steering": "token"}


def build(**words: Any) -> MaskGIT:
    torch.manual_seed(0)
    return MaskGIT(MaskGITConfig.model_validate({"backbone": BODY} | words), [(4, 4)], 3, 2, 5, 4).eval()


@pytest.mark.parametrize(("masks", "low", "high"), [("clip", 0.7, 0.8), ("frame", 0.33, 0.42)])
def test_shares_that_are_masked(masks: str, low: float, high: float) -> None:
    """Three quarters on average, of half of the frames where each has its own; first frames never."""
    torch.manual_seed(0)
    first = torch.zeros(400, 6, dtype=torch.bool)
    first[:, 3] = True
    masked = build(masks=masks)._masks(torch.zeros(400, 6, 16, 2), first)
    assert not masked[:, [0, 3]].any()
    shares = masked[:, [1, 2, 4, 5]].float().mean(dim=-1)
    assert low < shares.mean() < high
    assert (shares[:, 0] == 0).float().mean() < 0.01 if masks == "clip" else (shares[:, 0] == 0).float().mean() > 0.4


def test_the_loss_is_that_of_masked_words_only() -> None:
    model = build(least=1.0)  # all but the first frame
    tokens, words = torch.randn(2, 4, 16, 3), torch.randint(5, (2, 4, 16, 2))
    acts = torch.zeros(2, 4, dtype=torch.long)
    loss = model.loss(tokens, words, acts)
    hidden = torch.ones(2, 4, 16, dtype=torch.bool)
    hidden[:, 0] = False
    told = model.logits(model.body(*model.enter(tokens, acts, hidden)))[:, 1:].log_softmax(dim=-1)
    expected = -told.gather(-1, words[:, 1:, ..., None]).mean()
    assert torch.isclose(loss, expected, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4, 8, 40])
@torch.no_grad()
def test_a_frame_is_filled_in_by_a_cosine_schedule(steps: int) -> None:
    model, masks = build(steps=steps), []

    def look(x: Tensor, steer: Tensor | None) -> Tensor:
        masks.append((x == model.masked).all(dim=-1))
        return torch.randn(2, 16, 16, generator=Generator().manual_seed(len(masks)))

    words = model.fill(look, lambda words: words.float().sum(-1, keepdim=True).expand(*words.shape[:2], 3), *NOW, None)
    assert words.shape == (2, 16, 2)
    left = [int(16 * torch.cos(torch.tensor(torch.pi / 2 * i / steps, dtype=torch.float64))) for i in range(steps)]
    assert [mask.sum(dim=1).tolist() for mask in masks] == [[n, n] for n in left[: len(masks)]]
    assert len(masks) == steps or left[len(masks)] == 0
    for before, after in pairwise(masks):
        assert not (after & ~before).any()  # what is known stays known


NOW = (torch.zeros(2, dtype=torch.long),)


@torch.no_grad()
def test_the_surest_guesses_stay() -> None:
    """With two looks at four tokens, those that were least sure are looked at again."""
    torch.manual_seed(0)
    model = MaskGIT(MaskGITConfig.model_validate({"backbone": BODY, "steps": 2}), [(2, 2)], 3, 1, 5, 4).eval()
    scores = torch.zeros(1, 4, 5)
    scores[0, [0, 1, 2, 3], [1, 2, 3, 4]] = torch.tensor([1.0, 9.0, 2.0, 8.0])
    model.logits = lambda out: out[..., None, :]  # the scores themselves
    masks = []

    def look(x: Tensor, steer: Tensor | None) -> Tensor:
        masks.append((x == model.masked).all(dim=-1))
        return scores

    found = model.fill(look, lambda words: words.float().expand(1, 4, 3), torch.zeros(1, dtype=torch.long), None)
    assert found.squeeze().tolist() == [1, 2, 3, 4]
    assert masks[1].tolist() == [[True, False, True, False]]


@torch.no_grad()
def test_draws_follow_the_scores() -> None:
    model = build(steps=1)
    chance = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0]).clamp(min=1e-9)
    model.logits = lambda out: chance.log().expand(*out.shape[:-1], 2, 5)
    act = torch.zeros(200, dtype=torch.long)
    words = model.fill(
        lambda x, _: x, lambda words: words.float()[..., :1].expand(-1, -1, 3), act, Generator().manual_seed(0)
    )
    share = torch.bincount(words.flatten(), minlength=5) / words.numel()
    assert torch.allclose(share, chance, atol=0.02)
