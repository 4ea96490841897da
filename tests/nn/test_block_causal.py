"""Steps added one by one, with what was computed kept, are the steps computed all at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.nn.block_causal import BlockCausal, Futures, block_causal
from innerworld.nn.rotary import Turn, turn

B, N, T, S, D = 2, 3, 7, 4, 24


def body(window: int) -> BlockCausal:
    torch.manual_seed(0)
    body = BlockCausal(D, depth=2, heads=2, mlp=32, window=window)
    for p in body.parameters():
        nn.init.normal_(p, std=0.3)
    return body


def turn_at(times: Tensor) -> Turn:
    """Of the steps at `times` `t`, all their tokens in a row."""
    position = torch.stack(
        [times.repeat_interleave(S), torch.arange(S).repeat(len(times)), torch.zeros(len(times) * S)]
    )
    return turn(position.T, D // 2, "standard")


def test_the_mask_is_that_of_the_rule() -> None:
    seen = block_causal(3, 2, window=2)
    steps = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]]).bool()
    assert torch.equal(seen, steps.repeat_interleave(2, 0).repeat_interleave(2, 1))


@torch.no_grad()
def test_step_by_step_is_all_at_once_whatever_the_window() -> None:
    for window in (1, 2, 3, T, T + 2):
        model, x = body(window), torch.randn(B, T, S, D)
        whole = model(x, turn_at(torch.arange(T)))
        futures = Futures(model, model.blank(B, S, x), torch.zeros(B, dtype=torch.long), S)
        alone = [futures.add(x[:, t, None], turn_at(torch.tensor([t])))[:, 0] for t in range(T)]
        torch.testing.assert_close(torch.stack(alone, dim=1), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_is_remembered_and_shared_is_what_was_seen() -> None:
    """Rows with pasts of different lengths, three candidates each, longer than the window."""
    window, past, ahead = 3, (0, 4), 4
    model, x = body(window), torch.randn(B, N, max(past) + ahead, S, D)
    memories = []
    for b, steps in enumerate(past):
        memory = model.blank(1, S, x)
        for t in range(steps):
            futures = Futures(model, memory, torch.tensor([t]), S)
            futures.add(x[b, None, :1, t], turn_at(torch.tensor([t])))
            memory = futures.memory(memory)
        memories.append(memory)
    keys, values = (torch.cat([memory[i] for memory in memories]) for i in (0, 1))
    assert keys.shape == (B, 2, 2, (window - 1) * S, D // 2)
    time = torch.tensor(past)
    futures = Futures(model, (keys, values), time, S)
    for h in range(ahead):
        by = [turn_at(time[b, None] + h) for b in range(B)]
        stacked = tuple(torch.stack([one[i] for one in by])[:, None] for i in (0, 1))
        now = torch.stack([x[b, :, past[b] + h] for b in range(B)])
        found = futures.add(now, stacked)  # pyright: ignore[reportArgumentType]
        for b in range(B):
            for n in range(N):
                film = torch.cat([x[b, :1, : past[b]], x[b, n, None, past[b] : past[b] + h + 1]], dim=1)
                alone = model(film, turn_at(torch.arange(film.shape[1])))[0, -1]
                torch.testing.assert_close(found[b, n], alone, rtol=0, atol=1e-5)


def test_no_memory_takes_no_room() -> None:
    keys, values = body(5).blank(1000, S, torch.zeros(()))
    assert keys.untyped_storage().nbytes() == values.untyped_storage().nbytes() == 4


def test_gradients_flow_through_the_kept_keys() -> None:
    model, x = body(3), torch.randn(1, 2, S, D, requires_grad=True)
    futures = Futures(model, model.blank(1, S, x), torch.zeros(1, dtype=torch.long), S)
    futures.add(x[:, 0, None], turn_at(torch.tensor([0])))
    futures.add(x[:, 1, None], turn_at(torch.tensor([1]))).sum().backward()
    assert x.grad is not None and bool(x.grad[:, 0].any())
