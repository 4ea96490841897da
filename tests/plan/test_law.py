from __future__ import annotations

import torch

from innerworld.plan.law import Categorical, Gaussian, begin, elite


def test_gaussian_refit_is_the_weighted_mean_and_std() -> None:
    law = begin(torch.zeros(1, 1, 1), False, init_std=1.0, min_std=0.01, explore=0.0)
    actions = torch.tensor([0.0, 1.0, -1.0]).reshape(1, 1, 3, 1, 1)
    law = law.refit(actions, torch.tensor([[[1.0, 3.0, 0.0]]]), momentum=0.0)
    assert isinstance(law, Gaussian)
    assert law.mean.allclose(torch.tensor(0.75))
    assert law.std.allclose(torch.tensor((0.25 * 0.75**2 + 0.75 * 0.25**2) ** 0.5))


def test_momentum_keeps_a_share_of_the_old() -> None:
    law = begin(torch.zeros(1, 1, 1), False, init_std=1.0, min_std=0.0, explore=0.0)
    law = law.refit(torch.ones(1, 1, 2, 1, 1), torch.ones(1, 1, 2), momentum=0.25)
    assert isinstance(law, Gaussian)
    assert law.mean.item() == 0.75
    assert law.std.item() == 0.25


def test_std_has_a_floor() -> None:
    law = begin(torch.zeros(1, 1, 1), False, init_std=1.0, min_std=0.1, explore=0.0)
    law = law.refit(torch.ones(1, 1, 2, 1, 1), torch.ones(1, 1, 2), momentum=0.0)
    assert isinstance(law, Gaussian)
    assert law.std.allclose(torch.tensor(0.1))


def test_a_population_without_weight_stays() -> None:
    law = begin(torch.zeros(1, 1, 2), False, init_std=1.0, min_std=0.0, explore=0.0).spread(torch.ones(1, 1, 1, 2))
    weight = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])  # b p n
    moved = law.refit(torch.full((1, 2, 2, 1, 2), 0.5), weight, momentum=0.0)
    assert isinstance(moved, Gaussian)
    assert moved.mean[0, 0].tolist() == [[0.0, 0.0]]
    assert moved.mean[0, 1].tolist() == [[0.5, 0.5]]


def test_categorical_refit_keeps_exploring() -> None:
    law = begin(torch.full((1, 2, 4), 0.25), True, init_std=1.0, min_std=0.0, explore=0.2)
    actions = torch.eye(4)[0].expand(1, 1, 3, 2, 4)
    law = law.refit(actions, torch.ones(1, 1, 3), momentum=0.0)
    assert isinstance(law, Categorical)
    assert law.probs.allclose(torch.tensor([0.85, 0.05, 0.05, 0.05]))
    assert law.centre()[0, 0].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]


def test_elites_are_the_cheapest_of_each_population() -> None:
    actions = torch.arange(6.0).reshape(1, 2, 3, 1, 1)
    cost = torch.tensor([[[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]]])
    elites, costs = elite(actions, cost, 2)
    assert elites[..., 0, 0].tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    assert costs.tolist() == [[[1.0, 2.0], [1.0, 2.0]]]
