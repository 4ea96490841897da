"""Surprise at beliefs unlike all experience, and disagreement of several futures."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from innerworld.agent.cost.cost import Cost
from innerworld.agent.cost.readout import Decoded
from innerworld.agent.cost.strangeness import Disagreement, Surprise, disagreement
from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.agent.foresight.futures import Members, OneFuture
from innerworld.agent.modules import Imagined
from innerworld.envs.two_rooms import Dynamics
from innerworld.errors import UserError
from innerworld.models import Oracle
from innerworld.models.jepa import JEPA
from innerworld.models.oracle import OracleConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

ORACLE = Oracle(OracleConfig(), Spec({"state": (2,)}, 2), Dynamics(size=64, speed=4.0))
AT = Decoded("state", ("x", "y"))


def at(*points: tuple[float, float], goal: tuple[float, float] = (0.0, 0.0)) -> Imagined:
    """One candidate that is at these points one after another."""
    states = torch.tensor(points, dtype=torch.float32)[None, None]
    return Imagined(ORACLE, {}, {"state": states}, torch.zeros(1, 1, len(points), 2), {"state": torch.tensor([goal])})


def test_surprise_counts_standard_deviations() -> None:
    """x varies by 10 and y by 1: the same way off is ten times as strange in y."""
    known = torch.randn(20000, 2, generator=Generator().manual_seed(0)) * torch.tensor([10.0, 1.0]) + 30
    term = Surprise.of(known)
    found = term(at((30, 30), (50, 30), (30, 50), (40, 31)))[0, 0]
    torch.testing.assert_close(found, torch.tensor([0, 2 / 2**0.5, 20 / 2**0.5, 1.0]), atol=0.05, rtol=0.02)
    familiar = term(at(*map(tuple, known[:500].tolist())))
    assert familiar.square().mean().item() == pytest.approx(1, abs=0.1)


def test_surprise_knows_what_always_goes_together() -> None:
    """x and y are the same in experience: to part them is strange, though both are common."""
    known = torch.randn(5000, 1, generator=Generator().manual_seed(0)).expand(-1, 2) * 10
    known = known + 0.1 * torch.randn(5000, 2, generator=Generator().manual_seed(1))
    together, apart = Surprise.of(known)(at((8, 8), (8, -8)))[0, 0].tolist()
    assert together < 1 and apart > 50


def test_a_direction_that_never_varied_does_not_make_rounding_a_surprise() -> None:
    known = torch.cat([torch.randn(100, 1, generator=Generator().manual_seed(0)), torch.zeros(100, 1)], dim=1)
    assert Surprise.of(known)(at((0.0, 1e-4))).item() < 1


def test_surprise_is_refused_what_it_cannot_use() -> None:
    for features in (torch.zeros(1, 3), torch.zeros(3), torch.full((4, 2), torch.nan)):
        with pytest.raises(UserError, match="surprise needs"):
            Surprise.of(features)
    with pytest.raises(UserError, match="alike"):
        Surprise.of(torch.ones(5, 2))
    with pytest.raises(UserError, match="knows 3 features, the model has 2"):
        Surprise.of(torch.randn(9, 3, generator=Generator().manual_seed(0)))(at((0, 0)))


def test_disagreement_is_the_spread() -> None:
    """Squared distances to the goal at 0: 9 and 25, 16 and 16."""
    futures = [at((3, 0), (4, 0)), at((5, 0), (0, 4))]
    torch.testing.assert_close(Disagreement().among(futures), torch.tensor([[[8 / 17, 0]]]))
    torch.testing.assert_close(disagreement(futures), torch.tensor([[4 / 17]]))
    sensors = torch.tensor([[[0.5**0.5, 2.0]]])  # x by 1, y by 0; both by 2
    torch.testing.assert_close(Disagreement("sensors").among(futures), sensors)
    torch.testing.assert_close(Disagreement(AT).among(futures), sensors)
    assert Disagreement()(futures[0]).tolist() == [[[0, 0]]]


def test_disagreement_is_a_term_of_the_cost() -> None:
    """The same in every future, whatever counts of them."""
    futures = [at((3, 0), (4, 0)), at((5, 0), (0, 4))]
    for over in ("mean", "worst", 0.5):
        cost = Cost((Disagreement(AT, weight=2.0),), over=over)
        assert cost.cost(futures, {}).item() == pytest.approx(0.5**0.5 + 2)
        assert list(cost.parts(futures, {})) == ["disagreement [spread]"]
    assert cost.now(ORACLE, {"state": torch.ones(1, 2)}, None, torch.zeros(1, 2)).item() == 0


def test_members_disagree_where_they_have_not_learnt() -> None:
    """Two random models; the same model twice agrees with itself."""
    spec = Spec({"speed": (3,)}, 2)
    torch.manual_seed(0)
    one, two = (JEPA(JEPA.Config(latent=6, hidden=8), spec).eval() for _ in range(2))
    clip = random_clip(spec, 2, 3)
    actions = clip.action[:, None].repeat(1, 4, 1, 1)
    found = []
    for members in ((one, two), (one, one)):
        ensemble = Ensemble(members)
        with torch.no_grad():
            state, goal = ensemble.encode(clip.at(0)), ensemble.encode(clip.at(2))
            found.append(disagreement(Members(ensemble)(state, actions, goal)))
    assert found[0].shape == (2, 4) and bool((found[0] > 0.01).all()) and found[1].max() < 1e-6


def test_a_model_that_draws_nothing_is_refused() -> None:
    spec = Spec({"speed": (3,)}, 2)
    model, clip = JEPA(JEPA.Config(latent=6, hidden=8), spec).eval(), random_clip(spec, 2, 3)
    futures = 2 * list(OneFuture(model)(model.encode(clip.at(0)), clip.action[:, None], None))
    with pytest.raises(UserError, match="draws no sensor"):
        disagreement(futures, "sensors")
