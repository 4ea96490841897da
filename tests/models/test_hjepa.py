"""The level above: what it learns from, what a planner may choose, and that a frozen level below stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from innerworld import TrainConfig, load, train
from innerworld.errors import UserError
from innerworld.models.hjepa import HJEPA, HJEPAConfig
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec

SPEC = Spec({"speed": (3,)}, 2)
TINY = {"latent": 6, "hidden": 8, "slices": 8}
ABOVE = {"steps": 3, "code": 4, "hidden": 16, "depth": 1}


def tiny(**other: object) -> HJEPA:
    torch.manual_seed(0)
    return HJEPA(HJEPAConfig.model_validate({"level1": TINY, "above": ABOVE} | other), SPEC)


class Same:
    def batch(self, step: int) -> Clip:
        torch.manual_seed(0)
        return random_clip(SPEC, 4, 6)


def run_of_a_jepa(folder: Path) -> Path:
    torch.manual_seed(1)
    train(JEPA(JEPAConfig.model_validate(TINY), SPEC), Same(), TrainConfig(steps=1, device="cpu"), folder)
    return folder


def test_the_level_above_does_not_teach_the_one_below() -> None:
    model = tiny()
    clip = random_clip(SPEC, 4, 3)
    torch.manual_seed(2)
    model.loss(clip)[0].backward()
    whole = [p.grad.clone() for p in model.level1.parameters() if p.grad is not None]
    model.zero_grad()
    torch.manual_seed(2)
    model.level1.loss(clip)[0].backward()
    alone = [p.grad for p in model.level1.parameters() if p.grad is not None]
    torch.testing.assert_close(whole, alone)


def test_macro_actions_are_the_actions_in_between() -> None:
    """Of 7 actions, two macro-actions of 3: what is foreseen is the latent three steps on."""
    model = tiny().eval()
    clip = random_clip(SPEC, 2, 6)
    z = model.level1.see(clip)
    codes = model.above.coder(clip.action.unflatten(1, (2, 3)).flatten(2))
    truth = (model.above.predictor(z[:, :-1:3][:, :2], codes) - z[:, 3::3]).square().mean()
    _, parts = model.loss(clip)
    assert parts["above"].item() == pytest.approx(truth.item())


def test_a_planner_chooses_among_the_codes_that_occurred() -> None:
    model = tiny().train()
    clip = random_clip(SPEC, 64, 6)
    model.loss(clip)
    codes = model.above.coder(clip.action.unflatten(1, (2, 3)).flatten(2)).flatten(0, 1)
    torch.testing.assert_close(model.above.low, codes.quantile(0.02, dim=0))
    torch.testing.assert_close(model.above.high, codes.quantile(0.98, dim=0))
    z = {"z": torch.zeros(1, 6)}
    middle = (model.above.low + model.above.high)[None] / 2
    found = model.above.predict(z, torch.zeros(1, 4))["z"]
    torch.testing.assert_close(found, model.above.predictor(z["z"], middle))


def test_half_precision_has_quantiles_too() -> None:
    """Autocast hands over bfloat16, on CUDA to the quantiles, too."""
    above = tiny().above
    above._widen(torch.linspace(0, 1, 101).bfloat16()[:, None, None].expand(-1, 1, 4))
    torch.testing.assert_close(above.low, torch.full((4,), 0.02), rtol=0, atol=0.01)
    assert above.low.dtype == torch.float32


def test_frozen_eyes_of_the_level_below_stay_frozen() -> None:
    """It learns along, they do not: who waits for their gradients, as DDP does, would wait for ever."""
    eyes = {"family": "lejepa", "preset": "tiny"}
    level1 = TINY | {"eyes": eyes, "image_size": 32}
    model = HJEPA(HJEPAConfig.model_validate({"level1": level1, "above": ABOVE}), Spec({"pixels": (32, 32, 3)}, 2))
    alone = JEPA(JEPAConfig.model_validate(level1), model.spec)
    learns = {name: p.requires_grad for name, p in model.level1.named_parameters()}
    assert learns == {name: p.requires_grad for name, p in alone.named_parameters()}
    assert set(learns.values()) == {True, False}


@torch.no_grad()
def test_to_imagine_above_is_to_predict_in_a_row() -> None:
    above = tiny().eval().above
    actions = torch.rand(2, 5, 3, 4) * 2 - 1
    state = {"z": torch.randn(2, 6)}
    slow = super(type(above), above).imagine(state, actions)["z"]
    torch.testing.assert_close(above.imagine(state, actions)["z"], slow, rtol=0, atol=1e-6)


def test_a_run_below_is_frozen_and_needed_no_more(tmp_path: Path) -> None:
    below = run_of_a_jepa(tmp_path / "jepa")
    model = HJEPA(HJEPAConfig.model_validate({"below": str(below), "above": ABOVE}), SPEC)
    before = [p.clone() for p in model.level1.parameters()]
    trained = train(model, Same(), TrainConfig(steps=2, device="cpu", lr=0.1), tmp_path / "hjepa")
    assert trained is model and not any(part.startswith("sigreg") for part in model.loss(Same().batch(0))[1])
    torch.testing.assert_close(list(model.level1.parameters()), before, rtol=0, atol=0)
    below.rename(tmp_path / "gone")
    again = load(tmp_path / "hjepa", kind=HJEPA)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert again.config.origin == str(below) and again.config.frozen  # pyright: ignore


def test_bad_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="clips of 2 actions hold no macro-action of 3: give a greater --length"):
        tiny().loss(random_clip(SPEC, 2, 2))
    below = run_of_a_jepa(tmp_path / "jepa")
    with pytest.raises(UserError, match="was taught with"):
        HJEPA(HJEPAConfig(below=str(below)), Spec({"speed": (4,)}, 2))
    with pytest.raises(UserError, match=r"leave out model\.level1, or below"):
        HJEPA(HJEPAConfig.model_validate({"below": str(below), "level1": {"latent": 7}}), SPEC)
