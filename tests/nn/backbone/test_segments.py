"""Cut clips: every piece as if alone, and no more than twice the tokens."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from innerworld.nn.backbone.segments import segmented

computed: list[int] = []


def running_sum(x: Tensor) -> Tensor:
    computed.append(x.shape[0] * x.shape[1])
    return x.cumsum(dim=1)


@settings(max_examples=60, deadline=None)
@given(
    some.integers(1, 4), some.integers(1, 17), some.integers(0, 10_000), some.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
)
def test_every_piece_is_a_clip_of_its_own(b, t, seed, often):
    draw = torch.Generator().manual_seed(seed)
    first = torch.rand(b, t, generator=draw) < often
    x = torch.randint(-9, 9, (b, t, 2), generator=draw).double()
    computed.clear()
    found = segmented(running_sum, x, first)
    assert sum(computed) <= 2 * b * t
    for row in range(b):
        begin = 0
        for time in range(t):
            begin = time if first[row, time] else begin
            assert torch.equal(found[row, time], x[row, begin : time + 1].sum(dim=0))


def test_nothing_beyond_a_piece_reaches_it():
    """What stands behind a piece of uneven length is another's; a Fourier transform would mix its rounding in."""
    first = torch.tensor([[True, False, False, True, False], [True, True, False, False, False]])
    x = torch.full((2, 5, 1), torch.nan)
    x[0, :3] = 1.0
    found = segmented(lambda piece: piece.flip(1).cumsum(1).flip(1) * 0 + piece, x, first)
    assert torch.equal(found[0, :3], torch.ones(3, 1))


def test_without_cuts_it_is_one_run():
    x = torch.ones(2, 4, 1)
    first = torch.zeros(2, 4, dtype=torch.bool)
    first[0, 0] = True
    for begins in (None, first):
        computed.clear()
        assert torch.equal(segmented(running_sum, x, begins), x.cumsum(dim=1))
        assert computed == [8]
