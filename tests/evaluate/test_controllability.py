"""Are actions followed? Yes by who knows the world, not at all by who is deaf; and each number by its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.data import Clips, Store
from innerworld.evaluate.controllability import (
    Read,
    delta_psnr,
    others,
    shuffled,
    shuffled_loss,
    shuffled_picture,
)
from innerworld.evaluate.pictures import psnr
from innerworld.world import WorldModel

Know = Callable[..., WorldModel]


def film(seed: int) -> Tensor:
    return torch.randint(0, 256, (5, 6, 4, 4, 3), generator=Generator().manual_seed(seed)).to(torch.uint8)


def test_delta_psnr_is_genie_s() -> None:
    shown, wrong, true = film(0), film(1), film(2)
    found = delta_psnr(shown, wrong, true)
    expected = psnr(shown[:, 3], true[:, 3]) - psnr(wrong[:, 3], true[:, 3])  # the fourth imagined frame
    assert found["delta_psnr_4"] == pytest.approx(expected.mean().item(), abs=1e-5)
    assert delta_psnr(shown, shown, true)["delta_psnr_4"] == 0
    assert delta_psnr(true, wrong, true, step=6)["delta_psnr_6_low"] > 40


def test_others_are_never_oneself() -> None:
    for n in (2, 3, 17):
        found = others(n, seed=n)
        assert sorted(found.tolist()) == list(range(n)) and (found != torch.arange(n)).all()


def test_wrong_actions_cost_who_heeds_them(films: Store, know: Know) -> None:
    clip = Clips(films, np.arange(24), 8, 32).batch(0)
    heeds, deaf = (shuffled_loss(know(heeds=heeds), clip) for heeds in (True, False))
    assert heeds["shuffled_loss_ratio_low"] > 1.3
    assert deaf["shuffled_loss_ratio"] == 1 and heeds == shuffled_loss(know(), clip)
    assert torch.equal(shuffled(clip).action.sum(0), clip.action.sum(0))


def test_a_picture_s_ratio_is_of_errors() -> None:
    true = film(0) // 2
    found = shuffled_picture(true + 2, true + 6, true, step=2)
    assert found["shuffled_picture_ratio_2"] == pytest.approx(9, rel=1e-3)
    assert np.isfinite(shuffled_picture(true, true + 6, true)["shuffled_picture_ratio_4"])  # nobody is exact


def test_what_was_read_is_told_over_all_and_along() -> None:
    right = torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]])
    found = Read(right).metrics("readback")
    assert found["readback"] == pytest.approx(3 / 8) and 0.25 <= found["readback_low"] <= found["readback_high"] <= 0.5
    assert Read(right).along() == [1.0, 0.5, 0.0, 0.0]
    numbers = Read(torch.full((2, 3), 0.1), torch.full((2, 3), 0.4))
    assert numbers.metrics("x")["x_r2"] == pytest.approx(0.75) and numbers.along() == pytest.approx([0.75] * 3)
