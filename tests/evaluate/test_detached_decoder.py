"""The small decoder: it draws what latents keep, knows nothing of what they lost, and the learner never feels it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.evaluate.detached_decoder import DecoderConfig, fit_decoder

QUICK = DecoderConfig(steps=60, channels=8)


def squares(n: int, side: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A bright square on a dark picture, and where it is in [0, 1]: `n y x 3` and `n 2`."""
    rng = torch.Generator().manual_seed(seed)
    at = torch.randint(0, side - 4, (n, 2), generator=rng)
    frames = torch.full((n, side, side, 3), 20, dtype=torch.uint8)
    for k, (y, x) in enumerate(at.tolist()):
        frames[k, y : y + 4, x : x + 4] = 220
    return frames, at / side


def patches(frames: Tensor, patch: int) -> Tensor:
    """Each patch's pixels as its token: `n s d`."""
    n, y, x, c = frames.shape
    cut = frames.reshape(n, y // patch, patch, x // patch, patch, c).transpose(2, 3)
    return cut.reshape(n, -1, patch * patch * c).float()


def test_it_draws_what_the_latents_keep_and_nothing_where_they_keep_nothing() -> None:
    frames, _ = squares(200)
    held, _ = squares(50, seed=1)
    kept = fit_decoder(patches(frames, 4), frames, DecoderConfig(steps=150))
    assert kept.r2(patches(held, 4), held) > 0.9
    drawn = kept.draw(patches(held, 4))
    assert drawn.shape == held.shape and drawn.dtype == torch.uint8
    assert (drawn.float() - held.float()).abs().mean() < 10
    noise = torch.randn(250, 16, 48, generator=torch.Generator().manual_seed(2))
    lost = fit_decoder(noise[:200], frames, QUICK)
    assert lost.r2(noise[200:], held) < 0.05


def test_it_draws_from_one_vector_too() -> None:
    frames, at = squares(300)
    held, where = squares(50, seed=1)
    decoder = fit_decoder(at[:, None], frames, DecoderConfig(steps=200))
    assert not decoder.tiled and decoder.r2(where[:, None], held) > 0.4


@pytest.mark.parametrize(
    ("latents", "frames", "tiled", "drawn"),
    [
        ((4, 16, 8), (4, 32, 32, 3), True, (32, 32)),
        ((4, 8, 8), (4, 16, 32, 3), True, (16, 32)),  # 2 rows of 4
        ((4, 16, 8), (4, 20, 32, 1), True, (32, 32)),  # a picture that was made square
        ((4, 256, 8), (4, 224, 224, 3), True, (64, 64)),
        ((4, 7, 8), (4, 32, 32, 3), False, (32, 32)),
        ((4, 1, 8), (4, 480, 640, 3), False, (48, 64)),
        ((4, 1, 3000), (4, 30, 31, 3), False, (32, 32)),
    ],
)
def test_tokens_are_drawn_in_their_places(
    latents: tuple[int, ...], frames: tuple[int, ...], tiled: bool, drawn: tuple[int, int]
) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(latents, generator=rng)
    seen = torch.randint(0, 256, frames, generator=rng, dtype=torch.uint8)
    decoder = fit_decoder(x, seen, DecoderConfig(steps=1, channels=4))
    assert decoder.tiled is tiled and decoder.draw(x).shape == (4, *drawn, frames[3])
    assert decoder.shrunk(seen).shape == (4, *drawn, frames[3])


def test_the_learner_never_feels_it() -> None:
    """Latents may still hang on the learner's graph: neither a gradient nor a number of it changes."""
    torch.manual_seed(0)
    frames, _ = squares(40)
    encoder = nn.Linear(48, 12)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    latents = encoder(patches(frames, 4))
    assert latents.requires_grad
    given = latents.detach().clone()
    state = torch.get_rng_state()
    decoder = fit_decoder(latents, frames, QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(latents, given)
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    latents.sum().backward()  # the learner's own graph is whole
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_the_same_seed_gives_the_same_decoder_also_without_gradients() -> None:
    frames, _ = squares(40)
    one = fit_decoder(patches(frames, 4), frames, QUICK)
    torch.manual_seed(99)
    with torch.no_grad():
        two = fit_decoder(patches(frames, 4), frames, QUICK)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_collapsed_latents_give_the_mean_picture() -> None:
    frames, _ = squares(60)
    dead = torch.ones(60, 1, 8)
    decoder = fit_decoder(dead, frames, QUICK)
    drawn = decoder.draw(dead)
    assert abs(decoder.r2(dead, frames)) < 0.02 and torch.equal(drawn[0], drawn[59])
    assert (drawn[0].float() - frames.float().mean(0)).abs().mean() < 5


@pytest.mark.parametrize(
    ("latents", "frames", "words"),
    [
        (torch.zeros(3, 8), torch.zeros(3, 8, 8, 3, dtype=torch.uint8), "have shapes"),
        (torch.zeros(3, 1, 8), torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "have shapes"),
        (torch.full((3, 1, 8), torch.nan), torch.zeros(3, 8, 8, 3, dtype=torch.uint8), "not finite"),
        (torch.zeros(3, 1, 8), torch.zeros(3, 8, 8, 3, dtype=torch.uint8), "all frames are alike"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(latents: Tensor, frames: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        fit_decoder(latents, frames)
