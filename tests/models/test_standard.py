"""Standard numbers: mean 0 and deviation 1 over everything seen, however it came."""

from __future__ import annotations

import pytest
import torch

from innerworld.models.standard import Standard


def test_rows_in_batches_of_any_size_are_standard_in_the_end() -> None:
    rows = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1.0, 50.0])
    rows += torch.tensor([0.0, 500.0, -3.0])
    standard = Standard(3)
    for part in rows.split([1, 9, 490, 500]):
        standard.see(part.unflatten(0, (-1, 1)))
    found = standard(rows)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(3), rtol=0, atol=2e-3)
    torch.testing.assert_close(found.std(dim=0, correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_what_never_changes_is_not_blown_up() -> None:
    standard = Standard(2)
    standard.see(torch.tensor([[5.0, 1.0], [5.0, 2.0]]))
    assert standard(torch.tensor([5.5, 1.5])).tolist() == [0.5, 0.0]


@pytest.mark.parametrize("value", [0.1, -9.81, 1000.1, 123456.7])
def test_a_large_constant_is_not_blown_up_by_the_rounding_of_its_mean(value: float) -> None:
    standard, sizes = Standard(1), torch.Generator().manual_seed(0)
    for _ in range(50):
        standard.see(torch.full((int(torch.randint(1, 1100, (), generator=sizes)), 1), value))
    torch.testing.assert_close(standard(torch.tensor([value + 1])), torch.ones(1), rtol=0.05, atol=0)


def test_back_is_what_it_was_given() -> None:
    x = torch.tensor([[3.0, -2.0, 7.0]])
    standard = Standard(3)
    assert torch.equal(standard.back(x), x)  # before anything was seen
    rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 50.0, 0.0])
    rows += torch.tensor([0.0, 500.0, 7.0])
    standard.see(rows)
    torch.testing.assert_close(standard.back(standard(rows)), rows)
    torch.testing.assert_close(standard.back(torch.zeros(1, 3))[0], rows.mean(dim=0))
    torch.testing.assert_close(standard.back(torch.ones(1, 3))[0, :2], (rows.mean(0) + rows.std(0, correction=0))[:2])
    assert standard.back(standard(torch.tensor([[0.0, 0.0, 8.0]])))[0, 2] == 8  # of what never changed, too


def test_before_anything_was_seen_numbers_stay() -> None:
    x = torch.tensor([[3.0, -2.0]])
    assert torch.equal(Standard(2)(x), x)


def test_looking_teaches_nothing() -> None:
    standard = Standard(2)
    standard.see(torch.randn(5, 2))
    before = {name: value.clone() for name, value in standard.state_dict().items()}
    standard(torch.randn(5, 2))
    assert all(torch.equal(value, standard.state_dict()[name]) for name, value in before.items())
    assert set(before) == {"count", "mean", "square"}
