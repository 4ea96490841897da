"""One transformer, three ways to run it: all at once, step by step, and as branches from a shared past."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.nn.transformer import SteeredTransformer, rotate, rotation

DIM = 12


def steered(window: int, open_gates: bool = True, **other: float) -> SteeredTransformer:
    """A small one. A fresh one is the identity, so its gates are opened, or nothing would be tested."""
    torch.manual_seed(0)
    model = SteeredTransformer(dim=DIM, depth=2, heads=3, head_dim=4, mlp=16, window=window, **other).eval()
    if open_gates:
        for block in model.blocks:
            torch.nn.init.normal_(block.steer.weight, std=0.5)  # pyright: ignore
            torch.nn.init.normal_(block.steer.bias, std=0.5)  # pyright: ignore
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def step_by_step(model: SteeredTransformer, x: Tensor, action: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    past = model.blank(len(x), x)
    outs = []
    for t in range(x.shape[1]):
        out, past = model.step(x[:, t], action[:, t], past, torch.full((len(x),), t))
        outs.append(out)
    return torch.stack(outs, dim=1), past


@pytest.mark.parametrize("window", [1, 2, 3, 8])
@torch.no_grad()
def test_step_by_step_is_all_at_once(window: int) -> None:
    model, x, action = steered(window), noise(2, 7, DIM), noise(2, 7, DIM, seed=1)
    torch.testing.assert_close(step_by_step(model, x, action)[0], model(x, action), rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3, 8])
@pytest.mark.parametrize("seen", [0, 1, 4])
@torch.no_grad()
def test_branches_are_all_at_once(window: int, seen: int) -> None:
    """`seen` tokens of past, then six of each candidate's own: longer than most windows."""
    b, n, h = 2, 3, 6
    model = steered(window)
    x, action = noise(b, seen, DIM), noise(b, seen, DIM, seed=1)
    own_x, own_action = noise(b, n, h, DIM, seed=2), noise(b, n, h, DIM, seed=3)
    past = step_by_step(model, x, action)[1] if seen else model.blank(b, x)
    own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.blocks]
    time = torch.full((b,), seen)
    outs = [model.branch(own_x[:, :, i], own_action[:, :, i], past, own, time, i) for i in range(h)]
    for k in range(n):
        whole = model(torch.cat([x, own_x[:, k]], dim=1), torch.cat([action, own_action[:, k]], dim=1))
        torch.testing.assert_close(torch.stack(outs, dim=2)[:, k], whole[:, seen:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_rows_may_be_at_different_times() -> None:
    model = steered(window=3)
    x, action = noise(2, 5, DIM), noise(2, 5, DIM, seed=1)
    early, late = step_by_step(model, x[:1, :1], action[:1, :1])[1], step_by_step(model, x[1:, :4], action[1:, :4])[1]
    both = torch.cat([early[0], late[0]]), torch.cat([early[1], late[1]])
    out, _ = model.step(
        torch.stack([x[0, 1], x[1, 4]]), torch.stack([action[0, 1], action[1, 4]]), both, torch.tensor([1, 4])
    )
    whole = model(x, action)
    torch.testing.assert_close(out, torch.stack([whole[0, 1], whole[1, 4]]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_shared_past_is_neither_repeated_nor_changed() -> None:
    """The cost of many candidates is in their own tokens: the past keeps its size, and each layer projects n tokens."""
    model = steered(window=4)
    _, past = step_by_step(model, noise(2, 5, DIM), noise(2, 5, DIM, seed=1))
    before = past[0].clone(), past[1].clone()
    projected = []
    model.blocks[0].qkv.register_forward_hook(lambda _, x, out: projected.append(out.shape[:-1].numel()))  # pyright: ignore
    own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.blocks]
    for h in range(3):
        model.branch(noise(2, 50, DIM), noise(2, 50, DIM), past, own, torch.full((2,), 5), h)
    assert projected == [100, 100, 100]
    assert past[0].shape == (2, 2, 3, 3, 4)  # b layer window-1 head d, whatever n
    assert torch.equal(past[0], before[0]) and torch.equal(past[1], before[1])


@pytest.mark.parametrize("window", [1, 3])
@torch.no_grad()
def test_nothing_is_seen_ahead_or_behind_the_window(window: int) -> None:
    """One layer, for layers add up their windows."""
    model = steered(window)
    del model.blocks[1:]
    x, action = noise(1, 6, DIM), noise(1, 6, DIM, seed=1)
    changed = x.clone()
    changed[:, 2] += noise(DIM, seed=5)
    touched = (model(x, action) - model(changed, action)).abs().amax(dim=(0, 2)) > 1e-6
    assert touched.tolist() == [2 <= t < 2 + window for t in range(6)]


@torch.no_grad()
def test_positions_are_relative() -> None:
    """The same tokens later give the same output: what was cached stays right when the window slides."""
    model = steered(window=3)
    x, action = noise(2, 5, DIM), noise(2, 5, DIM, seed=1)
    past = early = model.blank(2, x)
    for t in range(5):
        out, past = model.step(x[:, t], action[:, t], past, torch.full((2,), t + 3))
        other, early = model.step(x[:, t], action[:, t], early, torch.full((2,), t + 103))
        if t >= 2:  # before, the empty slots count as seen
            torch.testing.assert_close(out, other, rtol=0, atol=1e-5)


def test_rotary_products_depend_on_the_distance_only() -> None:
    q, k = noise(1, 1, 8).double(), noise(1, 1, 8, seed=1).double()

    def product(i: int, j: int) -> float:
        at = lambda x, t: rotate(x, rotation(torch.tensor([t]), 8))
        return (at(q, i) * at(k, j)).sum().item()

    assert product(7, 4) == pytest.approx(product(103, 100), abs=1e-5)
    assert product(7, 4) != pytest.approx(product(8, 4), abs=1e-3)
    turned = rotate(q, rotation(torch.tensor([5]), 8))
    torch.testing.assert_close(turned.norm(), q.norm())


@torch.no_grad()
def test_a_fresh_one_is_the_identity_and_a_norm() -> None:
    model, x = steered(window=3, open_gates=False), noise(2, 4, DIM)
    expected = torch.nn.functional.layer_norm(x, (DIM,))
    torch.testing.assert_close(model(x, noise(2, 4, DIM, seed=1)), expected)
    torch.testing.assert_close(model(x, noise(2, 4, DIM, seed=2)), expected)


@torch.no_grad()
def test_the_action_steers() -> None:
    model, x = steered(window=3), noise(2, 4, DIM)
    assert (model(x, noise(2, 4, DIM, seed=1)) - model(x, noise(2, 4, DIM, seed=2))).abs().max() > 0.1


@torch.no_grad()
def test_dropout_is_for_training_only() -> None:
    model, x, action = steered(window=3, dropout=0.5), noise(2, 4, DIM), noise(2, 4, DIM, seed=1)
    assert torch.equal(model(x, action), model(x, action))
    model.train()
    assert not torch.equal(model(x, action), model(x, action))
