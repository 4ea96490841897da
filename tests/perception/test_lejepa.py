from __future__ import annotations

import pytest
import torch

from innerworld import losses
from innerworld.errors import UserError
from innerworld.nn.vision import ViTConfig
from innerworld.perception.lejepa import LeJEPA, LeJEPAConfig
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (24, 24, 3)}, action=1)
SMALL = LeJEPAConfig(
    vit=ViTConfig(dim=24, depth=1, heads=2, mlp=24, patch=8, positions="sincos_2d"),
    projector=(16, 8),
    global_size=16,
    local_size=8,
    local_views=3,
    slices=32,
)


def seen(b: int = 4) -> Clip:
    frames = torch.randint(0, 256, (b, 1, 24, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Clip({"pixels": frames}, torch.zeros(b, 0, 1), torch.zeros(b, 0), torch.zeros(b, 0))


def test_windows_are_those_of_the_published_readme():
    config = LeJEPAConfig()
    assert (config.global_views, config.global_size, config.global_scale) == (2, 224, (0.3, 1.0))
    assert (config.local_views, config.local_scale) == (6, (0.05, 0.3))


def test_the_loss_is_equation_8(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    eyes = LeJEPA(SMALL, SPEC)
    made: list[torch.Tensor] = []
    project = eyes.projector.forward

    def kept(x: torch.Tensor) -> torch.Tensor:
        made.append(project(x))
        return made[-1]

    monkeypatch.setattr(eyes.projector, "forward", kept)
    along = torch.nn.functional.normalize(torch.randn(8, 32), dim=0)
    monkeypatch.setattr(losses, "directions", lambda *_: along)
    loss, parts = eyes.loss(seen())
    assert [len(z) for z in made] == [2 * 4, 3 * 4]  # large windows of four pictures, then small ones
    views = [*made[0].split(4), *made[1].split(4)]
    centre = (views[0] + views[1]) / 2
    agree = sum((centre - z).square().mean() for z in views) / 5
    apart = sum(losses.sigreg(z, along, "paper") for z in views) / 5
    torch.testing.assert_close(loss, 0.95 * agree + 0.05 * apart)
    torch.testing.assert_close(parts["agree"], torch.as_tensor(agree))


def test_without_small_windows_there_are_two_views():
    eyes = LeJEPA(SMALL.model_copy(update={"local_views": 0}), SPEC)
    loss, parts = eyes.loss(seen())
    loss.backward()
    assert torch.isfinite(loss) and set(parts) == {"agree", "sigreg", "spread"}


def test_the_class_token_must_be_there_to_stand_for_the_view():
    with pytest.raises(UserError, match=r"pool=class needs vit\.class_token=true"):
        LeJEPA(SMALL.model_copy(update={"pool": "class"}), SPEC)
