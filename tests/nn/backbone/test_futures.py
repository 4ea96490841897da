"""Imagined futures: the same as steps one after the other, whatever they share, in memory that is told beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from innerworld.errors import UserError
from innerworld.nn.backbone.absolute import AbsoluteTransformer
from innerworld.nn.backbone.attention import AttentionLayer
from innerworld.nn.backbone.futures import past
from innerworld.nn.backbone.layer import Layer, Memory, Stack
from innerworld.types import each

DIM, HEADS, T = 12, 3, 9


def rotary(window: int = 5) -> Layer:
    return AttentionLayer(DIM, HEADS, 16, window, head_dim=4, positions="rotary")


def relative(window: int = 5) -> Layer:
    layer = AttentionLayer(DIM, HEADS, 16, window, head_dim=4, positions="relative", norm="post")
    assert layer.distances is not None
    torch.nn.init.normal_(layer.distances.content)
    torch.nn.init.normal_(layer.distances.position)
    return layer


def narrow(window: int = 5) -> Layer:
    """One head: its own windows lie in memory as sliding ones would."""
    return AttentionLayer(DIM, 1, 16, window)


def stack() -> Layer:
    return Stack([rotary(3), relative(6)])


def storm() -> Layer:
    return AbsoluteTransformer(DIM, 2, HEADS, 16, positions=24, context=5)


def transdreamer() -> Layer:
    return AbsoluteTransformer(DIM, 2, HEADS, 16, positions=24, context=6, table="sines", norm="pre", every=True)


def token() -> Layer:
    return rotary(1)


def pair() -> Layer:
    return relative(2)


LAYERS = pytest.mark.parametrize("build", [rotary, relative, narrow, stack, storm, transdreamer, token, pair])


def made(build: Callable[[], Layer]) -> Layer:
    torch.manual_seed(0)
    return build().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def sliding(layer: Layer) -> Memory:
    """The times of a trace, with an episode that begins within a row."""
    first = torch.zeros(2, T, dtype=torch.bool)
    first[0, 4] = True
    return layer.trace(noise(2, T - 1, DIM), first)[1]


def every_other(layer: Layer) -> Memory:
    return each(lambda value: value[:, 1::2], sliding(layer))


def expanded(layer: Layer) -> Memory:
    return each(lambda value: value[:, 6:7].expand(-1, 4, *value.shape[2:]), sliding(layer))


def copied(layer: Layer) -> Memory:
    return each(lambda value: value.clone(memory_format=torch.contiguous_format), sliding(layer))


def shuffled(layer: Layer) -> Memory:
    """Each future from another time and row, one of them blank."""
    flat = each(lambda value: value.flatten(0, 1)[[3, 11, 17, 5, 0]], copied(layer))
    blank = layer.blank(1, noise(1, DIM))
    return {name: torch.cat([value, blank[name]]).unflatten(0, (2, 3)) for name, value in flat.items()}


def alone(layer: Layer) -> Memory:
    return each(lambda value: value[:, -1:], sliding(layer))


MEMORIES = pytest.mark.parametrize("remember", [sliding, every_other, expanded, copied, shuffled, alone])


def rolled(layer: Layer, memory: Memory, x: Tensor) -> Tensor:
    """Tokens `b k h d` → `b k h d`."""
    roll = layer.roll(memory, x.shape[2])
    return torch.stack([roll(x[:, :, h]) for h in range(x.shape[2])], dim=2)


def stepped(layer: Layer, memory: Memory, x: Tensor) -> Tensor:
    b, k, horizon, _ = x.shape
    memory = each(lambda value: value.flatten(0, 1), memory)
    outs = []
    for h in range(horizon):
        out, memory = layer.step(x[:, :, h].flatten(0, 1), memory)
        outs.append(out)
    return torch.stack(outs, dim=1).unflatten(0, (b, k))


def tokens(memory: Memory, horizon: int) -> Tensor:
    return noise(*next(iter(memory.values())).shape[:2], horizon, DIM, seed=1)


@LAYERS
@MEMORIES
@pytest.mark.parametrize("gradients", [False, True])
def test_futures_are_a_loop_over_steps(
    build: Callable[[], Layer], remember: Callable[[Layer], Memory], gradients: bool
) -> None:
    """Longer than the windows; what was given stays as it was."""
    layer = made(build)
    with torch.set_grad_enabled(gradients):
        memory = remember(layer)
        x, before = tokens(memory, 8), each(Tensor.clone, memory)
        found, expected = rolled(layer, memory, x), stepped(layer, memory, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert all(torch.equal(memory[name], before[name]) for name in memory)
    assert found.requires_grad == gradients


@LAYERS
@torch.no_grad()
def test_in_double_precision_they_are_exact(build: Callable[[], Layer]) -> None:
    layer = made(build).double()
    memory = layer.trace(noise(2, T - 1, DIM).double())[1]
    x = tokens(memory, 8).double()
    torch.testing.assert_close(rolled(layer, memory, x), stepped(layer, memory, x), rtol=0, atol=1e-10)


@LAYERS
def test_gradients_go_through_them(build: Callable[[], Layer]) -> None:
    layer = made(build).double()
    memory = layer.trace(noise(2, T - 1, DIM).double())[1]
    found, expected = (tokens(memory, 8).double().requires_grad_() for _ in range(2))
    parameters = list(layer.parameters())
    weight = noise(2, T, 8, 1, seed=2).double()
    a = torch.autograd.grad((rolled(layer, memory, found) * weight).sum(), [found, *parameters], allow_unused=True)
    b = torch.autograd.grad(
        (stepped(layer, memory, expected) * weight).sum(), [expected, *parameters], allow_unused=True
    )
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("build", [rotary, relative])
def test_gradients_reach_a_memory_that_has_them(build: Callable[[], Layer]) -> None:
    layer = made(build).double()
    start = noise(2, DIM).double().requires_grad_()
    memory = layer.step(start, layer.blank(2, start))[1]
    memory = each(lambda value: value[:, None].expand(-1, 3, *value.shape[1:]), memory)
    x = tokens(memory, 4).double()
    weight = noise(2, 3, 4, DIM, seed=2).double()
    loss = lambda run: (run(layer, memory, x) * weight).sum()
    a, b = (torch.autograd.grad(loss(run), start, retain_graph=True) for run in (rolled, stepped))
    assert a[0].abs().max() > 1e-3
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_gradients_reach_a_past_that_slides() -> None:
    layer = made(rotary).double()
    past = noise(2, HEADS, 12, 4).double().requires_grad_()
    windows = past.unfold(2, 4, 1).permute(0, 2, 1, 4, 3)
    memory = layer.trace(noise(2, 8, DIM).double())[1] | {"keys": windows, "values": windows}
    x = tokens(memory, 6).double()
    weight = noise(2, T, 6, DIM, seed=2).double()
    loss = lambda run: (run(layer, memory, x) * weight).sum()
    a, b = (torch.autograd.grad(loss(run), past, retain_graph=True) for run in (rolled, stepped))
    assert a[0].abs().max() > 1e-3
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@torch.no_grad()
def test_one_context_of_which_futures_remember_more_or_less() -> None:
    """They share inputs but not positions."""
    layer = made(storm)
    memory = expanded(layer)
    memory["age"] = torch.tensor([[1, 2, 3, 4], [4, 0, 4, 2]])
    x = tokens(memory, 5)
    torch.testing.assert_close(rolled(layer, memory, x), stepped(layer, memory, x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_more_futures_than_look_at_once() -> None:
    """A long clip is looked at in groups, so that scores do not grow with its square."""
    layer = made(rotary)
    memory = layer.trace(noise(1, 200, DIM))[1]
    x = tokens(memory, 3)
    torch.testing.assert_close(rolled(layer, memory, x), stepped(layer, memory, x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_long_roll_with_a_short_window() -> None:
    layer = made(rotary)
    memory = each(lambda value: value[:1, -1:], sliding(layer))
    x = tokens(memory, 80)
    torch.testing.assert_close(rolled(layer, memory, x), stepped(layer, memory, x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_is_shared_is_not_copied() -> None:
    layer = made(rotary)
    memory = sliding(layer)
    for k, shift, views in ((T, 1, memory), (4, 2, every_other(layer)), (4, 0, expanded(layer))):
        found = past(views["keys"], views["values"], views["age"])
        assert (found.shift, found.slots) == (shift, 4)
        assert found.keys.shape == (2, HEADS, (k - 1) * shift + 4, 4)
        assert found.keys.untyped_storage().data_ptr() == views["keys"].untyped_storage().data_ptr()
    own = copied(layer)
    found = past(own["keys"], own["values"], own["age"])
    assert found.keys.shape == (2 * T, HEADS, 4, 4) and found.keys.data_ptr() == own["keys"].data_ptr()


@torch.no_grad()
def test_windows_of_one_slot_that_lie_apart_are_not_one_window_that_slides() -> None:
    """The stride of a single slot means nothing: here futures lie one and a half of it apart."""
    windows = noise(200).as_strided((2, 4, 1, 1, 4), (100, 12, 4, 8, 1))
    found = past(windows, windows, torch.ones(2, 4, dtype=torch.long))
    assert torch.equal(found.keys, windows.flatten(0, 1))


class Made(TorchDispatchMode):
    """Every storage that is made within."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                storage = x.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes() // x.element_size()
        return out

    def alive(self, but: list[Tensor]) -> int:
        """Numbers in those that are still there."""
        old = {StorageWeakRef(x.untyped_storage()) for x in but}
        return sum(size for at, size in self.sizes.items() if at not in old and not at.expired())


@pytest.mark.parametrize("build", [rotary, relative, stack, storm, transdreamer, token])
@pytest.mark.parametrize("remember", [sliding, expanded, copied, alone])
@pytest.mark.parametrize("horizon", [2, 8])
@torch.no_grad()
def test_what_is_held_is_what_was_told(
    build: Callable[[], Layer], remember: Callable[[Layer], Memory], horizon: int
) -> None:
    layer = made(build)
    memory = remember(layer)
    x = tokens(memory, horizon)
    given = [x, *memory.values(), *layer.parameters(), *layer.buffers()]
    with Made() as made_here:
        roll = layer.roll(memory, horizon)
        for h in range(horizon):
            roll(x[:, :, h])
    b, k = x.shape[:2]
    assert made_here.alive(but=given) == layer.held(b, k, horizon, shared=remember is expanded)
    del roll
    assert made_here.alive(but=given) == 0


@torch.no_grad()
def test_memory_does_not_grow_with_the_horizon_beyond_the_window() -> None:
    layer = made(rotary)
    assert layer.held(2, 3, 4096, shared=True) == layer.held(2, 3, 5, shared=True) == 2 * 6 * 5 * DIM


@LAYERS
@torch.no_grad()
def test_mistakes_are_told(build: Callable[[], Layer]) -> None:
    layer = made(build)
    memory = copied(layer)
    roll = layer.roll(memory, 1)
    with pytest.raises(UserError, match=r"tokens of \(2, 3\) rows with a memory of \(2, 9\)"):
        roll(noise(2, 3, DIM))
    roll(noise(2, T, DIM))
    with pytest.raises(UserError, match="1 steps were asked for and all are imagined"):
        roll(noise(2, T, DIM))


def test_a_horizon_beyond_the_positions_is_told() -> None:
    layer = made(storm)
    layer.roll(sliding(layer), 20)
    with pytest.raises(UserError, match="4 remembered tokens and 21 more exceed 24 positions"):
        layer.roll(sliding(layer), 21)
