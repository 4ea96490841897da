"""One draw for all rows, with the given generator and no other."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from innerworld.agent.foresight.luck import SameLuck

DRAWS = {
    "normal_": lambda rng: torch.empty(6, 3).normal_(generator=rng),
    "shifted": lambda rng: torch.empty(6, 3).normal_(1.0, 2.0, generator=rng),
    "uniform_": lambda rng: torch.empty(6, 3).uniform_(generator=rng),
    "exponential_": lambda rng: torch.empty(6, 3).exponential_(generator=rng),
    "randn": lambda rng: torch.randn(6, 3, generator=rng),
    "rand of a shape": lambda rng: torch.rand(torch.Size([6, 3]), generator=rng, dtype=torch.float64),
}


@pytest.mark.parametrize("name", DRAWS)
def test_all_rows_get_the_same(name: str) -> None:
    rng = Generator().manual_seed(0)
    with SameLuck(rng, 6):
        first, second = DRAWS[name](rng), DRAWS[name](rng)
    assert bool((first == first[:1]).all()) and len(first[0].unique()) == 3
    assert not torch.equal(first, second)  # time goes on


def test_how_many_rows_there_are_makes_no_difference() -> None:
    found = []
    for rows in (1, 6):
        rng = Generator().manual_seed(0)
        with SameLuck(rng, rows):
            found.append(torch.randn(rows, 40, generator=rng)[0])
    assert torch.equal(*found)


def test_something_in_the_rows_varies_within_one() -> None:
    rng = Generator().manual_seed(0)
    with SameLuck(rng, 3):
        drawn = torch.randn(6, 4, generator=rng)  # 3 rows of 2 tokens
    assert torch.equal(drawn[:2], drawn[2:4]) and torch.equal(drawn[:2], drawn[4:])
    assert not torch.equal(drawn[0], drawn[1])


def test_other_draws_are_left_alone() -> None:
    rng = Generator().manual_seed(0)
    torch.manual_seed(0)
    with SameLuck(rng, 4):
        for drawn in (
            torch.randn(4, 3),  # the global state
            torch.randn(4, 3, generator=Generator().manual_seed(1)),
            torch.randn(3, 4, generator=rng),  # not of these rows
            torch.randperm(9, generator=rng).view(3, 3),
        ):
            assert not bool((drawn == drawn[:1]).all())
    assert not bool((lambda x: x == x[:1])(torch.randn(4, 3, generator=rng)).all())  # nor what comes after it
