"""What it costs: operations as they are by hand, memory that grows with the work, and a model that stays as it was."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from innerworld import families
from innerworld.agent import Agent
from innerworld.evaluate.counting import Alive, flop_counter
from innerworld.evaluate.expense import Expense, decision, imagined_step, measure, parameters, process_mb, training_step
from innerworld.plan import CEM
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
RSSM = {"deter": 64, "hidden": 32, "stoch": 8, "classes": 4, "depth": 8, "units": 32, "layers": 1, "mults": (1, 2)}
TINY: dict[str, dict[str, Any]] = {
    "jepa": {"channels": 4, "latent": 8, "hidden": 16, "slices": 16},
    "rssm": RSSM | {"image": "strided", "image_size": 8},
    "world_models": {
        "image": "strided",
        "z": 6,
        "hidden": 16,
        "mixtures": 3,
        "units": 16,
        "bins": 41,
        "image_size": 8,
        "stages": 1,
    },
    "diffusion": {"image_size": 8, "steer": 8, "channels": (8, 8), "depths": (1, 1), "steps": 2}
    | {"ends": {"hidden": 8, "steer": 8, "channels": (8, 8), "depths": (1, 1), "bins": 41}},
    "dino_wm": {"eyes": {"vit": {"dim": 24, "depth": 1, "heads": 2, "mlp": 32, "patch": 8}}}
    | {"depth": 2, "heads": 2, "head_dim": 12, "mlp": 32, "action_dim": 4, "proprio_dim": 4},
}


def built(family: str) -> WorldModel:
    torch.manual_seed(0)
    model = families.build(family, TINY[family], SPEC)
    assert isinstance(model, WorldModel)
    return model


@pytest.mark.parametrize("family", TINY)
def test_every_family_has_its_price(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerworld.evaluate.expense.LEAST_S", 0.01)
    model, clip = built(family), random_clip(SPEC, b=2, t=5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    taught = training_step(model, clip)
    belief = model.encode(random_clip(SPEC, b=1, t=1).at(0))
    one, many = (imagined_step(model, belief, n, horizon=2) for n in (1, 16))
    sight = {"pixels": clip.obs["pixels"][:1, 0]}
    planned = decision(Agent(model, CEM(horizon=2, samples=8, rounds=2, elites=2)), sight, sight)
    for found in (taught, one, many, planned):
        assert min(found.flops, found.bytes, found.wall_s) > 0 and found.cpu_s >= 0
    assert taught.bytes > 3 * 4 * parameters(model)["parameters"], "parameters, gradients, averages"
    assert many.bytes > one.bytes and many.flops <= 1.01 * one.flops, "each future costs as much, or shares its past"
    assert planned.flops > 2 * one.flops
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_operations_and_memory_by_hand() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    found = measure(lambda: (a @ b).sum(), torch.device("cpu"))
    assert found.flops == 2 * 3 * 4 * 5 and found.bytes == 4 * (3 * 5 + 1)
    assert found.share(4) == Expense(found.flops / 4, found.bytes, found.wall_s / 4, found.cpu_s / 4)
    assert Expense(2e6, 3e6, 0.5, 0.25).metrics("x") == {"x_mflops": 2, "x_mb": 3, "x_wall_ms": 500, "x_cpu_ms": 250}


def test_the_clock_of_the_wall_goes_on_in_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerworld.evaluate.expense.LEAST_S", 0.05)
    found = measure(lambda: time.sleep(0.02), torch.device("cpu"))
    assert found.wall_s >= 0.02 > 0.01 > found.cpu_s


def test_attention_is_counted_on_cpus_and_what_is_gone_is_not_alive() -> None:
    q = torch.ones(1, 2, 8, 4)
    with flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * 2 * 8 * 8 * 4
    with Alive() as alive:
        for _ in range(5):
            torch.ones(100)
    assert alive.peak == 400


def test_parameters_that_are_held_still_count_apart() -> None:
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameters(layer) == {"parameters": 6, "parameters_still": 2, "model_mb": 32 / 1e6}
    assert process_mb()["process_mb_peak"] > 50
