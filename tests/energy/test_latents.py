"""Beliefs as vectors and back, and inferred: what explains an observation, what lies between two."""

from __future__ import annotations

import pytest
import torch

from innerworld.energy import infer, langevin, latents
from innerworld.errors import UserError
from innerworld.types import State


def belief(n: int = 1) -> State:
    return {
        "z": torch.arange(4.0 * n).reshape(n, 2, 2),
        "memory": torch.ones(n, 3),
        "word": torch.ones(n, dtype=torch.long),
    }


def test_there_and_back() -> None:
    free = latents(belief(3))
    assert free.names == ("z", "memory") and free.vectors.shape == (3, 7)
    again = free.belief(free.vectors)
    assert all(torch.equal(again[name], value) for name, value in belief(3).items())


def test_one_belief_is_shared_by_many_vectors() -> None:
    told = latents(belief(), ["z"]).belief(torch.zeros(5, 4))
    assert told["z"].shape == (5, 2, 2) and told["memory"].shape == (5, 3) and told["word"].shape == (5,)


def test_what_explains_an_observation() -> None:
    """Through a decoder that sums two numbers: the belief moves no further than it must, which here is known."""
    seen = torch.tensor([[3.0]])
    start = {"z": torch.tensor([[1.0, 0.0]]), "memory": torch.tensor([[7.0]])}
    found, how = infer(lambda s: (s["z"].sum(dim=-1) - seen[:, 0]) ** 2, start, ["z"], steps=500)
    torch.testing.assert_close(found["z"], torch.tensor([[2.0, 1.0]]), atol=5e-3, rtol=0)
    assert found["memory"].tolist() == [[7.0]] and how.energy.item() < 1e-4 and bool(how.converged)


def test_what_lies_between_two_beliefs() -> None:
    a, b = {"z": torch.tensor([[0.0, 0.0]])}, {"z": torch.tensor([[2.0, 1.0]])}

    def energy(x: State, y: State) -> torch.Tensor:
        return (x["z"] - y["z"]).square().sum(dim=-1)

    found, how = infer(lambda s: energy(a, s) + energy(s, b), a, steps=500)
    torch.testing.assert_close(found["z"], torch.tensor([[1.0, 0.5]]), atol=5e-3, rtol=0)
    assert how.energy.item() == pytest.approx(2.5, abs=1e-3)  # half of the squared way


def test_beliefs_can_be_sampled() -> None:
    free = latents({"z": torch.zeros(1, 2)})
    energy = free.energy(lambda s: s["z"].square().sum(dim=-1) / 2)
    drawn = langevin(energy, torch.zeros(3000, 2), torch.Generator().manual_seed(0), 60, 0.4, adjust=True)
    assert free.belief(drawn.x)["z"].var().item() == pytest.approx(1, abs=0.06)


def test_what_is_refused() -> None:
    for name in ("word", "zz"):
        with pytest.raises(UserError, match=rf"'{name}' cannot be inferred: its parts made of floats are"):
            latents(belief(), [name])
    with pytest.raises(UserError, match="no part made of floats"):
        latents({"word": torch.ones(1, dtype=torch.long)})
    with pytest.raises(UserError, match=r"vectors have shape \(2, 7\), beliefs of 3 rows need \(3, 7\)"):
        latents(belief(3)).belief(torch.zeros(2, 7))
