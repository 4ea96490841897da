"""The cost of a step: formulas agree with what is counted, and with what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from innerworld import families, models
from innerworld.recipes.cost import Cost, cost
from innerworld.types import Spec

SPEC = Spec({"pixels": (32, 32, 3)}, 2)
SETTINGS = {
    "jepa": {"channels": 4, "latent": 16, "hidden": 64, "slices": 8},
    "rssm": models.config("rssm", "small").model_dump(),
}
PLAIN = Cost(
    parameters=1000, parameters_still=100, parameters_in_blocks=600, flops_forward=1, flops_backward=2, flops_layers=3,
    bytes_read=4, bytes_working=5,
)  # fmt: skip


@pytest.mark.parametrize("family", SETTINGS)
def test_the_formula_agrees_with_what_is_counted(family: str) -> None:
    counted = cost(family, SETTINGS[family], SPEC, 4, 6)
    assert counted.flops_layers == pytest.approx(counted.flops, rel=0.15)
    assert 1.5 < counted.flops_backward / counted.flops_forward < 2.1, "backward is twice forward, less a first layer"


def test_twice_the_batch_costs_twice_as_much_but_no_parameter() -> None:
    one, two = (cost("jepa", SETTINGS["jepa"], SPEC, b, 6) for b in (4, 8))
    assert two.bytes_read == 2 * one.bytes_read == 2 * 4 * (7 * 32 * 32 * 3 + 6 * 2 * 4 + 6 * 4 + 6)
    assert two.flops == pytest.approx(2 * one.flops, rel=0.05)
    assert two.bytes_working == pytest.approx(2 * one.bytes_working, rel=0.1)
    assert (
        two.parameters
        == one.parameters
        == sum(p.numel() for p in models.build("jepa", SETTINGS["jepa"], SPEC).parameters())
    )


def test_of_eyes_attention_is_counted_and_a_slow_copy_looks_once() -> None:
    vit = {"dim": 32, "heads": 2, "mlp": 48, "patch": 8, "positions": "table", "table": [2, 2]}
    views = {"global_views": 2, "local_views": 1, "global_size": 32, "local_size": 16, "projector": [8, 8]}
    one, two = (cost("lejepa", views | {"vit": vit | {"depth": depth}}, SPEC, 3, 2) for depth in (1, 2))
    tokens = 3 * 2 * np.array([16, 16, 4])  # of 6 frames, 4 x 4 patches in a large window, 2 x 2 in a small one
    layers = 2 * 32 * (4 * 32 + 2 * 48) * tokens.sum()
    attention = 2 * 2 * 32 * (tokens * [16, 16, 4]).sum()
    assert two.flops_forward - one.flops_forward == layers + attention
    assert two.flops_layers - one.flops_layers == 3 * layers

    settings = families.config("vjepa2", "tiny")
    eyes, copy = families.build("vjepa2", settings, SPEC), cost("vjepa2", settings, SPEC, 2, 4)
    assert copy.parameters_still == sum(p.numel() for p in eyes.get_submodule("target").parameters())
    assert copy.parameters + copy.parameters_still == sum(p.numel() for p in eyes.parameters())
    assert copy.flops_backward < 1.5 * copy.flops_forward
    assert copy.flops_layers < copy.flops


def test_memory_and_network_of_several_processes() -> None:
    assert PLAIN.bytes_state() == 16_400
    assert PLAIN.bytes_state(4, "ddp") == 20_400 and PLAIN.bytes_state(4, "fsdp") == 4_100
    assert PLAIN.bytes_sent(1) == PLAIN.bytes_sent(1, "fsdp") == 0
    assert PLAIN.bytes_sent(4, "ddp") == 2 * 4000 * 3 // 4
    assert PLAIN.bytes_sent(4, "fsdp") == (2 * 4000 + 2400 + 400) * 3 // 4
    assert PLAIN.bytes_sent(4, "fsdp", gloo=True) == (3 * 4000 + 2400 + 400) * 3 // 4
