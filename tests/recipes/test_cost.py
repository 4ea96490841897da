"""The cost of a step: formulas agree with what is counted, and with what can be counted by hand."""

from __future__ import annotations

import pytest

from innerworld import models
from innerworld.recipes.cost import Cost, cost
from innerworld.types import Spec

SPEC = Spec({"pixels": (32, 32, 3)}, 2)
SETTINGS = {
    "jepa": {"channels": 4, "latent": 16, "hidden": 64, "slices": 8},
    "rssm": models.config("rssm", "small").model_dump(),
}
PLAIN = Cost(
    parameters=1000, parameters_in_blocks=600, flops_forward=1, flops_backward=2, flops_layers=3, bytes_read=4,
    bytes_working=5,
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


def test_memory_and_network_of_several_processes() -> None:
    assert PLAIN.bytes_state() == 16_000
    assert PLAIN.bytes_state(4, "ddp") == 20_000 and PLAIN.bytes_state(4, "fsdp") == 4_000
    assert PLAIN.bytes_sent(1) == PLAIN.bytes_sent(1, "fsdp") == 0
    assert PLAIN.bytes_sent(4, "ddp") == 2 * 4000 * 3 // 4
    assert PLAIN.bytes_sent(4, "fsdp") == (2 * 4000 + 2400) * 3 // 4
    assert PLAIN.bytes_sent(4, "fsdp", gloo=True) == (3 * 4000 + 2400) * 3 // 4
