"""V-JEPA 2-AC's predictor and mask against float64 numbers of the published code, for weights that a formula gives.

Tensor k of the reference's `state_dict`, flat element i: 0.1 sin(0.7 (i + 1) + k), plus 1 for a norm's weight; inputs
sin(0.37 (i + 1) + offset). ORDER says which of our weights is the reference's k-th: it is the converter.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.models.ac_predictor import ACPredictor
from innerworld.models.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig
from innerworld.nn.block_causal import block_causal
from innerworld.types import Spec

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
EXACT = {"rtol": 0, "atol": 1e-9}
BLOCK = ("norm1", "attention.qkv", "attention.out", "norm2", "mlp.fc1", "mlp.fc2")
LAYERS = [
    *("patch_in", "action_in", "state_in", "extrinsics_in"),
    *(f"body.blocks.{i}.{part}" for i in range(2) for part in BLOCK),
    *("norm", "out"),
]
ORDER = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]


def wave(*shape: int, offset: float = 0) -> Tensor:
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * (i + 1) + offset).reshape(shape)


def golden_predictor() -> ACPredictor:
    """The reference makes the layer for extrinsics always, and has it unused here."""
    predictor = ACPredictor(
        48, 7, 7, 0, [(4, 4)], dim=24, depth=2, heads=2, mlp=48, window=4, pairing="vjepa2", rope_grid=4
    ).double()
    state = predictor.state_dict()
    unused = {"extrinsics_in.weight", "extrinsics_in.bias"}
    assert set(state) == set(ORDER) - unused
    for k, name in enumerate(ORDER):
        if name in unused:
            continue
        i = torch.arange(state[name].numel(), dtype=torch.float64)
        value = 0.1 * torch.sin(0.7 * (i + 1) + k) + float("norm" in name and name.endswith("weight"))
        state[name] = value.reshape(state[name].shape)
    predictor.load_state_dict(state)
    return predictor


def agree(found: Tensor, golden: dict) -> None:
    assert list(found.shape) == golden["shape"]
    numbers = [found.mean(), found.std(), *found.flatten()[:8], *found.flatten()[-4:]]
    wanted = [golden["mean"], golden["std"], *golden["first8"], *golden["last4"]]
    torch.testing.assert_close(torch.stack(numbers), torch.tensor(wanted, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize(("steps", "name"), [(3, "out"), (1, "T1")])
@torch.no_grad()
def test_the_predictor(steps: int, name: str) -> None:
    z, action, state = wave(2, 48, 48).unflatten(1, (3, 16)), wave(2, 3, 7, offset=1), wave(2, 3, 7, offset=2)
    given = (value[:, :steps] for value in (z, action, state, torch.zeros(2, 3, 0)))
    agree(golden_predictor()(*given).flatten(1, 2), GOLDEN["vjepa2_ac_predictor"][name])


def test_the_mask() -> None:
    golden = GOLDEN["ac_mask_T3_2x2_plus2"]
    seen = block_causal(3, 2 * 2 + 2, window=3)
    assert list(seen.shape) == golden["shape"] and seen.sum(dim=1).tolist() == golden["row_sums"]


def test_the_published_size() -> None:
    """305.2 M; the reference has 7,168 more, of a layer for extrinsics that it does not use."""
    with torch.device("meta"):
        preset = VJEPA2ACConfig.model_validate(VJEPA2AC.presets["vitg16"])
        model = VJEPA2AC(preset, Spec({"pixels": (256, 256, 3), "pose": (7,)}, 7))
    found = sum(p.numel() for p in model.predictor.parameters())
    assert found == 305_213_824 and f"{(found + 7_168) / 1e6:.1f}" == "305.2"
    assert model.predictor.sizes == [256] and model.predictor.step_size == 258


def test_places_are_stretched_to_the_grid_that_was_learnt() -> None:
    def predictor(grid: tuple[int, int], rope_grid: int | None) -> ACPredictor:
        return ACPredictor(
            8, 1, 0, 0, [grid], dim=24, depth=1, heads=2, mlp=8, window=2, pairing="standard", rope_grid=rope_grid
        )

    assert predictor((2, 4), None).place.tolist() == [
        [0, 0],
        [0, 0],
        [0, 1],
        [0, 2],
        [0, 3],
        [1, 0],
        [1, 1],
        [1, 2],
        [1, 3],
    ]
    assert predictor((2, 4), 4).place[-1].tolist() == [2, 3]


def test_the_patches_of_two_cameras_are_told_apart() -> None:
    torch.manual_seed(0)
    predictor = ACPredictor(
        8, 0, 0, 0, [(2, 2), (2, 2)], dim=24, depth=1, heads=2, mlp=8, window=2, pairing="standard", rope_grid=None
    )
    z, nothing = torch.randn(1, 1, 8, 8), torch.zeros(1, 1, 0)
    swapped = torch.cat([z[:, :, 4:], z[:, :, :4]], dim=2)
    found, other = predictor(z, nothing, nothing, nothing), predictor(swapped, nothing, nothing, nothing)
    assert (found[:, :, :4] - other[:, :, 4:]).abs().max() > 1e-4


def test_narrow_heads_are_refused() -> None:
    with pytest.raises(UserError, match="12 channels"):
        ACPredictor(8, 1, 0, 0, [(2, 2)], dim=24, depth=1, heads=3, mlp=8, window=2, pairing="standard", rope_grid=None)
