"""Every candidate and every answer keep to what is allowed, whatever the planner."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.config import build
from innerworld.errors import UserError
from innerworld.plan import CEM, ICEM, MPPI, Gradient, Limits, Plan, Planner, RandomShooting, cold, free, generators
from innerworld.plan.constraints import Constraint, chain, clip, each_step, fixed, gripper, l1_ball, l2_ball

ROBOT = Limits(reach=(1, 1, 0.5, 1), ball=0.6, ball_dims=(0, 1), still=(3,))
PLANNERS = {
    "random": RandomShooting(horizon=3, samples=64),
    "random, held": RandomShooting(horizon=4, samples=64, hold=2, noise_beta=2.0),
    "cem": CEM(horizon=3, samples=64, rounds=8, elites=8),
    "cem, mean, populations": CEM(horizon=3, samples=64, rounds=8, elites=8, populations=2, answer="mean"),
    "icem": ICEM(horizon=3, samples=64, rounds=8, elites=8, populations=2, hold=2),
    "mppi": MPPI(horizon=3, samples=64, rounds=8, elites=8),
    "mppi, mean": MPPI(horizon=3, samples=64, rounds=8, elites=64, fixed_std=True, answer="mean"),
    "gradient": Gradient(horizon=3, samples=4, rounds=40, noise_std=0.05),
}


def random_actions(*shape: int) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 1


def plan(planner: Planner, target: Tensor, constrain: Constraint) -> tuple[Plan, list[Tensor]]:
    """The search for the `target` (a), and all candidates that were tried."""
    tried: list[Tensor] = []

    def bowl(actions: Tensor) -> Tensor:
        tried.append(actions.detach().clone())
        return (actions - target).square().mean(dim=(2, 3))

    start = cold(2, planner.horizon, len(target)) + 0.9  # not allowed itself
    return planner(bowl, start, generators(0, 2), False, constrain), tried


def keeps_to(limits: Limits, actions: Tensor) -> bool:
    sums = actions[..., list(limits.ball_dims)].abs().sum(dim=-1)
    sizes = actions.abs() <= torch.tensor(limits.reach) + 1e-6
    return bool((sums <= (limits.ball or torch.inf) + 1e-6).all() and sizes.all() and not actions[..., 3].any())


@pytest.mark.parametrize("name", PLANNERS)
def test_every_candidate_and_the_answer_are_allowed(name: str) -> None:
    found, tried = plan(PLANNERS[name], torch.tensor([0.9, -0.3, 0.8, 0.7]), ROBOT.constraint())
    assert tried and all(keeps_to(ROBOT, actions) for actions in tried)
    assert keeps_to(ROBOT, found.actions)
    assert any(not keeps_to(ROBOT, actions) for actions in plan(PLANNERS[name], torch.ones(4), free)[1])


@pytest.mark.parametrize("name", ["cem", "cem, mean, populations", "icem", "mppi", "gradient"])
def test_the_best_allowed_action_is_found(name: str) -> None:
    """The nearest allowed one to what is wanted: the elites were the constrained ones."""
    found, _ = plan(PLANNERS[name], torch.tensor([0.9, -0.5, 0.8, 0.7]), ROBOT.constraint())
    best = torch.tensor([0.5, -0.1, 0.5, 0.0])  # 0.9 and 0.5, each less 0.4, lie on the ball of 0.6
    assert (found.actions - best).abs().max() < 0.12


@pytest.mark.parametrize("name", PLANNERS)
def test_without_constraints_nothing_changes(name: str) -> None:
    planner = PLANNERS[name]
    cost = lambda actions: (actions - 0.4).square().mean(dim=(2, 3))
    plain = planner(cost, cold(2, planner.horizon, 2), generators(0, 2))
    assert torch.equal(plain.actions, planner(cost, cold(2, planner.horizon, 2), generators(0, 2), False, free).actions)


@pytest.mark.parametrize("name", PLANNERS)
def test_choices_know_no_constraints(name: str) -> None:
    planner = PLANNERS[name]
    start = cold(2, planner.horizon, 3, discrete=True)
    with pytest.raises(UserError, match="choices cannot be constrained"):
        planner(lambda actions: actions[..., 0].sum(dim=2), start, generators(0, 2), True, l1_ball(1, [0]))


def test_the_ball_gives_the_nearest_point() -> None:
    """Against bisection for the amount by which all sizes shrink."""
    actions = random_actions(50, 5).double() * 2
    found = l1_ball(0.7, [0, 2, 3])(actions)
    assert torch.equal(found[:, [1, 4]], actions[:, [1, 4]])
    sizes = actions[:, [0, 2, 3]].abs()
    low, high = torch.zeros(50, 1, dtype=torch.float64), sizes.max(dim=1, keepdim=True).values
    for _ in range(60):
        middle = (low + high) / 2
        outside = (sizes - middle).clamp(min=0).sum(dim=1, keepdim=True) > 0.7
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    inside = sizes.sum(dim=1, keepdim=True) <= 0.7
    expected = torch.where(inside, sizes, (sizes - high).clamp(min=0))
    torch.testing.assert_close(found[:, [0, 2, 3]].abs(), expected, atol=1e-9, rtol=0)
    assert bool((found * actions >= 0).all())
    torch.testing.assert_close(l1_ball(0.7, [0, 2, 3])(found), found, atol=1e-12, rtol=0)  # again changes nothing


def test_the_round_ball_keeps_the_direction() -> None:
    actions = random_actions(50, 3)
    found = l2_ball(0.5, [0, 2])(actions)
    assert torch.equal(found[:, 1], actions[:, 1])
    long = actions[:, [0, 2]].norm(dim=-1) > 0.5
    assert bool(long.any()) and not bool(long.all())
    torch.testing.assert_close(found[long][:, [0, 2]].norm(dim=-1), torch.full((int(long.sum()),), 0.5))
    assert torch.equal(found[~long], actions[~long])
    torch.testing.assert_close(found[:, 0] * actions[:, 2], found[:, 2] * actions[:, 0])
    assert l2_ball(0.5, [0, 1])(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert Limits(ball=0.5, ball_norm="l2", ball_dims=(0, 2)).constraint()(actions).equal(found)


def test_clip_fixed_and_gripper() -> None:
    action = torch.tensor([0.9, -0.9, 0.2, -0.3])
    assert clip([0.5, 1, 0.1, 0])(action).tolist() == pytest.approx([0.5, -0.9, 0.1, 0])
    assert fixed({1: 0.25, 3: 0.0})(action).tolist() == pytest.approx([0.9, 0.25, 0.2, 0])
    assert gripper(2, 0.25)(action).tolist() == pytest.approx([0.9, -0.9, 0, -0.3])
    assert gripper(3, 0.25)(action).tolist() == pytest.approx([0.9, -0.9, 0.2, -0.3])
    assert gripper(3, 0.25, full=0.75)(action).tolist() == pytest.approx([0.9, -0.9, 0.2, -0.75])
    assert action.tolist() == pytest.approx([0.9, -0.9, 0.2, -0.3])  # what was given stays
    both = chain(clip([0.5] * 4), gripper(2, 0.25))
    assert both(action).tolist() == pytest.approx([0.5, -0.5, 0, -0.3])


def test_each_step_of_a_block_is_constrained() -> None:
    blocks = random_actions(3, 2, 6)
    found = each_step(l1_ball(0.5, [0, 1]), 3)(blocks)
    assert found.shape == blocks.shape
    assert bool((found.unflatten(-1, (3, 2)).abs().sum(dim=-1) <= 0.5 + 1e-6).all())
    torch.testing.assert_close(found[..., 2:4], l1_ball(0.5, [0, 1])(blocks[..., 2:4]))
    assert each_step(free, 3) is free


def test_no_limits_are_no_constraint() -> None:
    assert Limits().constraint() is free and Limits().finish() is free


def test_vjepa2_acs_robot() -> None:
    robot = Limits.presets["vjepa2_ac"]
    robot.check(7)
    actions = robot.constraint()(random_actions(100, 7))
    assert bool((actions[:, :3].abs().sum(dim=-1) <= 1 + 1e-6).all()) and not actions[:, 3:6].any()
    assert actions[:, 6].abs().max() <= 0.75 and bool((actions[:, 6].abs() < 0.25).any())
    done = robot.finish()(actions)
    assert torch.equal(done[:, :6], actions[:, :6])
    assert not bool(((done[:, 6].abs() < 0.25) & (done[:, 6] != 0)).any())
    snaps = robot.model_copy(update={"gripper_snaps": True}).finish()(actions)
    assert set(snaps[:, 6].abs().tolist()) == {0.0, 0.75}


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"reach": [1, 1]}, "limits.reach has 2 sizes, an action has 4"),
        ({"ball": 1.0, "ball_dims": [0, 4]}, "limits name dimension 4, an action has 4"),
        ({"still": [-1]}, "limits name dimension -1"),
        ({"gripper": 6}, "limits name dimension 6"),
        ({"reach": [1, 1, -1, 1]}, "sizes are 0 or more"),
    ],
)
def test_limits_of_another_robot(limits: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(Limits, limits).check(4)
