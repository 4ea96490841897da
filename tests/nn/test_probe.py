"""The attentive probe: its parts, and that it can read what no mean of tokens tells."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from innerworld.nn.probe import AttentiveProbe


def test_one_block_and_four() -> None:
    tokens = torch.randn(3, 7, 32)
    for blocks in (1, 4):
        probe = AttentiveProbe(32, 5, heads=4, blocks=blocks)
        assert len(probe.before) == blocks - 1 and probe(tokens).shape == (3, 5)
        order = torch.randperm(7)
        torch.testing.assert_close(probe(tokens[:, order]), probe(tokens))  # a set: what has an order has positions


def test_several_queries_answer_separately() -> None:
    probe = AttentiveProbe(32, 5, heads=4, blocks=1, queries=3)
    found = probe(torch.randn(2, 7, 32))
    assert found.shape == (2, 3, 5) and not torch.allclose(found[:, 0], found[:, 1])


def test_it_finds_the_one_token_that_tells() -> None:
    """A mark on one token says where in that token to look; averaging over tokens hides it."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        tokens = torch.randn(64, 8, 16, generator=rng)
        tokens[..., 0] = -3.0
        row = torch.randint(8, (64,), generator=rng)
        tokens[torch.arange(64), row, 0] = 3.0
        return tokens, (tokens[torch.arange(64), row, 1] > 0).long()

    probe = AttentiveProbe(16, 2, heads=2, blocks=1)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=3e-3)
    for _ in range(150):
        tokens, label = batch()
        loss = F.cross_entropy(probe(tokens), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tokens, label = batch()
    assert (probe(tokens).argmax(-1) == label).float().mean() > 0.75
