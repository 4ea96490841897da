"""What a belief looks like: drawn by who can draw, else the most similar picture that was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.data import Store
from innerworld.evaluate.imagery import Album, album, draw
from innerworld.models import JEPA, RSSM
from innerworld.models.jepa import JEPAConfig
from innerworld.models.rssm import RSSM as Family
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
JEPA_TINY = JEPAConfig(channels=2, latent=8, hidden=16)
RSSM_TINY = Family.Config(deter=16, hidden=16, stoch=4, classes=4, depth=2, units=16, layers=1, image="strided")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("seen") / "data", SPEC)
    for seed in range(3):
        store.add(random_clip(SPEC, 1, 4 + seed, seed))
    return store


def test_the_nearest_picture_is_the_one_of_the_nearest_belief() -> None:
    frames = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 2, 2, 1)
    memory = Album(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]]), frames)
    assert memory.nearest(torch.tensor([[0.9, 0.3], [-3.0, 4.0]]))[:, 0, 0, 0].tolist() == [1, 2]


def test_an_album_holds_every_frame_of_its_episodes(seen: Store) -> None:
    memory = album(JEPA(JEPA_TINY, SPEC), seen, np.array([0, 2]))
    assert memory.features.shape == (12, 8) and memory.frames.shape == (12, 16, 16, 3)
    assert torch.equal(memory.frames[5:], seen.episode(2).obs["pixels"][0])


def test_without_a_decoder_a_picture_seen_before_is_recognised(seen: Store) -> None:
    torch.manual_seed(0)
    model = JEPA(JEPA_TINY, SPEC)
    memory = album(model, seen, np.arange(3))
    clip = seen.episode(1)
    drawn = draw(model, model.encode({"pixels": clip.obs["pixels"][0]}), memory)
    np.testing.assert_array_equal(drawn, clip.obs["pixels"][0].numpy())


def test_a_decoder_draws_for_itself(seen: Store) -> None:
    torch.manual_seed(0)
    model = RSSM(RSSM_TINY, SPEC)
    memory = album(model, seen, np.arange(1))
    state = model.encode({"pixels": seen.episode(1).obs["pixels"][0]})
    drawn = draw(model, state, memory)
    assert drawn.shape == (6, 16, 16, 3) and drawn.dtype == np.uint8
    decoded = model.decode(state)["pixels"].detach().numpy()
    np.testing.assert_allclose(drawn / 255, decoded, atol=0.51 / 255)
