"""Looking at a model leaves no trace, also where the look ends in an error."""

from __future__ import annotations

import pytest
import torch

from innerworld.evaluate.untouched import same_random, untouched
from innerworld.models import JEPA
from innerworld.models.jepa import JEPAConfig
from innerworld.types import Spec


def test_modes_gradients_and_random_numbers_come_back() -> None:
    model = JEPA(JEPAConfig(latent=4, hidden=8), Spec({"state": (3,)}, 2)).train()
    model.eyes.eval()
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), untouched(model) as device:
        assert device.type == "cpu" and not model.training and not torch.is_grad_enabled()
        torch.rand(3)
        _ = 1 / 0
    assert model.training and model.predictor.training and not model.eyes.training
    assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), state)


def test_random_numbers_alone() -> None:
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    with same_random(torch.device("cpu")):
        torch.manual_seed(7)
    assert torch.equal(torch.rand(1), first)
