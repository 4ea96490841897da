"""The masked autoencoder: latents within tanh's range, patches hidden in training only, pictures told whole."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.perception.mae import MAE, MAEConfig
from innerworld.perception.patch_body import BodyConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 1)


def made(**change: float) -> MAE:
    torch.manual_seed(0)
    body = BodyConfig(dim=16, depth=1, heads=2, mlp=32)
    return MAE(MAEConfig.model_validate({"width": 8, "body": body} | change), SPEC)


def test_latents_are_squeezed_and_nothing_is_hidden_from_encode() -> None:
    model, clip = made().train(), random_clip(SPEC, b=3, t=1)
    one, two = (model.encode(clip.at(0)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == (3, 4, 8) and bool((one.abs() < 1).all())


def test_patches_are_hidden_in_training_only() -> None:
    clip = random_clip(SPEC, b=8, t=3)
    losses = {}
    for training in (False, True):
        model = made(hide=1.0).train(training)
        losses[training] = [float(model.loss(clip)[0].detach()) for _ in range(2)]
    assert losses[False][0] == losses[False][1] and losses[True][0] != losses[True][1]


def test_a_hidden_patch_cannot_be_seen() -> None:
    model, clip = made(hide=1.0).train(), random_clip(SPEC, b=20, t=3)
    seen: list[torch.Tensor] = []
    model.body.see.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = model.pictures(clip.obs["pixels"])
    model.terms(x)
    hidden = (seen[0] == model.hidden).all(dim=-1)
    torch.testing.assert_close(seen[0][~hidden], model.body.patches(x)[~hidden])
    assert 0.35 < hidden.float().mean() < 0.65  # shares are even between 0 and 1
    assert hidden.float().mean(dim=1).std() > 0.2  # and each picture's own


def test_prepared_it_draws_at_once_and_the_gradient_reaches_what_stands_for_hidden_patches() -> None:
    model, clip = made(), random_clip(SPEC, b=4, t=3)
    x = model.pictures(clip.obs["pixels"])
    before = float((model.paint(model.code(x)) - x).square().mean().detach())
    model.prepare(clip)
    assert float((model.paint(model.code(x)) - x).square().mean().detach()) < before
    model.train().loss(clip)[0].backward()
    assert model.hidden.grad is not None and bool(model.hidden.grad.any())


def test_continuous_tokens_have_no_indices() -> None:
    model = made()
    tokens = model.encode(random_clip(SPEC, b=1, t=1).at(0))
    assert model.codes == 0
    with pytest.raises(UserError, match="the tokens of MAE are continuous, they have no indices: choose vq or fsq"):
        model.indices(tokens)
    with pytest.raises(UserError, match="continuous"):
        model.lookup(torch.zeros(1, 4, dtype=torch.long))
