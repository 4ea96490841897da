"""PAN's window: what a chunk sees, that cached is uncached, and its two levels of noise."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.models.glp import GLP
from innerworld.models.glp_config import GLPConfig
from innerworld.models.glp_decoder import FlowDecoder
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec, each, random_actions

PIXELS = Spec({"pixels": (16, 16, 3)}, 2)


def windowed(reencode: bool = False, **decoder: object) -> GLP:
    """Tiny, with its gates open: they begin at zero, so that blocks pass everything by."""
    torch.manual_seed(0)
    values = {
        "jepa": {"channels": 2, "latent": 6, "hidden": 8, "slices": 8},
        "codec": {"width": 8},
        "decoder": {"kind": "window", "dim": 16, "depth": 2, "heads": 2, "steer": 16} | decoder,
        "reencode": reencode,
    }
    model = GLP(GLPConfig.model_validate(values), PIXELS)
    assert model.decoder is not None
    for part in model.decoder.modules():
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, std=0.3)
    return model.eval()


@torch.no_grad()
def test_a_chunk_never_sees_the_next_action() -> None:
    g = windowed().decoder
    assert g is not None
    x, tau, latent = torch.randn(2, 3, g.s, g.width), torch.rand(2, 3), torch.randn(2, 3, 6)
    out = g(x, tau, latent)
    for later in (1, 2):
        changed = latent.clone()
        changed[:, later] += 1
        again = g(x, tau, changed)
        torch.testing.assert_close(again[:, :later], out[:, :later], rtol=0, atol=1e-6)
        assert (again[:, later] - out[:, later]).abs().max() > 1e-3
    changed = latent.clone()
    changed[:, 1] += 1
    assert (g(x, tau, changed)[:, 2] - out[:, 2]).abs().max() > 1e-4  # but what was before, it sees


@torch.no_grad()
def test_what_is_drawn_does_not_depend_on_later_actions() -> None:
    model = windowed()
    state = model.encode(random_clip(PIXELS, 2, 1).at(0))
    actions = random_actions(PIXELS, (2, 1, 5), Generator().manual_seed(1))
    other = actions.clone()
    other[:, :, 3:] *= -1
    one, two = (model.imagine(state, a)["frame"] for a in (actions, other))
    torch.testing.assert_close(one[:, :, :3], two[:, :, :3], rtol=0, atol=0)
    assert (one[:, :, 3] - two[:, :, 3]).abs().max() > 1e-4


@pytest.mark.parametrize("predicts", ["x", "v"])
@torch.no_grad()
def test_cached_is_uncached(predicts: str) -> None:
    """The stream beside PAN's window written out: all frames of it anew in every step."""
    model = windowed(predicts=predicts, steps=6)
    g = model.decoder
    assert g is not None
    rng = Generator().manual_seed(2)
    frame, latents = torch.randn(3, g.s, g.width, generator=rng), torch.randn(3, 5, 6, generator=rng)
    window, trail, drawn = g.begin(frame), None, []
    for i in range(5):
        window, trail = g.slide(window, latents[:, i], None, trail)
        drawn.append(window["frame"])
    anew = _uncached(g, frame, latents)
    assert (torch.stack(drawn, dim=1) - anew).abs().max() <= 1e-5
    assert (anew[:, 1:] - anew[:, :-1]).abs().max() > 1e-2  # there is something to compare


def _uncached(g: FlowDecoder, frame: Tensor, latents: Tensor) -> Tensor:
    """`r m d` → `r m s w`: noise is zero, so the frame before is only made darker by its share of it."""
    n, tau_still = g.config.steps, 1 - g.config.still
    nothing = torch.zeros(len(frame), latents.shape[-1])

    def nearer(x: Tensor, out: Tensor, tau: float) -> Tensor:
        return x + (out if g.config.predicts == "v" else (out - x) / (1 - tau)) / n

    drawn = []
    before, older, older_latent = frame, torch.zeros_like(frame), latents[:, 0]
    for i in range(n // 2):  # the very first chunk gets half way alone
        tau = torch.tensor([tau_still, i / n]).expand(len(frame), 2)
        x = torch.stack([tau_still * before, older], dim=1)
        older = nearer(older, g(x, tau, torch.stack([nothing, older_latent], dim=1))[:, 1], i / n)
    for m in range(latents.shape[1]):
        newer = torch.zeros_like(frame)
        newer_latent = latents[:, m + 1] if m + 1 < latents.shape[1] else nothing
        for i in range(n // 2, n):
            tau = torch.tensor([tau_still, i / n, i / n - 0.5]).expand(len(frame), 3)
            x = torch.stack([tau_still * before, older, newer], dim=1)
            out = g(x, tau, torch.stack([nothing, older_latent, newer_latent], dim=1))
            older, newer = nearer(older, out[:, 1], i / n), nearer(newer, out[:, 2], i / n - 0.5)
        drawn.append(older)
        before, older, older_latent = older, newer, newer_latent
    return torch.stack(drawn, dim=1)


@torch.no_grad()
def test_a_roll_keeps_what_predict_computes_again() -> None:
    """Also with noise, and from rows of which one has just looked and the other imagines already."""
    model = windowed(reencode=True)
    clip = random_clip(PIXELS, 2, 4)
    seen, imagined = model.encode(clip.at(0)), model.encode(clip.at(1))
    imagined = model.predict(imagined, clip.action[:, 0])
    state = {name: torch.stack([seen[name][0], imagined[name][1]]) for name in seen}
    roll = model.roll(each(lambda value: value[:, None], state), 4)
    one, two = Generator().manual_seed(3), Generator().manual_seed(3)
    for t in range(4):
        state = model.predict(state, clip.action[:, t], one)
        rolled = roll(clip.action[:, t], two)
        for name, value in state.items():
            torch.testing.assert_close(rolled[name], value, rtol=0, atol=1e-5)


def test_the_window_learns_at_two_levels_of_noise() -> None:
    model = windowed(frames=0)
    g = model.decoder
    assert g is not None
    seen: list[tuple[Tensor, Tensor]] = []
    error = g._error

    def watched(frames: Tensor, level: Tensor, latents: Tensor, counts: Tensor) -> Tensor:
        seen.append((level, counts))
        assert not latents[:, 0].any()  # no latent tells the frame before
        return error(frames, level, latents, counts)

    g._error = watched  # pyright: ignore
    model.loss(random_clip(PIXELS, 64, 9))
    tau, counts = seen[0]
    assert tau.shape == counts.shape == (64 * 8, 3)
    assert torch.allclose(tau[:, 0], torch.tensor(0.945)) and not counts[:, 0].any() and counts[:, 1].all()
    pair = counts[:, 2]
    torch.testing.assert_close(tau[pair, 1], tau[pair, 2] + 0.5)
    assert tau[pair, 2].min() < 0.05 and 0.45 < tau[pair, 2].max() <= 0.5
    first = tau[~pair, 1]
    assert first.min() < 0.05 and first.max() > 0.95 and 0.3 < pair.float().mean() < 0.7


def test_a_window_of_a_single_step_is_a_first_chunk() -> None:
    loss, parts = windowed().loss(random_clip(PIXELS, 4, 1))
    assert loss.isfinite() and parts["generate"] > 0
