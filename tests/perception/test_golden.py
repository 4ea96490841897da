"""Encoders, predictors and losses against float64 numbers of the published code, for weights that a formula gives.

Tensor k of the reference's `state_dict`, flat element i: 0.1 sin(0.7 (i + 1) + k), plus 1 for a norm's weight; inputs
sin(0.37 (i + 1) + offset). The lists below say which of our weights is the reference's k-th: they are the converter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.nn.patches import take
from innerworld.nn.vision import VisionTransformer, ViTConfig
from innerworld.perception.predictor import Predictor, PredictorConfig

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
EXACT = {"rtol": 0, "atol": 1e-9}
VJEPA2 = ViTConfig(dim=48, depth=2, heads=2, mlp=96, patch=4, tubelet=2, pairing="vjepa2")
IJEPA = ViTConfig(dim=24, depth=2, heads=2, mlp=48, patch=4, positions="sincos_2d", order="column_first")
SEEN = torch.tensor([[0, 3, 5, 6, 9, 17, 20, 31], [1, 2, 4, 8, 15, 16, 22, 30]])
HIDDEN = torch.tensor([[1, 7, 18, 29], [0, 5, 21, 28]])


def wave(*shape: int, offset: float = 0) -> Tensor:
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * (i + 1) + offset).reshape(shape)


def blocks(depth: int) -> Iterator[str]:
    """A block's weights in the reference's order: norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2."""
    for i in range(depth):
        for part in ("norm1", "attention.qkv", "attention.out", "norm2", "mlp.fc1", "mlp.fc2"):
            yield from (f"blocks.{i}.{part}.weight", f"blocks.{i}.{part}.bias")


def fill(module: nn.Module, order: list[str | None]) -> None:
    """Weights by the formula; None stands for a table of the reference that is computed here."""
    state = module.double().state_dict()
    assert sorted(state) == sorted({name.partition("#")[0] for name in order if name})
    for k, entry in enumerate(order):
        if entry is None:
            continue
        name, _, row = entry.partition("#")
        shape = state[name].shape[1:] if row else state[name].shape
        i = torch.arange(math.prod(shape), dtype=torch.float64)
        value = (0.1 * torch.sin(0.7 * (i + 1) + k) + float("norm" in name and name.endswith("weight"))).reshape(shape)
        if row:
            state[name][int(row)] = value
        else:
            state[name] = value
    module.load_state_dict(state)


def agree(found: Tensor, golden: dict) -> None:
    assert list(found.shape) == golden["shape"]
    numbers = [found.mean(), found.std(), *found.flatten()[:8], *found.flatten()[-4:]]
    wanted = [golden["mean"], golden["std"], *golden["first8"], *golden["last4"]]
    torch.testing.assert_close(torch.stack(numbers), torch.tensor(wanted, dtype=torch.float64), **EXACT)


def vjepa2_encoder() -> VisionTransformer:
    vit = VisionTransformer(VJEPA2)
    fill(vit, ["patches.weight", "patches.bias", *blocks(2), "norms.0.weight", "norms.0.bias"])
    return vit


def vjepa2_predictor() -> Predictor:
    config = PredictorConfig(dim=24, depth=2, heads=2, mlp=48, mask_tokens=2)
    predictor = Predictor(config, VJEPA2)
    ends = ["norm.weight", "norm.bias", "out.weight", "out.bias"]
    fill(predictor, ["embed.weight", "embed.bias", "mask_tokens#0", "mask_tokens#1", *blocks(2), *ends])
    return predictor


def test_vjepa2_encoder() -> None:
    agree(vjepa2_encoder()(wave(2, 3, 4, 16, 16)), GOLDEN["vjepa2_encoder"]["out"])


def test_vjepa2_encoder_of_seen_tokens_only() -> None:
    agree(vjepa2_encoder()(wave(2, 3, 4, 16, 16), SEEN), GOLDEN["vjepa2_encoder_masked"]["out"])


@pytest.mark.parametrize("token", [0, 1])
def test_vjepa2_predictor(token: int) -> None:
    seen = vjepa2_encoder()(wave(2, 3, 4, 16, 16), SEEN)
    guess = vjepa2_predictor()(seen, SEEN, HIDDEN, (2, 4, 4), token)
    agree(guess, GOLDEN["vjepa2_predictor"][f"mask_index{token}"])


def test_vjepa2_loss() -> None:
    vit, x = vjepa2_encoder(), wave(2, 3, 4, 16, 16)
    truth = F.layer_norm(vit(x), (48,))
    guess = vjepa2_predictor()(vit(x, SEEN), SEEN, HIDDEN, (2, 4, 4), 1)
    error = (guess - take(truth, HIDDEN)).abs().mean()
    assert error.item() == pytest.approx(GOLDEN["vjepa2_loss_L1_one_mask"], abs=1e-9)


# The reference file does not say I-JEPA's setting; it was found by search, and is right to the last digit.
PICTURES = (2, 3, 16, 16)
CONTEXT = torch.tensor([[0, 1, 4, 5, 9], [2, 3, 6, 7, 11]])
TARGETS = [torch.tensor([[10, 11, 14, 15], [8, 9, 12, 13]]), torch.tensor([[2, 3, 6, 7], [0, 1, 4, 5]])]


def ijepa_encoder() -> VisionTransformer:
    vit = VisionTransformer(IJEPA)
    fill(vit, [None, "patches.weight", "patches.bias", *blocks(2), "norms.0.weight", "norms.0.bias"])
    return vit


def ijepa_guess(vit: VisionTransformer) -> Tensor:
    predictor = Predictor(PredictorConfig(dim=16, depth=2, heads=2, mlp=32), IJEPA)
    ends = ["norm.weight", "norm.bias", "out.weight", "out.bias"]
    fill(predictor, ["mask_tokens#0", None, "embed.weight", "embed.bias", *blocks(2), *ends])
    seen = vit(wave(*PICTURES), CONTEXT)
    return predictor(seen.repeat(2, 1, 1), CONTEXT.repeat(2, 1), torch.cat(TARGETS), (1, 4, 4))


def test_ijepa_encoder() -> None:
    agree(ijepa_encoder()(wave(*PICTURES), CONTEXT), GOLDEN["ijepa"]["encoder_masked"])


def test_ijepa_predictor_and_loss() -> None:
    vit = ijepa_encoder()
    guess = ijepa_guess(vit)
    agree(guess, GOLDEN["ijepa"]["predictor"])
    truth = F.layer_norm(vit(wave(*PICTURES)), (24,))
    error = F.smooth_l1_loss(guess, torch.cat([take(truth, target) for target in TARGETS]))
    assert error.item() == pytest.approx(GOLDEN["ijepa"]["smooth_l1"], abs=1e-9)
