"""The predictor: its size as published, places instead of an order, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.vision import ViTConfig, sized
from innerworld.perception.predictor import Predictor, PredictorConfig

VIT = ViTConfig(dim=24, depth=1, heads=2, mlp=48, patch=8, tubelet=2)
SMALL = PredictorConfig(dim=24, depth=2, heads=2, mlp=48, mask_tokens=2)


@pytest.mark.parametrize(("size", "millions"), [("large", 22.1), ("huge", 22.3), ("giant22", 22.4)])
def test_published_sizes(size: str, millions: float) -> None:
    with torch.device("meta"):
        predictor = Predictor(PredictorConfig(mask_tokens=2), sized(size, tubelet=2))
    assert round(sum(value.numel() for value in predictor.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("positions", ["rope", "sincos_2d", "sincos_3d"])
def test_the_order_of_what_is_seen_does_not_matter_its_place_does(positions: str) -> None:
    torch.manual_seed(0)
    predictor = Predictor(SMALL, VIT.model_copy(update={"positions": positions}))
    for block in predictor.blocks:  # initial weights are so small that nobody would notice a wrong place
        torch.nn.init.normal_(block.get_parameter("attention.qkv.weight"))
    seen, at = torch.randn(2, 4, 24), torch.tensor([[0, 3, 9, 17], [5, 2, 8, 30]])
    hidden, grid = torch.tensor([[1, 20], [4, 31]]), (2, 4, 4)
    guess = predictor(seen, at, hidden, grid)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(predictor(seen[:, order], at[:, order], hidden, grid), guess, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predictor(seen, at, hidden.flip(1), grid), guess.flip(1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(predictor(seen, at[:, order], hidden, grid), guess, atol=1e-3)


def test_several_levels_are_read_and_guessed() -> None:
    vit = VIT.model_copy(update={"depth": 3, "levels": (0, 2), "image_patch": True})
    predictor = Predictor(SMALL, vit, dense=True)
    at, hidden = torch.tensor([[0, 3, 9]]), torch.tensor([[1, 20]])
    guess, again = predictor.both(torch.randn(1, 3, 48), at, hidden, (2, 4, 4))
    assert guess.shape == (1, 2, 48) and again.shape == (1, 3, 48)


def test_a_mask_token_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="mask token 2 was asked for, the predictor has 2"):
        Predictor(SMALL, VIT)(torch.zeros(1, 1, 24), torch.tensor([[0]]), torch.tensor([[1]]), (1, 2, 2), token=2)
