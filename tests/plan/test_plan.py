from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.plan import PLANNERS, cold, generators, shift
from innerworld.plan.plan import check_start


def test_generators_of_a_row_do_not_depend_on_the_batch() -> None:
    few = [torch.randn(3, generator=g) for g in generators(5, 2)]
    many = [torch.randn(3, generator=g) for g in generators(5, 4)]
    assert all(torch.equal(a, b) for a, b in zip(few, many, strict=False))
    assert not torch.equal(many[0], many[1])


def test_cold() -> None:
    assert torch.equal(cold(2, 3, 4), torch.zeros(2, 3, 4))
    assert torch.equal(cold(2, 3, 4, discrete=True), torch.full((2, 3, 4), 0.25))


def test_shift_drops_the_first_and_repeats_the_last() -> None:
    actions = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1)
    assert shift(actions)[0, :, 0].tolist() == pytest.approx([0.2, 0.3, 0.3])
    assert shift(actions, 2)[0, :, 0].tolist() == pytest.approx([0.3, 0.3, 0.3])
    assert shift(actions, 0).equal(actions)


def test_shift_softens_choices() -> None:
    actions = torch.eye(4)[None, :2]  # choices 0, 1
    start = shift(actions, 1, discrete=True, sure=0.8)
    assert start[0, 0].tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05])
    assert start.sum(-1).allclose(torch.ones(1, 2))


def test_shift_beyond_the_plan() -> None:
    with pytest.raises(UserError, match="choose 0 to 3"):
        shift(torch.zeros(1, 3, 2), 4)


def test_check_start_refuses() -> None:
    rng = generators(0, 2)
    with pytest.raises(UserError, match=r"expected \(b, 3, a\)"):
        check_start(3, torch.zeros(2, 4, 1), rng, discrete=False)
    with pytest.raises(UserError, match="2 generators for 1 rows"):
        check_start(3, torch.zeros(1, 3, 1), rng, discrete=False)
    with pytest.raises(UserError, match=r"\[-1, 1\]"):
        check_start(3, torch.full((2, 3, 1), torch.nan), rng, discrete=False)
    with pytest.raises(UserError, match="sum to 1"):
        check_start(3, torch.zeros(2, 3, 2), rng, discrete=True)


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_has_a_description_and_valid_presets(name: str) -> None:
    kind = PLANNERS[name]
    assert (kind.__doc__ or "").splitlines()[0].endswith(".")
    assert all(isinstance(preset, kind) for preset in kind.presets.values())
    assert all(field.description for field in kind.model_fields.values())
