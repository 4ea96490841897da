"""The suite on our films: an oracle is right, controls are at chance, and a taught model stands beside both."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("pymunk")

from innerworld.data.matched import PhysicsFilms
from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.errors import UserError
from innerworld.evaluate.surprise import SurpriseConfig, last_frame_score, pairwise
from innerworld.models import JEPA
from innerworld.recipes.surprise import judge_surprise, oracle_score, side_of, untaught
from innerworld.types import Spec

SPEC = Spec({"pixels": (32, 32, 3)}, 0)


def jepa(predictor: str = "mlp") -> JEPA:
    torch.manual_seed(1)
    small = JEPA.presets["small"].model_copy(update={"rollout": 0, "predictor": predictor, "history": 4})
    return JEPA(small, SPEC)


@pytest.mark.slow
@pytest.mark.parametrize("over", ["mean", "max"])
def test_who_knows_the_state_scores_at_least_99_percent(over: str) -> None:
    config = SurpriseConfig.model_validate({"over": over})
    found = pairwise(PhysicsFilms(15, seed=11, size=8), {"oracle": oracle_score(config)}, config)["oracle"]
    assert (
        found["all"] >= 0.99 and found["all_sum"] == 1.0 and all(found[name] >= 0.96 for name in PRINCIPLES)
    )  # of 30 pairs each


def test_who_knows_the_state_is_right_in_a_few_of_each() -> None:
    found = pairwise(PhysicsFilms(1, seed=2, size=8), {"oracle": oracle_score()})["oracle"]
    assert found["all"] == 1.0 and found["all_pairs"] == 2 * len(PRINCIPLES)


def test_who_remembers_one_frame_is_exactly_at_chance() -> None:
    """By construction: of each quadruplet one pair is right and the other wrong, whatever is measured."""
    films = PhysicsFilms(3, seed=5, size=32)
    found = pairwise(films, {"last": last_frame_score(config=SurpriseConfig(settle=0))}, SurpriseConfig(settle=0))
    assert all(found["last"][name] == found["last"][f"{name}_sum"] == 0.5 for name in PRINCIPLES)
    without_memory = judge_surprise(jepa(), films, SurpriseConfig(settle=0), quiet=True)
    assert all(without_memory["model"][name] == 0.5 for name in PRINCIPLES)


def test_all_stand_side_by_side_and_the_result_is_reproducible() -> None:
    films = PhysicsFilms(2, ("shape", "inertia"), seed=3, size=32)
    model = jepa("transformer")
    found = judge_surprise(model, films, quiet=True, oracle=True)
    assert list(found) == ["model", "random weights", "last frame", "oracle"]
    assert found["oracle"]["all"] == 1.0 and found["model"]["all_pairs"] == 8
    assert judge_surprise(model, films, quiet=True, oracle=True) == found


def test_untaught_has_other_weights_and_leaves_ours_and_the_random_state_alone() -> None:
    model = jepa()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    fresh = untaught(model, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(next(iter(fresh.parameters())), next(iter(model.parameters())))
    assert all(map(torch.equal, fresh.state_dict().values(), untaught(model, seed=0).state_dict().values()))


def test_which_films_fit() -> None:
    assert side_of(jepa()) == 32
    small = JEPA.presets["small"]
    with pytest.raises(UserError, match="films are squares"):
        side_of(JEPA(small, Spec({"pixels": (32, 48, 3)}, 0)))
    with pytest.raises(UserError, match="sees no pictures"):
        side_of(JEPA(small, Spec({"state": (3,)}, 0)))
