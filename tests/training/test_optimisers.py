"""Optimisers: LaProp and clipping by tensor against their formulas, rates of submodules, and exact resuming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerworld import checkpoint
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.training import FREE_ON_RESUME, TrainConfig, train
from innerworld.training.optimisers import LaProp, build_optimiser, clip_each
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

SPEC = Spec({"state": (3,)}, action=2)
CONFIG = TrainConfig(steps=20, lr=1e-2, optimiser="laprop", agc=0.3, weight_decay=0.1, save_every=10, device="cpu")


class Two(WorldModel):
    """A world, and a policy that learns at a rate of its own."""

    def __init__(self, factors: Mapping[str, float] | None = None) -> None:
        torch.manual_seed(1)
        super().__init__(Config(), SPEC)
        self.world = nn.Linear(5, 3)
        self.policy = nn.ModuleDict({"actor": nn.Linear(3, 2), "critic": nn.Linear(3, 1)})
        self.factors = factors or {}
        self.seen: list[dict[str, Tensor]] = []  # gradients as the optimiser found them

    def rates(self) -> Mapping[str, float]:
        return self.factors

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: torch.Generator | None = None) -> State:
        return {"z": self.world(torch.cat([state["z"], action], dim=-1))}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.predict(self.encode(clip.at(0)), clip.action[:, 0])["z"]
        miss = (z - clip.at(1)["state"]).square().mean()
        acted = self.policy["actor"](z) - clip.action[:, 0] + 0.1 * torch.randn(2)
        worth = self.policy["critic"](z)[:, 0] - clip.reward[:, 0]
        return miss + acted.square().mean() + worth.square().mean(), {}

    def after_step(self) -> None:
        self.seen.append({name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None})


class Noise:
    def __init__(self, ends: int = -1) -> None:
        self.ends = ends

    def batch(self, step: int) -> Clip:
        if step == self.ends:
            raise KeyboardInterrupt
        rng = torch.Generator().manual_seed(step)
        state, action = torch.randn(8, 2, 3, generator=rng), torch.rand(8, 1, 2, generator=rng)
        return Clip({"state": state}, action, torch.randn(8, 1, generator=rng), torch.zeros(8, 1).bool())


def change(**values: Any) -> TrainConfig:
    return CONFIG.model_copy(update=values)


# ---------------------------------------------------------------------- LaProp


def slow_laprop(w: float, gradients: list[float | None], lr: list[float], decay: float, eps: float) -> float:
    """One number, step by step, as the paper has it: https://arxiv.org/abs/2002.04839, algorithm 1, with decay."""
    mean = square = 0.0
    age = 0
    for g, rate in zip(gradients, lr, strict=True):
        if g is None:
            continue
        age += 1
        square = 0.999 * square + 0.001 * g * g
        scaled = g / (math.sqrt(square / (1 - 0.999**age)) + eps)
        mean = 0.9 * mean + 0.1 * scaled
        w -= rate * (mean / (1 - 0.9**age) + decay * w)
    return w


@pytest.mark.parametrize(("decay", "eps"), [(0.0, 1e-20), (0.5, 1e-20), (0.0, 0.1)])
def test_laprop_is_its_slow_reference(decay: float, eps: float) -> None:
    rng = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=rng).double()) for shape in ((3, 2), (4,), ())]
    starts = [p.detach().clone() for p in parameters]
    steps = 20
    rates = [0.01 * (1 + step) for step in range(steps)]
    sizes = torch.logspace(0, -4, steps).double()
    gradients = [[torch.randn(p.shape, generator=rng).double() * size for p in parameters] for size in sizes]
    late = [0, 6, 0]  # steps in which a parameter has no gradient yet
    optimiser = LaProp(parameters, lr=1.0, eps=eps, weight_decay=decay)
    for step, given in enumerate(gradients):
        for parameter, gradient, missing in zip(parameters, given, late, strict=True):
            parameter.grad = gradient if step >= missing else None
        optimiser.param_groups[0]["lr"] = rates[step]
        optimiser.step()
    for i, parameter in enumerate(parameters):
        values = zip(starts[i].reshape(-1).tolist(), parameter.reshape(-1).tolist(), strict=True)
        for at, (start, found) in enumerate(values):
            own = [given[i].reshape(-1)[at].item() if step >= late[i] else None for step, given in enumerate(gradients)]
            assert found == pytest.approx(slow_laprop(start, own, rates, decay, eps), rel=1e-9)


def test_laprop_moves_by_the_rate_however_small_the_gradient_is() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([1e-12, -1e6, 0.0])
    LaProp([parameter], lr=0.5).step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.5, 0.5, 0.0]))


def test_laprop_leaves_gradients_as_they_are_and_calls_a_closure() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimiser = LaProp([parameter], lr=0.1)

    def closure() -> float:
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) == 3.0
    assert parameter.grad is not None and parameter.grad.tolist() == [2, 2, 2]
    assert (parameter < 1).all()


# ---------------------------------------------------------------------- clipping


def test_each_gradient_is_clipped_by_the_norm_of_its_own_tensor() -> None:
    rng = torch.Generator().manual_seed(0)
    weights = [torch.randn(4, 3, generator=rng), torch.randn(5, generator=rng), torch.zeros(6), torch.tensor(2.0)]
    gradients = [torch.randn(w.shape, generator=rng) * size for w, size in zip(weights, (9, 1e-3, 1, 5), strict=True)]
    parameters = [nn.Parameter(weight) for weight in weights]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    idle, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    still.grad = torch.zeros(2)
    clip_each([*parameters, idle, still], 0.3)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        upper = 0.3 * max(1e-3, parameter.detach().square().sum().sqrt().item())
        norm = gradient.square().sum().sqrt().item()
        torch.testing.assert_close(parameter.grad, gradient / max(1.0, norm / upper))
    assert parameters[1].grad is not None and torch.equal(parameters[1].grad, gradients[1])  # small enough: not touched
    assert idle.grad is None and still.grad.tolist() == [0, 0]
    clip_each([idle], 0.3)  # nothing to clip


def test_the_loop_clips_by_tensor_after_the_whole_and_before_the_step() -> None:
    model, plain = Two(), Two()
    train(plain, Noise(), change(steps=1, agc=0.0, clip_grad=0.5, optimiser="adamw"))
    train(model, Noise(), change(steps=1, agc=0.01, clip_grad=0.5, optimiser="adamw"))
    norm = torch.stack([value.norm() for value in plain.seen[0].values()]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-4)
    begin = Two()
    clipped = 0
    for name, value in plain.seen[0].items():
        upper = 0.01 * max(1e-3, begin.get_parameter(name).norm().item())
        torch.testing.assert_close(model.seen[0][name], value / max(1.0, value.norm().item() / upper))
        clipped += value.norm().item() > upper
    assert clipped >= 3


# ---------------------------------------------------------------------- settings


def test_each_optimiser_has_its_own_eps_and_only_matrices_decay() -> None:
    for kind, eps in (("adamw", 1e-8), ("laprop", 1e-20)):
        optimiser = build_optimiser(Two(), change(optimiser=kind, betas=(0.8, 0.99)))
        assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]
        assert [{p.ndim for p in group["params"]} for group in optimiser.param_groups] == [{2}, {1}]
        for group in optimiser.param_groups:
            assert (group["lr"], group["eps"], group["betas"], group["rate"]) == (1e-2, eps, (0.8, 0.99), 1.0)
        optimiser = build_optimiser(Two(), change(optimiser=kind, eps=1e-5))
        assert {group["eps"] for group in optimiser.param_groups} == {1e-5}


@pytest.mark.parametrize(("kind", "kinds"), [("laprop", LaProp), ("adamw", torch.optim.AdamW)])
def test_submodules_learn_at_their_own_rates(kind: str, kinds: type) -> None:
    rates = {"policy": 0.1, "policy.critic": 0.5, "policy.critic.bias": 2.0}
    model, before = Two(rates), Two()
    rows: list[Mapping[str, float]] = []
    config = change(optimiser=kind, steps=1, weight_decay=0.0)
    assert isinstance(build_optimiser(model, config), kinds)
    train(model, Noise(), config, log=lambda step, row: rows.append(row))
    assert rows[0]["lr"] == 1e-2  # that of the run
    expected = {"world": 1.0, "policy.actor": 0.1, "policy.critic": 0.5, "policy.critic.bias": 2.0}
    for name, value in model.named_parameters():  # the first step is as large as the rate, whatever the gradient
        factor = expected[max((each for each in expected if name.startswith(each)), key=len)]
        moved = (value - before.get_parameter(name)).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-2 * factor), rtol=1e-3, atol=0)


def test_a_rate_that_names_nothing_or_is_no_factor_is_refused() -> None:
    with pytest.raises(UserError, match=r"Two.rates\(\) names 'polcy', which has no parameter. Did you mean 'policy'"):
        train(Two({"polcy": 0.1}), Noise(), CONFIG)
    with pytest.raises(UserError, match="'pol', which has no parameter"):  # names, not letters
        train(Two({"pol": 0.1}), Noise(), CONFIG)
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="give one above 0, or freeze it"):
            train(Two({"policy": rate}), Noise(), CONFIG)


def test_a_frozen_part_may_have_a_rate() -> None:
    model = Two({"policy": 0.1})
    model.policy.requires_grad_(False)
    train(model, Noise(), change(steps=2))
    assert torch.equal(model.get_parameter("policy.actor.weight"), Two().get_parameter("policy.actor.weight"))


# ---------------------------------------------------------------------- resuming


@pytest.mark.parametrize("kind", ["laprop", "adamw"])
def test_resume_is_bit_exact(kind: str, tmp_path: Path) -> None:
    rates, config = {"policy": 0.1}, change(optimiser=kind)
    whole = train(Two(rates), Noise(), config, tmp_path / "whole")
    with pytest.raises(UserError, match="interrupted at step 13"):
        train(Two(rates), Noise(13), config, tmp_path / "parts")
    torch.manual_seed(99)
    parts = train(Two(rates), Noise(), config, tmp_path / "parts", resume=True)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())
    a, b = (tmp_path / f / "checkpoints" / "step-00000020" / "optimiser.safetensors" for f in ("whole", "parts"))
    assert a.read_bytes() == b.read_bytes()
    assert b"world.weight/exp_avg_sq" in a.read_bytes()


@pytest.mark.parametrize("values", [{"optimiser": "adamw"}, {"agc": 0.2}, {"eps": 1e-5}])
def test_another_optimiser_cannot_resume(values: dict[str, Any], tmp_path: Path) -> None:
    assert not values.keys() & set(FREE_ON_RESUME)
    train(Two(), Noise(), change(steps=2), tmp_path)
    with pytest.raises(UserError, match=f"cannot resume: train {next(iter(values))} was"):
        train(Two(), Noise(), change(**values), tmp_path, resume=True)
    assert checkpoint.read_header(tmp_path).step == 2
