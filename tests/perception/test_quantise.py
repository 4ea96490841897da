"""Codebook and lattice: nearest entries, averages that follow, the dead that begin anew, and the paper's listing."""

from __future__ import annotations

import itertools

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.vocabulary import usage
from innerworld.perception.quantise import BookConfig, Codebook, Lattice


def book(**change: object) -> Codebook:
    torch.manual_seed(0)
    return Codebook(BookConfig.model_validate({"codes": 5} | change), 3)


def test_rows_get_their_nearest_entry() -> None:
    own, rows = book(), torch.randn(4, 7, 3)
    apart = (rows[:, :, None] - own.entries).square().sum(dim=-1)
    assert torch.equal(own.indices(rows), apart.argmin(dim=-1))
    assert torch.equal(own.lookup(own.indices(rows)), own.entries[apart.argmin(dim=-1)])
    assert torch.equal(own.indices(own.entries), torch.arange(5))


def test_gradients_pass_straight_and_the_pull_is_a_quarter_of_the_squared_distance() -> None:
    own, rows = book().eval(), torch.randn(6, 3, requires_grad=True)
    found, indices, parts = own(rows)
    assert torch.allclose(found, own.entries[indices])
    (found * torch.arange(3.0)).sum().backward()
    assert rows.grad is not None and torch.equal(rows.grad, torch.arange(3.0).expand(6, 3))
    torch.testing.assert_close(parts["commit"], 0.25 * (rows - own.entries[indices]).square().mean())
    assert parts.keys() == {"commit"}


def test_by_the_gradient_entries_come_to_their_rows() -> None:
    own, rows = book(follow="loss"), torch.randn(6, 3, requires_grad=True)
    _, indices, parts = own(rows)
    parts["codebook"].backward()
    assert isinstance(own.entries, torch.nn.Parameter) and own.entries.grad is not None
    used = torch.zeros(5, dtype=torch.bool)
    used[indices] = True
    assert torch.equal(own.entries.grad.any(dim=-1), used) and rows.grad is None
    assert not [*book().parameters()]  # averages need none


def test_averages_are_those_of_the_rows_that_took_an_entry() -> None:
    own = book(decay=0.0, dead=0.0).train()
    rows = own.entries.repeat(2, 1) + 0.01 * torch.randn(10, 3)
    own(rows)
    own.after_step()
    torch.testing.assert_close(own.entries, (rows[:5] + rows[5:]) / 2)


def test_a_dead_entry_begins_anew_at_a_row_that_is_badly_told() -> None:
    own = book(decay=0.5, dead=0.1).train()
    near = own.entries[:2].repeat(20, 1)
    odd = torch.tensor([[50.0, 50.0, 50.0]])
    before = own.entries[2:].clone()
    for _ in range(3):
        own(torch.cat([near, odd]))
        own.after_step()
    assert not torch.equal(own.entries[2:], before)
    for _ in range(5):
        own(torch.cat([near, odd]))
        own.after_step()
    _, indices, _ = own(odd)
    assert (own.lookup(indices) - odd).abs().max() < 1


def test_eval_changes_nothing() -> None:
    own = book().eval()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    own(torch.randn(30, 3))
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_a_codebook_begins_on_rows_that_lie_apart() -> None:
    own, corners = book(), 10 * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))[:5]
    crowd = corners[0] + 0.01 * torch.randn(500, 3)
    own.begin(torch.cat([crowd, corners[1:]]))
    apart = torch.cdist(corners, own.entries).min(dim=1).values
    assert apart.max() < 0.1  # each of the rare ones has its entry


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (4, 4), (2,), (3, 2)])
def test_every_point_of_the_lattice_has_its_index(levels: tuple[int, ...]) -> None:
    own = Lattice(levels)
    points = own.lookup(torch.arange(own.codes))
    assert own.codes == int(torch.tensor(levels).prod()) and points.shape == (own.codes, len(levels))
    assert torch.equal(own.indices(points), torch.arange(own.codes))
    assert len(torch.unique(points, dim=0)) == own.codes and bool((points.abs() <= 1).all())


def test_the_lattice_rounds_as_the_papers_listing() -> None:
    """arXiv 2309.15505, App. A: bound, round, divide by half the levels."""
    levels, z = torch.tensor([8, 5, 4]), 3 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = torch.tensor([0.5, 0.0, 0.5])
    expected = (torch.tanh(z + torch.atanh(offset / half)) * half - offset).round() / (levels // 2)
    found, indices, parts = Lattice([8, 5, 4])(z)
    torch.testing.assert_close(found, expected)
    assert not parts and torch.equal(Lattice([8, 5, 4]).indices(found), indices)
    assert sorted(torch.unique(found[:, 0] * 4).tolist()) == [-4, -3, -2, -1, 0, 1, 2, 3]


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8])
def test_numbers_about_zero_reach_the_levels_beside_it(levels: int) -> None:
    """Rows of deviation 1 use every level, and with two each about half of them: the paper's shift would leave -1 to
    those below -3.8 only."""
    rows = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(Lattice([levels])(rows)[1], minlength=levels) / len(rows)
    assert share.min() > 0.3 / levels
    if levels == 2:
        assert 0.45 < share[0] < 0.55
        assert Lattice([2])(torch.tensor([[-0.1], [0.1]]))[0].flatten().tolist() == [-1, 0]


def test_a_level_alone_tells_nothing() -> None:
    with pytest.raises(UserError, match="needs 2 levels or more"):
        Lattice([8, 1])
    with pytest.raises(UserError, match="needs 2 levels or more"):
        Lattice([])


def test_usage_and_perplexity() -> None:
    even = usage(torch.tensor([[0, 1], [2, 3]]), 8)
    assert float(even["usage"]) == 0.5 and float(even["perplexity"]) == pytest.approx(4)
    assert float(usage(torch.zeros(9, dtype=torch.long), 8)["perplexity"]) == pytest.approx(1)
