"""Each intrinsic term: what a step costs, in its unit, and how the steps are summed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields

import pytest
import torch
from torch import Tensor

from innerworld.agent.cost.readout import Decoded
from innerworld.agent.cost.regions import Box, Disc
from innerworld.agent.cost.strangeness import Disagreement, Surprise
from innerworld.agent.cost.terms import Effort, End, Forbidden, GoalEnergy, Jerk, JointLimits, Reward, Term, weights
from innerworld.agent.foresight.futures import OneFuture
from innerworld.agent.modules import Imagined
from innerworld.envs.two_rooms import Dynamics
from innerworld.errors import UserError
from innerworld.models import Oracle
from innerworld.models.oracle import OracleConfig
from innerworld.models.rssm import RSSM
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

ORACLE = Oracle(OracleConfig(), Spec({"state": (2,), "layout": (4,)}, 2), Dynamics(size=64, speed=4.0))
AT = Decoded("state", ("x", "y"))
HERE = Disc(AT, (18, 50), 3)
TERMS = [
    GoalEnergy(), Effort(), Jerk(), Forbidden(HERE), JointLimits(AT, (("x", 0, 9),)), Reward(), End(), Disagreement(),
    Surprise.of(torch.randn(9, 6, generator=torch.Generator().manual_seed(0))),
]  # fmt: skip


def future(actions: Tensor, at: tuple[float, float] = (10, 50), goal: tuple[float, float] | None = None) -> Imagined:
    layout = torch.tensor([[32.0, 20.0, 14.0, 2.5]])

    def believe(point: tuple[float, float]) -> dict[str, Tensor]:
        return ORACLE.encode({"state": torch.tensor([point]), "layout": layout})

    return OneFuture(ORACLE)(believe(at), actions, None if goal is None else believe(goal))[0]


def right(steps: int) -> Tensor:
    """One candidate that goes right by 4 pixels a step: `1 1 h 2`."""
    return torch.tensor([1.0, 0.0]).expand(1, 1, steps, 2)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_term_cannot_be_changed_and_has_name_and_unit(term: Term) -> None:
    assert term.name and term.unit
    for attribute in fields(term):
        with pytest.raises(FrozenInstanceError):
            setattr(term, attribute.name, 0.0)
    with pytest.raises((FrozenInstanceError, TypeError)):
        del term.weight  # pyright: ignore
    assert len({each.name for each in TERMS}) == len(TERMS)


def test_goal_energy_is_the_models_to_a_power() -> None:
    """Goal 16 to the right, 4 pixels a step: squared distances 144, 64, 16, 0."""
    imagined = future(right(4), goal=(26, 50))
    torch.testing.assert_close(GoalEnergy(1.0)(imagined), torch.tensor([[[144.0, 64, 16, 0]]]))
    torch.testing.assert_close(GoalEnergy(0.5, every=2)(imagined), torch.tensor([[[8.0, 0]]]))
    assert GoalEnergy(0.5, 2).total(imagined).item() == pytest.approx(4)
    with pytest.raises(UserError, match="no goal to be far from"):
        GoalEnergy()(future(right(4)))
    # Of a plan that is shorter than that its end counts.
    assert torch.equal(GoalEnergy(0.5, every=5)(imagined), GoalEnergy(0.5, every=4)(imagined))


def test_effort_and_jerk() -> None:
    actions = torch.tensor([[1.0, 1], [1, 1], [-1, -1], [0, 0]])[None, None]
    assert Effort()(future(actions)).tolist() == [[[1, 1, 1, 0]]]
    assert Jerk()(future(actions)).tolist() == [[[0, 0, 4, 1]]]


def test_forbidden_is_one_at_the_border_more_inside_and_fades_outside() -> None:
    """Steps at 14, 18, 22, 26: distances to the border 1, −3, 1, 5."""
    imagined = future(right(4))
    assert Forbidden(HERE)(imagined).tolist() == [[[0, 4, 0, 0]]]
    assert Forbidden(HERE, margin=2)(imagined).tolist() == [[[0.5, 4, 0.5, 0]]]
    box = Box(AT, (13, 40), (19, 60))
    assert Forbidden(box)(imagined).tolist() == [[[2, 2, 0, 0]]]
    assert Forbidden(lambda future: future.states["state"][..., 0] > 20)(imagined).tolist() == [[[0, 0, 1, 1]]]


def test_forbidden_has_a_gradient_that_leads_out() -> None:
    actions = right(2).clone().requires_grad_()
    Forbidden(Disc(AT, (18, 51), 3))(future(actions)).sum().backward()
    assert actions.grad is not None and bool((actions.grad[..., 1] > 0).all())  # to the other side, y smaller


def test_joint_limits_are_how_far_beyond() -> None:
    imagined = future(right(4))
    assert JointLimits(AT, (("x", 15.0, 20.0),))(imagined).tolist() == [[[1, 0, 2, 6]]]
    assert JointLimits(AT, (("y", 0, 49), ("x", 15.0, 20.0)))(imagined).tolist() == [[[2, 1, 3, 7]]]
    with pytest.raises(UserError, match="no 'z'"):
        JointLimits(AT, (("z", 0, 1),))
    with pytest.raises(UserError, match="below"):
        JointLimits(AT, (("x", 1, 1),))


def test_reward_and_end_are_what_the_model_says() -> None:
    torch.manual_seed(0)
    spec = Spec({"speed": (3,)}, 2)
    tiny = RSSM.Config(deter=16, hidden=8, stoch=2, classes=4, units=8, layers=1)
    model, clip = RSSM(tiny, spec).eval(), random_clip(spec, 2, 4)
    with torch.no_grad():
        state = model.encode(clip.at(0))
        imagined = OneFuture(model)(state, clip.action[:, None], None)[0]
        for t in (0, 3):
            reward, goes_on = model.prospects({name: value[:, 0, t] for name, value in imagined.states.items()})
            torch.testing.assert_close(Reward()(imagined)[:, 0, t], -reward)
            torch.testing.assert_close(End()(imagined)[:, 0, t], 1 - goes_on / model.discount())
        assert bool((End()(imagined) >= -1e-6).all())
    with pytest.raises(UserError, match="tells no reward"):
        Reward()(future(right(2)))


def test_how_steps_are_summed() -> None:
    steps = torch.tensor([[[8.0, 4, 2, 1]]])
    assert Effort(shape="last").summed(steps).item() == 1
    assert Effort().summed(steps).item() == 3.75
    assert Effort(discount=0.5).summed(steps).item() == pytest.approx((8 + 2 + 0.5 + 0.125) / 1.875)
    assert Effort(shape="last", discount=0.5).summed(steps).item() == 1
    assert Effort(weight=9.0).summed(steps).item() == 3.75  # the weight is the cost's
    ramp = weights("ramp", 4, steps, 0.9)
    assert ramp.sum().item() == pytest.approx(1) and (ramp[1] / ramp[0]).item() == pytest.approx(4 * 0.9)
    with pytest.raises(UserError, match="discount"):
        Effort(discount=0.0)


def test_a_term_of_your_own() -> None:
    @dataclass(frozen=True)
    class Leftness(Term):
        name: str = field(default="left", kw_only=True)
        unit: str = field(default="pixels", kw_only=True)

        def __call__(self, future: Imagined) -> Tensor:
            return -future.states["state"][..., 0]

    assert Leftness(weight=2).total(future(right(2))).item() == -16
