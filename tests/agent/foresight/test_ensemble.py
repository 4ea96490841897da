"""Several models as one: it keeps the contract of a world model, and its members stay themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA
from innerworld.models.rssm import RSSM
from innerworld.testing.world_model import check_gradients, check_world_model, random_clip
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"speed": (3,)}, 2)
TINY = RSSM.Config(deter=16, hidden=8, stoch=2, classes=4, units=8, layers=1)


def jepa(seed: int, spec: Spec = SPEC) -> JEPA:
    torch.manual_seed(seed)
    return JEPA(JEPA.Config(latent=6, hidden=8), spec)


def rssm(seed: int, spec: Spec = SPEC) -> RSSM:
    torch.manual_seed(seed)
    return RSSM(TINY, spec)


@pytest.mark.parametrize("member", [jepa, rssm])
def test_the_contract_but_for_saving(member) -> None:
    def build(spec: Spec) -> WorldModel:
        return Ensemble([member(0, spec), member(1, spec)]).requires_grad_(False)

    check_world_model(build, SPEC)


def test_every_member_learns() -> None:
    check_gradients(Ensemble([jepa(0), jepa(1)]), random_clip(SPEC, 3, 5))


def test_members_may_be_of_different_families() -> None:
    check_world_model(lambda spec: Ensemble([jepa(0, spec), rssm(1, spec)]).requires_grad_(False), SPEC)


def test_beliefs_lie_side_by_side_and_judgements_are_means() -> None:
    models = [rssm(0).eval(), rssm(1).eval()]
    both, clip = Ensemble(models), random_clip(SPEC, 3, 2)
    with torch.no_grad():
        state, goal = both.encode(clip.at(0)), both.encode(clip.at(1))
        own, wanted = ([m.encode(clip.at(t)) for m in models] for t in (0, 1))
        assert set(state) == {f"{i}.{name}" for i in range(2) for name in own[0]}
        for i in range(2):
            assert all(torch.equal(value, own[i][name]) for name, value in both.parts(state)[i].items())
        energies = [m.energy(a, b) for m, a, b in zip(models, own, wanted, strict=True)]
        torch.testing.assert_close(both.energy(state, goal), (energies[0] + energies[1]) / 2)
        told = [m.decode(a) for m, a in zip(models, own, strict=True)]
        torch.testing.assert_close(both.decode(state)["speed"], (told[0]["speed"] + told[1]["speed"]) / 2)
        rewards = [m.prospects(a)[0] for m, a in zip(models, own, strict=True)]
        torch.testing.assert_close(both.prospects(state)[0], (rewards[0] + rewards[1]) / 2)
        assert torch.equal(
            both.features(state), torch.cat([m.features(a) for m, a in zip(models, own, strict=True)], -1)
        )
    assert both.card.decodes and not Ensemble([jepa(0), rssm(0)]).card.decodes
    assert both.discount() == models[0].discount() and both.restarts == models[0].restarts


def test_it_draws_with_one_generator() -> None:
    both = Ensemble([rssm(0), rssm(0)]).eval()
    clip = random_clip(SPEC, 3, 1)
    with torch.no_grad():
        state = both.encode(clip.at(0))
        first, again = (both.predict(state, clip.action[:, 0], Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["0.stoch"], first["1.stoch"])


def test_its_loss_is_the_members_mean() -> None:
    models, clip = [jepa(0), jepa(1)], random_clip(SPEC, 4, 3)
    torch.manual_seed(5)
    loss, parts = Ensemble(models).loss(clip)
    torch.manual_seed(5)
    expected = torch.stack([model.loss(clip)[0] for model in models]).mean()
    torch.testing.assert_close(loss, expected)
    assert any(name.startswith("0.") for name in parts) and any(name.startswith("1.") for name in parts)


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(UserError, match="at least one"):
        Ensemble([])
    with pytest.raises(UserError, match="specs differ"):
        Ensemble([jepa(0), jepa(0, Spec({"speed": (4,)}, 2))])
