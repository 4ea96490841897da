"""`check_planner`: what every planner must do, checked on problems with known answers; for our own and for yours."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.plan import Cost, Plan, Planner, cold, generators, shift
from innerworld.plan.constraints import l1_ball


def check_planner(build: Callable[[], Planner], tolerance: float = 0.1, discrete: bool = True) -> None:
    """Raise `AssertionError`, with a sentence that says what is wrong, unless the planner keeps the contract.

    `build` makes a planner; a short horizon (3) keeps the check fast. `tolerance` is the allowed root mean square
    distance of a plan from the best one, in action units. `discrete=False` skips the checks with one-hot actions.
    """
    planner = build()
    _check_the_plan_is_sound(planner)
    _check_finds_the_bottom(planner, tolerance)
    _check_rows_are_independent(planner)
    _check_seeds(planner)
    _check_warm_start(planner)
    _check_constraint(planner)
    _check_not_finite(planner, tolerance)
    _check_mistakes(planner)
    if discrete:
        _check_discrete(planner)


def _check_finds_the_bottom(planner: Planner, tolerance: float) -> None:
    for name, reach in (("inside the bounds", 0.8), ("at the bounds", 1.5)):
        target = _targets(planner, reach)
        plan = _plan(planner, _bowl(target))
        far = (plan.actions - target.clamp(-1, 1)).square().mean(dim=(1, 2)).sqrt().max().item()
        assert far <= tolerance, f"the plan is {far:.3f} from the best one {name}, allowed are {tolerance}"


def _check_the_plan_is_sound(planner: Planner) -> None:
    cost, seen = _recorded(_bowl(_targets(planner)))
    start = cold(B, planner.horizon, A)
    before = start.clone()
    plan = planner(cost, start, generators(0, B))
    rounds = plan.history.shape[1]
    again = cost(plan.actions[:, None])[:, 0]
    assert torch.equal(start, before), "the planner changed its `start`"
    assert plan.actions.shape == start.shape, f"actions have shape {tuple(plan.actions.shape)}, not the start's"
    assert plan.cost.shape == (B,), f"cost has shape {tuple(plan.cost.shape)}, expected ({B},)"
    assert plan.history.shape == (B, rounds), f"history has shape {tuple(plan.history.shape)}, expected (b, rounds)"
    assert not plan.actions.requires_grad and not plan.cost.requires_grad, "the plan drags a gradient along"
    assert torch.allclose(plan.cost, again, atol=1e-5), "`cost` of the plan is not the cost of its actions"
    assert bool((plan.history.diff(dim=1) <= 0).all()), "the best cost so far rises in `history`"
    assert all(bool((actions.abs() <= 1).all()) for actions in seen), "a candidate lies outside [-1, 1]"
    tried = sum(actions.shape[1] for actions in seen[:-1])
    assert plan.evaluations == tried, f"`evaluations` says {plan.evaluations}, but {tried} candidates were tried"


def _check_rows_are_independent(planner: Planner) -> None:
    target = _targets(planner)
    together = _plan(planner, _bowl(target))
    rng = generators(0, B)
    for row in range(B):
        start = cold(1, planner.horizon, A)
        alone = planner(_bowl(target[row : row + 1]), start, rng[row : row + 1])
        same = torch.allclose(alone.actions[0], together.actions[row], atol=1e-4)
        assert same, f"row {row} gets another plan alone than in a batch of {B}"


def _check_seeds(planner: Planner) -> None:
    cost = _bowl(_targets(planner))
    first, second = _plan(planner, cost), _plan(planner, cost)
    assert torch.equal(first.actions, second.actions), "the same generators give another plan the second time"
    with torch.no_grad():
        unrecorded = _plan(planner, cost)
    assert torch.equal(first.actions, unrecorded.actions), "the plan changes when the caller is under no_grad"


def _check_warm_start(planner: Planner) -> None:
    target = _targets(planner)
    warm = _plan(planner, _bowl(target), start=target).history[:, 0]
    fresh = _plan(planner, _bowl(target)).history[:, 0]
    assert bool((warm <= fresh + 1e-6).all()), "a start at the best plan is no better after one round than a cold one"


def _check_constraint(planner: Planner) -> None:
    constrain = l1_ball(0.5, range(A))
    cost, seen = _recorded(_bowl(_targets(planner, 1.5)))
    plan = planner(cost, cold(B, planner.horizon, A) + 0.9, generators(0, B), False, constrain)
    for what, actions in [*(("a candidate", tried) for tried in seen), ("the plan", plan.actions)]:
        far = (actions.abs().sum(dim=-1) - 0.5).max().item()
        assert far <= 1e-5, f"{what} breaks the constraint that it was given, by {far:.3f}"


def _check_not_finite(planner: Planner, tolerance: float) -> None:
    target = _targets(planner).abs() * -1
    bowl = _bowl(target)
    for bad in (torch.nan, torch.inf):
        plan = _plan(planner, lambda actions, bad=bad: bowl(actions).where(actions[..., 0, 0] <= 0, bad))
        assert bool(plan.cost.isfinite().all()), f"the plan costs {bad} although finite candidates were tried"
        far = (plan.actions - target).square().mean(dim=(1, 2)).sqrt().max().item()
        assert far <= tolerance, f"candidates that cost {bad} keep the plan {far:.3f} from the best one"
    row = torch.tensor([0.0, torch.nan, 0.0])
    _must_refuse(planner, lambda actions: bowl(actions) + row[:, None], "every candidate of a row costs NaN")


def _check_mistakes(planner: Planner) -> None:
    bowl = _bowl(_targets(planner))
    _must_refuse(planner, lambda actions: bowl(actions)[0], "the cost has a wrong shape")
    _must_refuse(planner, bowl, "the start is longer than the horizon", start=cold(B, planner.horizon + 1, A))
    _must_refuse(planner, bowl, "the start is out of bounds", start=2 + cold(B, planner.horizon, A))
    _must_refuse(planner, bowl, "there are fewer generators than rows", rows=B - 1)


def _check_discrete(planner: Planner) -> None:
    best = torch.randint(CHOICES, (B, planner.horizon), generator=torch.Generator().manual_seed(3))
    price = 1 - 0.8 * torch.nn.functional.one_hot(best, CHOICES).float()  # b h a
    cost, seen = _recorded(lambda actions: (actions * price[:, None]).sum(dim=(2, 3)))
    start = cold(B, planner.horizon, CHOICES, discrete=True)
    before = start.clone()
    plan = planner(cost, start, generators(0, B), discrete=True)
    assert torch.equal(start, before), "the planner changed its discrete `start`"
    assert all(_is_one_hot(actions) for actions in seen), "a discrete candidate is not one-hot"
    assert _is_one_hot(plan.actions), "the discrete plan is not one-hot"
    missed = int((plan.actions.argmax(dim=-1) != best).sum())
    assert missed == 0, f"{missed} of {best.numel()} discrete choices are not the cheapest"
    warm = planner(cost, shift(plan.actions, 0, discrete=True), generators(0, B), discrete=True)
    better = bool((warm.history[:, 0] <= plan.history[:, 0] + 1e-6).all())
    assert better, "a discrete start at the best plan is no better after one round than a cold one"


B, A, CHOICES = 3, 2, 4


def _targets(planner: Planner, reach: float = 0.8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return reach * (2 * torch.rand(B, planner.horizon, A, generator=generator) - 1)  # b h a


def _bowl(target: Tensor) -> Cost:
    return lambda actions: (actions - target[:, None]).square().mean(dim=(2, 3))


def _plan(planner: Planner, cost: Cost, start: Tensor | None = None, rows: int = B) -> Plan:
    return planner(cost, cold(B, planner.horizon, A) if start is None else start, generators(0, rows))


def _recorded(cost: Cost) -> tuple[Cost, list[Tensor]]:
    seen: list[Tensor] = []

    def record(actions: Tensor) -> Tensor:
        seen.append(actions.detach().clone())
        return cost(actions)

    return record, seen


def _must_refuse(planner: Planner, cost: Cost, why: str, start: Tensor | None = None, rows: int = B) -> None:
    try:
        _plan(planner, cost, start, rows)
    except UserError:
        return
    raise AssertionError(f"no UserError although {why}")


def _is_one_hot(actions: Tensor) -> bool:
    return bool(((actions == 0) | (actions == 1)).all()) and bool((actions.sum(dim=-1) == 1).all())
