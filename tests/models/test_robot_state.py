"""A robot's state in imagination: poses compose as rotations do, the other rules are what they say."""

from __future__ import annotations

import math

import pytest
import torch

from innerworld.errors import UserError
from innerworld.models.robot_state import check_rule, euler, follow, rotation


def test_a_rotation_turns_about_fixed_axes_x_first() -> None:
    """A quarter about x sends y to z; then one about z leaves it there. The other way round y would go to -x."""
    quarter = math.pi / 2
    found = rotation(torch.tensor([quarter, 0.0, quarter])) @ torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    found = rotation(torch.tensor([0.0, quarter, 0.0])) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, -1.0]), atol=1e-6, rtol=0)


def test_angles_come_back() -> None:
    rng = torch.Generator().manual_seed(0)
    angles = (torch.rand(50, 3, generator=rng, dtype=torch.float64) - 0.5) * torch.tensor([6.2, 3.1, 6.2])
    torch.testing.assert_close(euler(rotation(angles)), angles, atol=1e-9, rtol=0)
    identity = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(rotation(angles) @ rotation(angles).mT, identity, atol=1e-12, rtol=0)


def test_a_pose_goes_where_the_difference_of_two_poses_says() -> None:
    """DROID's action is xyz' - xyz, Euler(R' Rᵀ), gripper' - gripper: following it must lead to the second pose."""
    rng = torch.Generator().manual_seed(1)
    here, there = (torch.rand(20, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    turned = euler(rotation(there[:, 3:6]) @ rotation(here[:, 3:6]).mT)
    action = torch.cat([there[:, :3] - here[:, :3], turned, there[:, 6:] - here[:, 6:]], dim=1)
    torch.testing.assert_close(follow("pose", here, action), there, atol=1e-9, rtol=0)


def test_a_gripper_closes_no_further_than_shut() -> None:
    here, action = torch.zeros(1, 7), torch.zeros(1, 7)
    here[0, 6], action[0, 6] = 0.8, 0.7
    assert follow("pose", here, action)[0, 6] == 1
    assert follow("pose", here, -2 * action)[0, 6] == 0


def test_a_gripper_may_be_told_where_to_be() -> None:
    here, action = torch.rand(1, 7), torch.rand(1, 7)
    found, other = follow("pose_grip", here, action), follow("pose", here, action)
    assert torch.equal(found[:, :6], other[:, :6]) and found[0, 6] == action[0, 6]


def test_the_other_rules() -> None:
    here, action = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -0.5]])
    assert follow("add", here, action).tolist() == [[1.5, 1.5]]
    assert follow("target", here, action) is action
    assert follow("hold", here, action) is here


@pytest.mark.parametrize(
    ("rule", "state", "action", "sentence"),
    [
        ("pose", 7, 6, "7 numbers .*here are 7 and 6"),
        ("pose_grip", 6, 6, "pose_grip wants"),
        ("pose", 26, 26, "pose wants"),
        ("add", 3, 2, "here are 3 and 2"),
    ],
)
def test_a_robot_that_cannot_follow_a_rule_is_told(rule, state: int, action: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_rule(rule, state, action)


def test_without_a_state_every_rule_will_do() -> None:
    check_rule("pose", 0, 2)
    check_rule("hold", 5, 2)
    check_rule("target", 26, 26)
