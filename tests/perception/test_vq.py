"""VQ and FSQ tokenizers: tokens are entries, pictures come back, closed forms begin them, and learning helps."""

from __future__ import annotations

import pytest
import torch

from innerworld.perception.patch_body import BodyConfig
from innerworld.perception.quantise import BookConfig, Codebook
from innerworld.perception.vq import FSQ, VQ, FSQConfig, Quantised, VQConfig
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 1)
BODY = BodyConfig(dim=16, depth=1, heads=2, mlp=32)


def scene(b: int = 8) -> Clip:
    """A square of one of three colours at one of nine places: few patches, so that few entries tell them."""
    rng = torch.Generator().manual_seed(0)
    frames = torch.full((b, 2, 16, 16, 3), 40, dtype=torch.uint8)
    colours = torch.tensor([[250, 80, 60], [60, 220, 90], [80, 90, 240]], dtype=torch.uint8)
    for i in range(b):
        for j in range(2):
            y, x, c = (int(n) for n in torch.randint(3, (3,), generator=rng))
            frames[i, j, 4 * y : 4 * y + 6, 4 * x : 4 * x + 6] = colours[c]
    return Clip({"pixels": frames}, torch.zeros(b, 1, 1), torch.zeros(b, 1), torch.zeros(b, 1))


def vq(**change: object) -> VQ:
    torch.manual_seed(0)
    settings = {"patch": 4, "width": 8, "book": BookConfig(codes=64), "body": BODY}
    return VQ(VQConfig.model_validate(settings | change), SPEC)


def fsq(**change: object) -> FSQ:
    torch.manual_seed(0)
    return FSQ(FSQConfig.model_validate({"patch": 4, "body": BODY} | change), SPEC)


def error(model: Quantised, clip: Clip) -> float:
    x = model.pictures(clip.obs["pixels"])
    return float((model.paint(model.code(x)) - x).square().mean().detach())


@pytest.mark.parametrize("make", [vq, fsq])
def test_tokens_are_entries_and_entries_tokens(make: type) -> None:
    model: Quantised = make().eval()
    model.prepare(scene())
    tokens = model.encode(scene().at(0))
    assert tokens.shape == (8, 16, model.width) and model.grid == (4, 4)
    indices = model.indices(tokens)
    assert indices.shape == (8, 16) and indices.min() >= 0 and indices.max() < model.codes
    torch.testing.assert_close(model.lookup(indices), tokens)
    shown = model.decode(tokens)
    assert shown.keys() == {"pixels"} and shown["pixels"].shape == (8, 16, 16, 3)
    assert shown["pixels"].min() >= 0 and shown["pixels"].max() <= 1


@pytest.mark.parametrize(("make", "share"), [(vq, 0.1), (fsq, 0.5)])
def test_prepared_it_draws_at_once(make: type, share: float) -> None:
    clip, model = scene(), make().eval()
    flat = float((model.pictures(clip.obs["pixels"]) - model.pictures(clip.obs["pixels"]).mean()).square().mean())
    model.prepare(clip)
    assert error(model, clip) < share * flat


@pytest.mark.parametrize(
    ("make", "begin", "steps"),
    [
        (vq, "principal", 60),
        (vq, "random", 60),
        (fsq, "random", 60),
        pytest.param(fsq, "principal", 400, marks=pytest.mark.slow),  # it starts well, and first loses a little
    ],
)
def test_it_learns(make: type, begin: str, steps: int) -> None:
    clip, model = scene(), make(body=BODY.model_copy(update={"begin": begin})).train()
    model.prepare(clip)
    before = error(model, clip)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        loss, parts = model.loss(clip)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step()
    assert error(model, clip) < 0.8 * before
    assert {"pixels", "usage", "perplexity"} <= parts.keys() and 0 < parts["usage"] <= 1 <= parts["perplexity"]


def test_the_loss_is_the_sum_of_its_parts() -> None:
    model = vq(book=BookConfig(codes=16, follow="loss")).eval()
    loss, parts = model.loss(scene())
    torch.testing.assert_close(loss.detach(), parts["pixels"] + parts["commit"] + parts["codebook"])
    assert not any(part.requires_grad for part in parts.values())


def test_published_settings() -> None:
    genie, jasmine = VQ.presets["genie"], VQ.presets["jasmine"]
    assert isinstance(genie, VQConfig) and isinstance(jasmine, VQConfig)
    assert (genie.patch, genie.book.codes, genie.width, genie.body.dim, genie.body.depth) == (4, 1024, 32, 512, 8)
    assert (jasmine.patch, jasmine.book.commit, jasmine.body.depth) == (16, 0.25, 4)
    tinyworlds = FSQ(FSQ.presets["tinyworlds"], Spec({"pixels": (64, 64, 3)}, 1))  # pyright: ignore[reportArgumentType]
    assert tinyworlds.codes == 1024 and tinyworlds.width == 5


def test_entries_move_in_training_only() -> None:
    model = vq()
    assert isinstance(model.quantiser, Codebook)
    before = model.quantiser.entries.clone()
    model.eval().loss(scene())
    model.after_step()
    torch.testing.assert_close(model.quantiser.entries, before)
    model.train().loss(scene())
    model.after_step()
    assert not torch.equal(model.quantiser.entries, before)
