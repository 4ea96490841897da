"""The oracle foresees its world exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.envs.two_rooms import TwoRoomsVector
from innerworld.errors import UserError
from innerworld.models import Oracle
from innerworld.models.oracle import OracleConfig
from innerworld.types import Clip, Spec

SPEC = Spec({"state": (2,), "layout": (4,)}, 2)


def oracle() -> Oracle:
    return Oracle(OracleConfig(), SPEC, TwoRoomsVector(1).dynamics())


def played(b: int = 5, t: int = 12) -> Clip:
    """Random play in rooms that differ from world to world."""
    worlds = TwoRoomsVector(b)
    rng = np.random.default_rng(0)
    obs, _ = worlds.reset(seed=0, options={"variation": ["wall", "door", "radius"]})
    seen, actions = [obs], []
    for _ in range(t):
        actions.append(rng.uniform(-1, 1, (b, 2)).astype(np.float32))
        seen.append(worlds.step(actions[-1])[0])
    obs = {name: torch.from_numpy(np.stack([at[name] for at in seen], axis=1)) for name in seen[0]}
    return Clip(
        obs, torch.from_numpy(np.stack(actions, axis=1)), torch.zeros(b, t), torch.zeros(b, t, dtype=torch.bool)
    )


def test_it_foresees_what_the_world_does() -> None:
    clip, model = played(), oracle()
    imagined = model.imagine(model.encode(clip.at(0)), clip.action[:, None])
    torch.testing.assert_close(imagined["state"][:, 0], clip.obs["state"][:, 1:])
    assert model.loss(clip)[0].item() == pytest.approx(0, abs=1e-8)


def test_energy_is_the_squared_distance() -> None:
    at = lambda x, y: {"state": torch.tensor([[x, y]]), "layout": torch.zeros(1, 4)}
    assert oracle().energy(at(0.0, 0.0), at(3.0, 4.0)).tolist() == [25]
    assert oracle().energy(at(3.0, 4.0), at(3.0, 4.0)).tolist() == [0]


def test_a_planner_may_differentiate_it() -> None:
    clip, model = played(), oracle()
    actions = (0.1 * clip.action[:, None]).requires_grad_()
    model.imagine(model.encode(clip.at(0)), actions)["state"].sum().backward()
    assert actions.grad is not None and bool(actions.grad.any())


def test_it_needs_the_dynamics_and_shows_what_it_knows() -> None:
    with pytest.raises(UserError, match="true dynamics"):
        Oracle(OracleConfig(), SPEC)
    state = oracle().encode(played().at(0))
    assert set(oracle().decode(state)) == {"state", "layout"} and "pixels" not in state
