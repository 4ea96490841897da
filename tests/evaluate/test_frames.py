"""Frames that a model draws: of each belief after looking, of imagined steps, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate.frames import imagined, look
from innerworld.models import MODELS
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec
from innerworld.world import WorldModel, at

Know = Callable[..., WorldModel]


def test_who_knows_the_world_draws_it(films: Store, know: Know) -> None:
    clip = Clips(films, np.arange(24), 10, 6).batch(0)
    seen = look(know(), clip, "pixels", 3)
    assert torch.equal(seen.redrawn, clip.obs["pixels"])
    assert torch.equal(seen.belief["z"], clip.obs["state"][:, 3])
    assert torch.equal(imagined(know(), seen.belief, clip.action[:, 3:], "pixels"), clip.obs["pixels"][:, 4:])
    first = look(know(), clip, "pixels", 0)
    assert torch.equal(first.belief["z"], clip.obs["state"][:, 0])


def test_looking_is_watching_and_chance_is_seeded() -> None:
    torch.manual_seed(0)
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    tiny = {"image_size": 16, "deter": 8, "hidden": 8, "stoch": 2, "classes": 4, "depth": 2, "units": 8, "layers": 1}
    model = MODELS["rssm"](MODELS["rssm"].Config.model_validate(tiny), spec).eval()
    clip = random_clip(spec, 2, 6)
    seen = look(model, clip, "pixels", 4)
    with torch.no_grad():
        watched = at(model.watch(clip), 4)
    for name, value in seen.belief.items():
        torch.testing.assert_close(value, watched[name])
    films = [imagined(model, seen.belief, clip.action[:, :5], "pixels", seed) for seed in (0, 0, 1)]
    assert films[0].shape == (2, 5, 16, 16, 3) and films[0].dtype == torch.uint8
    assert torch.equal(films[0], films[1]) and not torch.equal(films[0], films[2])


def test_who_does_not_draw_is_told(films: Store, know: Know) -> None:
    clip = Clips(films, np.arange(24), 2, 2).batch(0)
    with pytest.raises(UserError, match="knower does not draw 'depth'"):
        look(know(), clip, "depth", 1)
