"""Cause and effect: the true dynamics are right in sign, size and restraint; who ignores actions is at chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.data import POLICIES, Clips, Store, collect
from innerworld.envs.two_rooms import TwoRoomsConfig, TwoRoomsVector
from innerworld.envs.unseen import unseen
from innerworld.errors import UserError
from innerworld.evaluate.cause import Twins, beginnings, cause, twins_by_action, twins_by_world
from innerworld.evaluate.judge import fit_probe
from innerworld.evaluate.probing import Probe
from innerworld.models import Oracle
from innerworld.models.oracle import OracleConfig
from innerworld.types import Clip, Spec, State

SPEC = Spec({"pixels": (32, 32, 3), "state": (2,), "layout": (4,)}, 2)
SMALL = TwoRoomsConfig.of_size(32)
LEARN, HELD_OUT = np.arange(10), np.arange(10, 18)


class Deaf(Oracle):
    """Does the same, whatever it is told."""

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return super().predict(state, torch.zeros_like(action), rng)


class Contrary(Oracle):
    """Does half of the opposite, and moves down whenever it should move right."""

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return super().predict(state, -0.5 * action, rng)


class Stirred(Oracle):
    """Moves along y by what it is told for x, beside doing it."""

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return super().predict(state, action + torch.stack([0 * action[:, 0], action[:, 0]], dim=1), rng)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("rooms") / "data", SPEC)
    collect(TwoRoomsVector(18, SMALL), POLICIES["smooth"](SPEC), 18, store, 0)
    return store


@pytest.fixture(scope="module")
def clip(rooms: Store) -> Clip:
    return Clips(rooms, HELD_OUT, 13, 32, 0).batch(0)


@pytest.fixture(scope="module")
def twins(clip: Clip) -> Twins:
    return twins_by_action(TwoRoomsVector(32, SMALL), clip, SPEC)


def knower(kind: type[Oracle] = Oracle, config: TwoRoomsConfig = SMALL) -> Oracle:
    return kind(OracleConfig(), SPEC.only("state", "layout"), TwoRoomsVector(1, config).dynamics())


@pytest.fixture(scope="module")
def probe(rooms: Store) -> Probe:
    return fit_probe(knower(), rooms, LEARN, HELD_OUT)


def test_twins_differ_by_one_number_of_one_action(twins: Twins, clip: Clip) -> None:
    different = twins.one.action != twins.other.action
    assert (twins.context, twins.apart) == (3, 5) and different.sum(dim=(1, 2)).tolist() == [1] * 32
    assert different.sum(dim=(0, 2)).nonzero().tolist() == [[5]]
    assert torch.equal(twins.one.obs["pixels"][:, :6], twins.other.obs["pixels"][:, :6])
    assert (twins.one.obs["state"][:, 6] != twins.other.obs["state"][:, 6]).any(dim=1).float().mean() > 0.6
    torch.testing.assert_close(twins.one.obs["state"], clip.obs["state"])
    assert twins.horizons() == [1, 2, 4, 8] and replace(twins, apart=9).horizons() == [1, 2, 4]


def test_the_true_dynamics_know_causes(twins: Twins, probe: Probe) -> None:
    found = cause(knower(), twins, probe)
    assert found["before"] == 0 and found["pairs"] == 32
    for name in ("sign_accuracy", "slope", "r2", "slope_seen", "sign_accuracy_8", "slope_state_0", "slope_state_1"):
        assert found[name] == pytest.approx(1, abs=0.01), name
    assert found["leak"] < 0.005
    assert 0.2 < found["sign_accuracy_shuffled"] < 0.8 and abs(found["slope_shuffled"]) < 0.5
    assert found["sign_accuracy_low"] <= found["sign_accuracy"] <= found["sign_accuracy_high"]


def test_who_ignores_actions_is_at_chance(twins: Twins, probe: Probe) -> None:
    found = cause(knower(Deaf), twins, probe)
    assert found["sign_accuracy"] == found["sign_accuracy_low"] == 0.5
    assert found["slope"] == found["r2"] == found["leak"] == 0
    assert found["slope_seen"] == pytest.approx(1, abs=0.01), "it sees what happens, though it does not imagine it"


def test_wrong_signs_sizes_and_side_effects_are_told(twins: Twins, probe: Probe) -> None:
    contrary, stirred = (cause(knower(kind), twins, probe) for kind in (Contrary, Stirred))
    assert contrary["sign_accuracy_1"] < 0.1 and -0.7 < contrary["slope_1"] < -0.3
    right = cause(knower(), twins, probe)
    assert stirred["sign_accuracy_state_0"] > 0.95 and stirred["leak"] > 20 * right["leak"]  # walls stop most of it


def test_a_cause_without_effect_is_no_question(twins: Twins, probe: Probe) -> None:
    with pytest.raises(UserError, match="changes nothing within these steps"):
        cause(knower(), replace(twins, other=twins.one), probe)
    with pytest.raises(UserError, match="end before the change can show"):
        cause(knower(), replace(twins, one=twins.one.cut(0, 5), other=twins.other.cut(0, 5)), probe)


def test_another_parameter_of_the_world(clip: Clip, probe: Probe) -> None:
    """Where the wall stands elsewhere, the same actions lead elsewhere, and the oracle, which sees it, knows."""
    varied = unseen("two_rooms", 32)["wall"]
    rows = torch.nonzero(beginnings(varied(1), clip.at(0)["state"]))[:, 0]
    assert 0 < len(rows) < 32 or len(rows) == 32
    twins = twins_by_world(TwoRoomsVector(len(rows), SMALL), varied(len(rows)), clip.rows(rows), SPEC)
    assert not torch.equal(twins.one.obs["layout"], twins.other.obs["layout"])
    found = cause(knower(), twins, probe)
    assert found["sign_accuracy"] > 0.95 and found["slope"] == pytest.approx(1, abs=0.1)


def test_states_in_a_wall_are_none_to_begin_at() -> None:
    state = torch.tensor([[5.0, 5.0], [16.0, 28.0], [27.0, 20.0]])
    assert beginnings(TwoRoomsVector(1, SMALL), state).tolist() == [True, False, True]


def test_worlds_laid_out_otherwise_are_refused(clip: Clip) -> None:
    with pytest.raises(UserError, match="laid out differently"):
        twins_by_action(TwoRoomsVector(32, SMALL.model_copy(update={"door_width": 9.0})), clip, SPEC)
    with pytest.raises(UserError, match="nobody acts"):
        twins_by_action(TwoRoomsVector(32, SMALL), clip, replace(SPEC, action=0))
