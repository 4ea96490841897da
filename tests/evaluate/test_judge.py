"""Judging: a model is measured on held-out episodes, its probe is fitted on those learnt from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.data import POLICIES, Store, collect
from innerworld.envs.two_rooms import TwoRoomsVector
from innerworld.errors import UserError
from innerworld.evaluate.judge import beliefs, judge
from innerworld.evaluate.probing import linear_probe
from innerworld.models import JEPA, Oracle
from innerworld.models.jepa import JEPAConfig
from innerworld.models.oracle import OracleConfig
from innerworld.types import Spec

SPEC = Spec({"pixels": (64, 64, 3), "state": (2,), "layout": (4,)}, 2)
LEARN, HELD_OUT = np.arange(9), np.arange(9, 12)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("rooms") / "data", SPEC)
    collect(TwoRoomsVector(12), POLICIES["smooth"](SPEC), 12, store, 0)
    return store


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(OracleConfig(), SPEC.only("state", "layout"), TwoRoomsVector(1).dynamics())


def test_the_oracle_knows_and_foresees_everything(rooms: Store, oracle: Oracle) -> None:
    known = judge(oracle, rooms, LEARN, HELD_OUT)
    assert known.probe is not None
    assert known.metrics["probe_r2"] == pytest.approx(1, abs=1e-4)
    assert known.metrics["probe_error"] < 0.2  # pixels; the ridge holds it back a little
    for h in (1, 2, 4, 8, 16):
        assert known.metrics[f"energy_ratio_{h}"] == pytest.approx(0, abs=1e-6)
        assert known.metrics[f"position_error_{h}"] < 0.2 < known.metrics[f"position_standing_still_{h}"]


def test_a_judgement_is_the_same_each_time_and_leaves_the_model_alone(rooms: Store) -> None:
    torch.manual_seed(0)
    model = JEPA(JEPAConfig(image_size=16, channels=2, latent=8, hidden=16, projector=8), SPEC.only("pixels"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = judge(model, rooms, LEARN, HELD_OUT).metrics, judge(model, rooms, LEARN, HELD_OUT).metrics
    assert one == two and all(np.isfinite(value) for value in one.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_probe_is_fitted_on_what_was_learnt_from_and_scored_on_the_rest(rooms: Store) -> None:
    torch.manual_seed(0)
    model = JEPA(JEPAConfig(image_size=16, channels=2, latent=8, hidden=16), SPEC.only("pixels")).eval()
    expected = linear_probe(*beliefs(model, rooms, LEARN), *beliefs(model, rooms, HELD_OUT))
    known = judge(model, rooms, LEARN, HELD_OUT)
    assert known.probe is not None and torch.equal(known.probe["weights"], expected["weights"])
    assert known.metrics["probe_r2"] == expected["r2"]


def test_a_store_without_state_is_judged_without_a_probe(rooms: Store, tmp_path) -> None:
    spec = SPEC.only("pixels")
    blind = Store.create(tmp_path / "data", spec)
    for i in range(3):
        clip = rooms.episode(i)
        blind.add(type(clip)({"pixels": clip.obs["pixels"]}, clip.action, clip.reward, clip.terminated))
    model = JEPA(JEPAConfig(image_size=16, channels=2, latent=8, hidden=16), spec)
    known = judge(model, blind, np.array([0, 1]), np.array([2]))
    assert known.probe is None and "energy_ratio_1" in known.metrics and "probe_r2" not in known.metrics


def test_horizons_are_cut_to_the_episodes(rooms: Store, oracle: Oracle, tmp_path) -> None:
    short = Store.create(tmp_path / "data", SPEC)
    for i in range(12):
        short.add(rooms.episode(i).cut(0, 5))
    found = judge(oracle, short, LEARN, HELD_OUT).metrics
    assert "energy_ratio_4" in found and "energy_ratio_8" not in found
    with pytest.raises(UserError, match="no episode has the 6 actions of a clip"):
        judge(oracle, short, LEARN, HELD_OUT, frame_skip=6)


def test_beliefs_run_along_whole_episodes_with_the_state_beside(rooms: Store, oracle: Oracle) -> None:
    features, states = beliefs(oracle, rooms, np.array([3, 1]))
    assert features.shape == (102, 6) and states.shape == (102, 2)
    torch.testing.assert_close(features[:, :2], states)
    torch.testing.assert_close(states[:51], rooms.episode(3).obs["state"][0])
    assert len(beliefs(oracle, rooms, np.array([3]), frame_skip=7)[0]) == 8
