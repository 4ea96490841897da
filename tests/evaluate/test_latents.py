"""What latents keep: judged on held-out moments, of eyes and of world models, and the model is left as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld import families
from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate import latents as module
from innerworld.evaluate.detached_decoder import DecoderConfig
from innerworld.evaluate.latents import latents, moments, picture_sensor, thumbnails
from innerworld.learns import Learns
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (2,)}, 2)
WORDS = {
    "jepa": ["image_size=16", "channels=2", "latent=8", "hidden=16", "slices=16"],
    "rssm": ["image_size=16", "deter=16", "hidden=16", "stoch=4", "classes=4", "depth=2", "units=16", "layers=1"],
    "vjepa2": [
        *("vit.depth=1", "vit.dim=24", "vit.heads=2", "vit.mlp=24", "vit.patch=4"),
        *("predictor.dim=24", "predictor.heads=2", "predictor.depth=1", "predictor.mlp=24"),
    ],
}
QUICK = DecoderConfig(steps=5, channels=4)
LEARN, HELD = np.arange(6), np.arange(6, 9)


@pytest.fixture(autouse=True)
def few_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARNT", 60)
    monkeypatch.setattr(module, "HELD", 30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store.create(tmp_path_factory.mktemp("seen") / "data", SPEC)
    for seed in range(9):
        made.add(random_clip(SPEC, 1, 9, seed))
    return made


def build(family: str) -> Learns:
    torch.manual_seed(0)
    return families.build(
        family, families.config(family, families.first_preset(family), WORDS[family]), SPEC.only("pixels")
    )


@pytest.mark.parametrize("family", WORDS)
def test_neighbours_and_drawings_of_held_out_moments(family: str, store: Store) -> None:
    found = latents(build(family), store, LEARN, HELD, 4, decoder=QUICK)
    assert found.queries.shape == (6, 16, 16, 3) and found.found.shape == (6, 5, 16, 16, 3)
    assert found.cosine.shape == (6, 5) and (found.cosine.diff(dim=1) <= 0).all()
    of_held = torch.cat([store.episode(int(i)).obs["pixels"][0] for i in HELD])
    of_learn = torch.cat([store.episode(int(i)).obs["pixels"][0] for i in LEARN])
    assert all((of_held == query).flatten(1).all(1).any() for query in found.queries)
    assert all((of_learn == picture).flatten(1).all(1).any() for picture in found.found.flatten(0, 1))
    assert 0 < found.metrics["neighbour_distance"] < 2 and 0 < found.metrics["neighbour_distance_pixels"] < 2
    if family == "rssm":
        assert found.drawn is None and found.decoder is None and "decoded_r2" not in found.metrics
    else:
        assert found.drawn is not None and found.drawn.shape == found.real.shape == (6, 16, 16, 3)
        assert found.metrics["decoded_r2"] < 1 and found.decoder is not None
        assert found.decoder.tiled is (family == "vjepa2")  # eyes are drawn from the tokens of their patches


@pytest.mark.parametrize("family", WORDS)
def test_the_model_is_left_as_it_was(family: str, store: Store) -> None:
    """Weights, gradients, modes and random numbers: training could go on as if nobody had looked."""
    model = build(family).train()
    model.loss(random_clip(SPEC, 2, 4, 0))[0].backward()
    part = next(iter(model.children())).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    latents(model, store, LEARN, HELD, 4, decoder=QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert p.grad is grad is None or (p.grad is not None and grad is not None and torch.equal(p.grad, grad))
    assert model.training and not part.training


def test_what_was_seen_belongs_to_what_was_made_of_it(store: Store) -> None:
    model = build("vjepa2")
    clips = Clips(store, LEARN, 1, 8, seed=3)
    seen = moments(model, clips, "pixels")
    assert seen.frames.shape == (16, 16, 16, 3) and seen.tokens.shape == (16, 16, 24)
    torch.testing.assert_close(seen.features, seen.tokens.mean(1))
    assert seen.episode.tolist() == np.repeat(clips.places(0).episode, 2).tolist()
    assert seen.state is not None
    episode = store.episode(int(seen.episode[5])).obs
    at = (episode["pixels"][0] == seen.frames[5]).flatten(1).all(1).nonzero().item()
    torch.testing.assert_close(seen.state[5], episode["state"][0, int(at)])


def test_many_tokens_leave_room_for_fewer_moments(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 16 * 24 * 10)
    monkeypatch.setattr(module, "FRAMES", 4)
    assert len(moments(build("vjepa2"), Clips(store, LEARN, 1, 100), "pixels").frames) == 12


def test_a_film_without_a_state_has_no_distances(tmp_path: Path) -> None:
    spec = SPEC.only("pixels")
    film = Store.create(tmp_path / "film", spec)
    for seed in range(4):
        film.add(random_clip(spec, 1, 6, seed))
    found = latents(build("vjepa2"), film, np.arange(3), np.arange(3, 4), 1, decoder=QUICK)
    assert set(found.metrics) == {"decoded_r2"}


def test_pictures_that_are_all_alike_need_no_decoder(tmp_path: Path) -> None:
    spec = SPEC.only("pixels")
    still = Store.create(tmp_path / "still", spec)
    frame = random_clip(spec, 1, 1, 0)
    for _ in range(4):
        still.add(
            Clip(
                {"pixels": frame.obs["pixels"][:, :1].repeat(1, 2, 1, 1, 1)},
                frame.action,
                frame.reward,
                frame.terminated,
            )
        )
    found = latents(build("vjepa2"), still, np.arange(3), np.arange(3, 4), 1, decoder=QUICK)
    assert found.drawn is None and found.decoder is None and found.metrics == {}


def test_a_store_without_pictures_is_refused(tmp_path: Path) -> None:
    spec = Spec({"state": (2,)}, 2)
    blind = Store.create(tmp_path / "blind", spec)
    blind.add(random_clip(spec, 1, 6, 0))
    assert picture_sensor(spec, spec) is None
    with pytest.raises(UserError, match="no pictures"):
        latents(families.build("jepa", {}, spec), blind, np.arange(1), np.arange(1), 1)


def test_pictures_come_from_what_the_model_sees_first() -> None:
    stored = Spec({"left": (8, 8, 3), "right": (8, 8, 3), "state": (2,)}, 2)
    assert picture_sensor(stored.only("right"), stored) == "right"
    assert picture_sensor(stored.only("state"), stored) == "left"


def test_thumbnails_are_never_larger_than_the_picture() -> None:
    small, large = torch.zeros(2, 20, 30, 3, dtype=torch.uint8), torch.zeros(2, 480, 640, 3, dtype=torch.uint8)
    assert thumbnails(small).shape == small.shape and thumbnails(large).shape == (2, 72, 96, 3)
